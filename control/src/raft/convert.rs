//! Between openraft's types and ours.

use super::types::{Batch, LogId, Membership, RaftEntry, SnapshotMeta, StoredMembership, Vote};
use crate::log::{Ballot, Entry, Members, Payload, Position};
use crate::machine::Meta;
use openraft::EntryPayload;
use openraft::impls::leader_id_adv::LeaderId;

pub(super) fn position(id: &LogId) -> Position {
    let leader = id.committed_leader_id();
    Position { term: leader.term, leader: leader.node_id, index: id.index }
}

pub(super) fn log_id(position: Position) -> LogId {
    LogId::new(LeaderId { term: position.term, node_id: position.leader }, position.index)
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
    Membership::new_with_defaults(members.voters.clone(), members.nodes.iter().copied())
}

pub(super) fn entry(entry: RaftEntry) -> Entry {
    let payload = match entry.payload {
        EntryPayload::Blank => Payload::Blank,
        EntryPayload::Normal(batch) => Payload::Proposals(batch.0),
        EntryPayload::Membership(changed) => Payload::Members(members(&changed)),
    };
    Entry { position: position(&entry.log_id), payload }
}

pub(super) fn raft_entry(entry: Entry) -> RaftEntry {
    let payload = match entry.payload {
        Payload::Blank => EntryPayload::Blank,
        Payload::Proposals(bytes) => EntryPayload::Normal(Batch(bytes)),
        Payload::Members(members) => EntryPayload::Membership(membership(&members)),
    };
    RaftEntry { log_id: log_id(entry.position), payload }
}

pub(super) fn stored_membership(meta: &Meta) -> StoredMembership {
    StoredMembership::new(meta.members_at.map(log_id), membership(&meta.members))
}

pub(super) fn snapshot_meta(meta: &Meta) -> SnapshotMeta {
    SnapshotMeta { last_log_id: meta.applied.map(log_id), last_membership: stored_membership(meta) }
}

pub(super) fn meta(meta: &SnapshotMeta) -> Meta {
    Meta {
        applied: meta.last_log_id.as_ref().map(position),
        members: members(meta.last_membership.membership()),
        members_at: meta.last_membership.log_id().as_ref().map(position),
    }
}
