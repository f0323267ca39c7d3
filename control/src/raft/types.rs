//! What openraft is told of our types.

use super::machine_store::MachineStore;
use bytes::Bytes;
use longshore_state::Outcome;
use longshore_wire::NodeId;
use openraft::EmptyNode;
use openraft::type_config::alias;
use std::fmt;

openraft::declare_raft_types!(
    pub(crate) Types:
        D = Batch,
        R = Outcomes,
        NodeId = NodeId,
        Node = EmptyNode,
);

pub(super) type Raft = openraft::Raft<Types, MachineStore>;
pub(super) type LogId = alias::LogIdOf<Types>;
pub(super) type Vote = alias::VoteOf<Types>;
pub(super) type RaftEntry = alias::EntryOf<Types>;
pub(super) type Membership = openraft::Membership<NodeId, EmptyNode>;
pub(super) type StoredMembership = alias::StoredMembershipOf<Types>;
pub(super) type SnapshotMeta = alias::SnapshotMetaOf<Types>;
pub(super) type Snapshot = alias::SmSnapshotOf<Types, MachineStore>;
pub(super) type Metrics = openraft::RaftMetrics<Types>;
/// What of the metrics changes seldom.
pub(super) type Standing = openraft::metrics::RaftServerMetrics<Types>;

/// The encoded proposals of one log entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch(pub(super) Bytes);

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of proposals", self.0.len())
    }
}

/// The outcomes of one log entry, one for each proposal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcomes(pub(super) Vec<Outcome>);
