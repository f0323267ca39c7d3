//! What stands in the log. These types are ours, so that neither disk nor wire changes with the Raft library.

use bytes::Bytes;
use longshore_wire::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Where an entry stands, and under which leader it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Term of the leader.
    pub(crate) term: u64,
    /// The leader.
    pub(crate) leader: NodeId,
    /// Number of the entry, from 0.
    pub(crate) index: u64,
}

/// A node's vote (Raft §5.2), or the leader that it follows once that has won.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ballot {
    /// The term voted in.
    pub(crate) term: u64,
    /// For whom.
    pub(crate) node: NodeId,
    /// Whether a majority has voted so.
    pub(crate) committed: bool,
}

/// Who belongs to the group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Members {
    /// The voters; two sets while the group changes from one to the other (Raft §6).
    pub(crate) voters: Vec<BTreeSet<NodeId>>,
    /// All members, learners included.
    pub(crate) nodes: BTreeSet<NodeId>,
}

/// What an entry does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Payload {
    /// Nothing; a new leader's first entry.
    Blank,
    /// Encoded proposals for the state machine.
    Proposals(#[serde(with = "shared_bytes")] Bytes),
    /// A change of membership.
    Members(Members),
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Where it stands.
    pub(crate) position: Position,
    /// What it does.
    pub(crate) payload: Payload,
}

impl Entry {
    /// About how many bytes it takes in memory and on the wire.
    pub(crate) fn size(&self) -> usize {
        const ENVELOPE: usize = 128;
        ENVELOPE
            + match &self.payload {
                Payload::Blank => 0,
                Payload::Proposals(bytes) => bytes.len(),
                Payload::Members(members) => 64 * members.nodes.len(),
            }
    }
}

/// [`Bytes`] as a MessagePack byte string.
mod shared_bytes {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        serde_bytes::ByteBuf::deserialize(deserializer).map(|buffer| Bytes::from(buffer.into_vec()))
    }
}
