//! The conversation among control nodes.
//!
//! Raft messages and proposals travel as opaque bytes: their types belong to the crates that understand them.

use crate::edge::{ClassRequest, LogRequest};
use crate::relay::{OutcomeOf, Relay};
use crate::{ClusterUri, Digest, NodeId, RequestId};
use serde::{Deserialize, Serialize};

/// The first protocol version that knows [`RaftRpc::PreVote`] and [`RaftRpc::Succeed`].
pub const SUCCESSION_VERSION: u16 = 2;

/// The first protocol version that knows [`PeerRequest::Confirm`].
pub const CONFIRM_VERSION: u16 = 2;

/// The first protocol version that knows [`PeerRequest::Superseded`].
pub const SUPERSEDED_VERSION: u16 = 2;

/// The first protocol version that knows [`OpenPeer::SnapshotChunks`].
pub const CHUNKS_VERSION: u16 = 2;

/// A request to another control node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerRequest {
    /// A Raft message. Reply: bytes.
    Raft {
        /// Which message.
        rpc: RaftRpc,
        /// Its encoding.
        #[serde(with = "serde_bytes")]
        body: Vec<u8>,
    },
    /// A proposal for the leader. Reply: the encoded outcomes.
    Propose {
        /// The encoded proposals.
        #[serde(with = "serde_bytes")]
        body: Vec<u8>,
    },
    /// Asks the leader for a read index (Raft §6.4). Reply: [`ReadIndex`].
    ReadIndex,
    /// Asks the leader to take a control node in. Reply: nothing (empty body).
    Join(Join),
    /// A request to a worker's job class. Reply: a JSON value.
    Worker {
        /// The worker.
        node: NodeId,
        /// What.
        request: ClassRequest,
    },
    /// Which credentials are in use at this node; from protocol version 2 on. Reply: [`CredentialReport`].
    CredentialUse {
        /// The credential whose nodes shall be named.
        nodes_of: Option<String>,
    },
    /// The asker is about to stop: it shall leave the ring while it still runs; from protocol version 2 on. Reply: nothing
    /// (empty body).
    Leaving,
    /// A request to a worker's job class in bytes; from protocol version 2 on. Reply: bytes.
    Relay(Relay),
    /// Asks what became of a relay; from protocol version 2 on. Reply: [`crate::relay::OutcomeReply`].
    Outcome(OutcomeOf),
    /// How the node's log and disk stand; from protocol version 2 on. Reply: [`Vitals`].
    Vitals,
    /// Asks a voter whether its vote is still the asker's, for a read index (Raft §6.4); from protocol version 2 on. Reply:
    /// [`Confirmed`].
    Confirm(Confirm),
    /// A newer session between the two has taken the place of this one, which the asker will close: nothing new shall be
    /// sent over it; from protocol version 2 on. Reply: nothing (empty body).
    Superseded,
}

/// A leader that asks whether it still leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirm {
    /// The leader.
    pub leader: NodeId,
    /// Its term.
    pub term: u64,
}

impl PeerRequest {
    /// Reads a message when it is one of those that go between control nodes with every write and read:
    /// [`Raft`](Self::Raft), [`Propose`](Self::Propose), [`Confirm`](Self::Confirm). Quick with all others.
    pub fn read_vital(message: &[u8]) -> Option<Self> {
        const STARTS: [&[u8]; 3] = [b"\x81\xa4raft", b"\x81\xa7propose", b"\x81\xa7confirm"];
        let vital = STARTS.iter().any(|start| message.starts_with(start));
        vital.then(|| crate::decode(message).ok())?
    }
}

/// The answer to a [`Confirm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// Whether the voter has promised nothing to anybody else since it voted for this leader in this term, or followed it.
    pub holds: bool,
}

/// How a control node's log and disk stand.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Vitals {
    /// Last index of its log.
    pub last: Option<u64>,
    /// Last index that it has applied.
    pub applied: Option<u64>,
    /// Bytes of its log's entries.
    pub log_bytes: u64,
    /// Last index within its newest snapshot.
    pub snapshot: Option<u64>,
    /// Milliseconds since that was written.
    pub snapshot_age_ms: Option<u64>,
    /// Bytes free below its data folder.
    pub disk_free: Option<u64>,
    /// Bytes of the file system there.
    pub disk_total: Option<u64>,
    /// Whether so little is free that it does not lead.
    #[serde(default)]
    pub disk_short: bool,
}

