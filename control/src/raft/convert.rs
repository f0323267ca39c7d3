//! Between openraft's types and ours.

use super::types::{Batch, LogId, Membership, StoredMembership, Types, Vote};
use crate::log::{Ballot, Entry, Members, Payload, Position};
use crate::machine::Meta;
use longshore_wire::NodeId;
use openraft::{CommittedLeaderId, EmptyNode, EntryPayload, SnapshotMeta};
use std::collections::BTreeMap;

pub(super) fn position(id: &LogId) -> Position {
    let leader = id.committed_leader_id();
    Position { term: leader.term, leader: leader.node_id, index: id.index }
}

pub(super) fn log_id(position: Position) -> LogId {
    LogId::new(CommittedLeaderId::new(position.term, position.leader), position.index)
}

pub(super) fn ballot(vote: &Vote) -> Ballot {
    let leader = vote.leader_id();
    Ballot { term: leader.term, node: leader.node_id, committed: vote.is_committed() }
}

pub(super) fn vote(ballot: Ballot) -> Vote {
    match ballot.committed {
        true => Vote::new_committed(ballot.term, ballot.node),
        false => Vote::new(ballot.term, ballot.node),
    }
}

pub(super) fn members(membership: &Membership) -> Members {
    Members {
        voters: membership.get_joint_config().clone(),
        nodes: membership.nodes().map(|(node, _)| *node).collect(),
    }
}

pub(super) fn membership(members: &Members) -> Membership {
    let nodes: BTreeMap<NodeId, EmptyNode> = members.nodes.iter().map(|node| (*node, EmptyNode {})).collect();
    Membership::new(members.voters.clone(), nodes)
}

pub(super) fn entry(entry: openraft::Entry<Types>) -> Entry {
    let payload = match entry.payload {
        EntryPayload::Blank => Payload::Blank,
        EntryPayload::Normal(batch) => Payload::Proposals(batch.0),
        EntryPayload::Membership(changed) => Payload::Members(members(&changed)),
    };
    Entry { position: position(&entry.log_id), payload }
}

pub(super) fn raft_entry(entry: Entry) -> openraft::Entry<Types> {
    let payload = match entry.payload {
        Payload::Blank => EntryPayload::Blank,
        Payload::Proposals(bytes) => EntryPayload::Normal(Batch(bytes)),
        Payload::Members(members) => EntryPayload::Membership(membership(&members)),
    };
    openraft::Entry { log_id: log_id(entry.position), payload }
}

pub(super) fn stored_membership(meta: &Meta) -> StoredMembership {
    StoredMembership::new(meta.members_at.map(log_id), membership(&meta.members))
}

pub(super) fn snapshot_meta(meta: &Meta) -> SnapshotMeta<NodeId, EmptyNode> {
    let (index, term) = meta.applied.map_or((0, 0), |position| (position.index, position.term));
    SnapshotMeta {
        last_log_id: meta.applied.map(log_id),
        last_membership: stored_membership(meta),
        snapshot_id: format!("{index}-{term}"),
    }
}

pub(super) fn meta(meta: &SnapshotMeta<NodeId, EmptyNode>) -> Meta {
    Meta {
        applied: meta.last_log_id.as_ref().map(position),
        members: members(meta.last_membership.membership()),
        members_at: meta.last_membership.log_id().as_ref().map(position),
    }
}
