//! How the group stands, without openraft's types.

use super::convert;
use super::types::{LogId, Metrics, Standing};
use crate::log::Log;
use longshore_wire::NodeId;
use openraft::{Instant as _, ServerState};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Who leads, as far as this node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Leadership {
    /// The leader; `None` while there is none, or the one that there is has lost its majority.
    pub(crate) leader: Option<NodeId>,
    /// The term.
    pub(crate) term: u64,
    /// Whether this node is the leader.
    pub(crate) is_leader: bool,
}

/// How the group stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupStatus {
    /// This node.
    pub(crate) node: NodeId,
    /// The leader, if one is known.
    pub(crate) leader: Option<NodeId>,
    /// Whether this node is the leader.
    pub(crate) is_leader: bool,
    /// The term.
    pub(crate) term: u64,
    /// Last index of the log.
    pub(crate) last: Option<u64>,
    /// Last index known to be committed.
    pub(crate) committed: Option<u64>,
    /// Last index applied.
    pub(crate) applied: Option<u64>,
    /// Last index within the newest snapshot.
    pub(crate) snapshot: Option<u64>,
    /// Last index that has been purged.
    pub(crate) purged: Option<u64>,
    /// Members with a vote; of both sets while the group changes from one to the other.
    pub(crate) voters: BTreeSet<NodeId>,
    /// Those who shall vote, while the group is between two sets and each decision needs a majority of both.
    pub(crate) unfinished: Option<BTreeSet<NodeId>>,
    /// Members without.
    pub(crate) learners: BTreeSet<NodeId>,
    /// On a leader: milliseconds since a majority last answered. `None` elsewhere, or before the first answer.
    pub(crate) millis_since_quorum_ack: Option<u64>,
    /// On a leader: how many entries each other member lacks; `None` when it has not answered yet.
    pub(crate) lag: BTreeMap<NodeId, Option<u64>>,
}

fn index(id: Option<&LogId>) -> Option<u64> {
    id.map(|id| id.index)
}

pub(super) fn status(metrics: &Metrics, log: &Log, applied: Option<u64>) -> GroupStatus {
    let membership = metrics.membership_config.membership();
    let last = metrics.last_log_index;
    let behind = |matched: &Option<LogId>| matched.map(|id| last.unwrap_or(0).saturating_sub(id.index));
    let replication = metrics.replication.iter().flatten().filter(|(node, _)| **node != metrics.id);
    let acked = metrics.last_quorum_acked.as_ref().map(|acked| acked.elapsed().as_millis());
    GroupStatus {
        node: metrics.id,
        leader: metrics.current_leader,
        is_leader: metrics.state == ServerState::Leader,
        term: metrics.current_term,
        last,
        committed: log.committed().map(|position| position.index),
        applied,
        snapshot: index(metrics.snapshot.as_ref()),
        purged: index(metrics.purged.as_ref()),
        voters: membership.voter_ids().collect(),
        unfinished: match membership.get_joint_config().as_slice() {
            [_, .., wanted] => Some(wanted.iter().copied().collect()),
            _ => None,
        },
        learners: membership.learner_ids().collect(),
        millis_since_quorum_ack: acked.map(|millis| u64::try_from(millis).unwrap_or(u64::MAX)),
        lag: replication.map(|(node, matched)| (*node, behind(matched))).collect(),
    }
}

/// Who leads. `acked`: how long ago a majority last answered. A leader that has not heard from one for `patience` counts as none (unless it is its own majority),
/// and so does one that a follower has not heard for so long (`silence`): whatever it were given would wait without end.
pub(super) fn leadership(
    standing: &Standing,
    acked: Option<Duration>,
    silence: Duration,
    patience: Duration,
) -> Leadership {
    let leads = standing.state == ServerState::Leader;
    let heard = match leads {
        true if standing.membership_config.voter_ids().all(|voter| voter == standing.id) => true,
        true => acked.is_none_or(|acked| acked < patience),
        false => silence < patience,
    };
    let leader = standing.current_leader.filter(|_| heard);
    Leadership { leader, term: convert::ballot(&standing.vote).term, is_leader: leads && heard }
}

/// Everybody in the group, and whether this node is among them.
pub(super) fn members(standing: &Standing) -> BTreeSet<NodeId> {
    convert::members(standing.membership_config.membership()).nodes
}