/// Which credentials are in use at a control node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialReport {
    /// The credential with which the node itself dials other control nodes.
    pub own: String,
    /// Number of the secret that it holds of it; 0 when it holds none that is known.
    pub own_secret: u32,
    /// What others have proven to it.
    pub uses: Vec<CredentialUse>,
}

/// How one secret of a credential is used at a control node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialUse {
    /// The credential.
    pub credential: String,
    /// Number of the secret.
    pub secret: u32,
    /// Live sessions that were proven with it.
    pub sessions: u64,
    /// When it was last in use, in Unix milliseconds; since the node's start.
    pub last_used_ms: u64,
    /// The nodes behind the sessions, where asked for; not all of a very large number.
    pub nodes: Vec<NodeId>,
}

/// Raft's messages that fit into a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RaftRpc {
    /// Append entries.
    Append,
    /// Request a vote.
    Vote,
    /// Ask whether a vote would be given; from protocol version 2 on.
    PreVote,
    /// Hand over the leadership; from protocol version 2 on.
    Succeed,
}

/// A control node presents itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Join {
    /// Who.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Random per process start.
    pub boot: RequestId,
    /// Where others can dial it.
    pub addresses: Vec<ClusterUri>,
    /// Release of its program.
    pub release: String,
}

/// Once a node has applied this much, a local read is linearizable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadIndex {
    /// Log index; `None` before the first entry.
    pub index: Option<u64>,
}

/// Opens a stream to another control node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenPeer {
    /// A Raft snapshot: its bytes follow; the answer is encoded bytes.
    Snapshot {
        /// Encoded vote and metadata.
        #[serde(with = "serde_bytes")]
        head: Vec<u8>,
        /// Bytes.
        size: u64,
    },
    /// A Raft snapshot in checked chunks that goes on where an earlier attempt broke off; from protocol version 2 on. The
    /// receiver says first how many bytes it has, 8 bytes in big-endian order; chunks from there on follow, each its length
    /// and CRC-32 in 4 bytes each, then its bytes; the answer is encoded bytes.
    SnapshotChunks {
        /// Encoded vote and metadata.
        #[serde(with = "serde_bytes")]
        head: Vec<u8>,
        /// Bytes.
        size: u64,
        /// Tells two files of the same node, metadata and size apart.
        stamp: u64,
    },
    /// Stores an archive: its bytes follow; the answer is an encoded [`crate::edge::StreamResult`].
    PutBlob {
        /// SHA-256.
        digest: Digest,
        /// Bytes.
        size: u64,
    },
    /// Wants an archive: the answer is its bytes, or a reset.
    GetBlob {
        /// SHA-256.
        digest: Digest,
    },
    /// A worker's connection, from its first byte on.
    Tunnel {
        /// The worker that was proven to the node that opens the tunnel.
        worker: NodeId,
    },
    /// A task's output, from its worker's owner.
    Logs {
        /// The worker.
        node: NodeId,
        /// What.
        request: LogRequest,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_group_lives_by_is_known_by_its_start() {
        let read =
            |request: &PeerRequest| PeerRequest::read_vital(&crate::encode(request)).map(|it| crate::encode(&it));
        let vital = [
            PeerRequest::Raft { rpc: RaftRpc::Append, body: vec![1, 2] },
            PeerRequest::Propose { body: vec![3] },
            PeerRequest::Confirm(Confirm { leader: NodeId::from(7), term: 3 }),
        ];
        for request in vital {
            assert_eq!(read(&request), Some(crate::encode(&request)), "{request:?}");
        }
        for other in [PeerRequest::Vitals, PeerRequest::ReadIndex, PeerRequest::CredentialUse { nodes_of: None }] {
            assert_eq!(read(&other), None, "{other:?}");
        }
        assert!(PeerRequest::read_vital(b"\x81\xa4raft\xc1").is_none(), "damaged");
    }
}
