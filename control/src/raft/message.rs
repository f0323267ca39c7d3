//! Raft's messages as they travel: a format byte, then MessagePack.

use crate::log::{Ballot, Entry, Position};
use crate::machine::Meta;
use longshore_wire::{Code, Failure, NodeId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Format of these messages. A release that cannot speak a peer's format says so instead of guessing.
const FORMAT: u8 = 1;

/// Append entries (Raft §5.3); without entries a heartbeat.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Append {
    pub(super) leader: Ballot,
    pub(super) previous: Option<Position>,
    pub(super) entries: Vec<Entry>,
    pub(super) committed: Option<Position>,
}

/// The answer to [`Append`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Appended {
    /// All entries are stored.
    All,
    /// Stored up to this one.
    UpTo(Option<Position>),
    /// `previous` is not there.
    Conflict,
    /// The receiver has seen a higher vote.
    Outvoted(Ballot),
}

/// Request vote (Raft §5.2), or the question whether it would be granted (Raft's thesis §9.6).
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct VoteAsked {
    pub(super) candidate: Ballot,
    pub(super) last: Option<Position>,
    /// The leader itself has asked the candidate to succeed it: its lease does not stand in the way.
    #[serde(default)]
    pub(super) succession: bool,
}

/// The answer to [`VoteAsked`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Voted {
    pub(super) ballot: Ballot,
    pub(super) granted: bool,
    pub(super) last: Option<Position>,
}

/// The leader hands over (Raft's thesis §3.10): the successor stands for election at once, the others let it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Succeed {
    pub(super) leader: Ballot,
    pub(super) successor: NodeId,
    /// What the successor must hold.
    pub(super) last: Option<Position>,
}

/// The answer to [`Succeed`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Succeeded {
    Yes,
    /// The receiver follows another vote.
    Outvoted(Ballot),
    /// The receiver lacks entries; its last one.
    Behind(Option<Position>),
}

/// What stands in front of a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SnapshotHead {
    pub(super) leader: Ballot,
    pub(super) meta: Meta,
}

/// The answer to a snapshot: the receiver's vote, or why it could not be installed.
pub(super) type Installed = Result<Ballot, Failure>;

/// Room for a message to begin with: an append with a few entries fits.
const ROOM: usize = 4096;

pub(super) fn pack<T: Serialize>(message: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ROOM);
    bytes.push(FORMAT);
    longshore_wire::encode_behind(&mut bytes, message);
    bytes
}

pub(super) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    match bytes {
        [FORMAT, body @ ..] => {
            longshore_wire::decode(body).map_err(|error| Failure::new(Code::Unsupported, error.to_string()))
        }
        _ => Err(Failure::new(
            Code::Unsupported,
            format!("a Raft message of another format than {FORMAT}; run the same release on all control nodes"),
        )),
    }
}
