//! What openraft is told of our types.

use crate::machine::SnapshotFile;
use bytes::Bytes;
use longshore_state::Outcome;
use longshore_wire::NodeId;
use openraft::EmptyNode;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

openraft::declare_raft_types!(
    pub(crate) Types:
        D = Batch,
        R = Outcomes,
        NodeId = NodeId,
        Node = EmptyNode,
        SnapshotData = SnapshotFile,
);

pub(super) type Raft = openraft::Raft<Types>;
pub(super) type LogId = openraft::LogId<NodeId>;
pub(super) type Vote = openraft::Vote<NodeId>;
pub(super) type Membership = openraft::Membership<NodeId, EmptyNode>;
pub(super) type StoredMembership = openraft::StoredMembership<NodeId, EmptyNode>;
pub(super) type StorageError = openraft::StorageError<NodeId>;

/// The encoded proposals of one log entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch(pub(super) Bytes);

impl Serialize for Batch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_bytes::ByteBuf::deserialize(deserializer).map(|buffer| Self(Bytes::from(buffer.into_vec())))
    }
}

/// The outcomes of one log entry, one for each proposal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcomes(pub(super) Vec<Outcome>);
