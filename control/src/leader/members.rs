//! Keeps the membership of the Raft group: takes registered control nodes in, gives and takes votes, removes the removed and
//! those that are away for long.
//!
//! One change at a time; what comes next is seen at the next look.

use super::presence::Standing;
use super::{Lead, Leading};
use crate::raft::{Group, GroupStatus};
use longshore_state::State;
use longshore_wire::{Failure, NodeId};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A learner that lacks more entries than this would hold up commits as a voter.
const LAG: u64 = 1024;

/// One change of the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    AddLearner(NodeId),
    SetVoters(BTreeSet<NodeId>),
    Remove(NodeId),
}

pub(super) async fn run(lead: Lead, stop: CancellationToken) {
    lead.look_on(stop, step).await;
}

async fn step(leading: &Leading) {
    let Leading { group, timers, .. } = leading;
    let standing = |node| leading.standing(node);
    let Some(change) = next_change(&group.state(), &group.status(), standing, timers.voter_grace) else { return };
    tracing::info!(?change, "the control group's membership changes");
    if let Err(failure) = make(group, change).await {
        tracing::warn!(%failure, "the control group's membership did not change; to be tried again");
    }
}

async fn make(group: &Group, change: Change) -> Result<(), Failure> {
    match change {
        Change::AddLearner(node) => group.add_learner(node).await,
        Change::SetVoters(voters) => group.set_voters(voters).await,
        Change::Remove(node) => group.remove_member(node).await,
    }
}

/// The change that is most needed, if any. This node itself is never removed and keeps its vote: it leads.
fn next_change(
    state: &State,
    status: &GroupStatus,
    standing: impl Fn(NodeId) -> Standing,
    grace: Duration,
) -> Option<Change> {
    // A change that broke off between its two steps would leave the former voters their say for good.
    if let Some(wanted) = &status.unfinished {
        return Some(Change::SetVoters(wanted.clone()));
    }
    let registered: BTreeSet<NodeId> = state.controls().map(|node| node.id).collect();
    let members: BTreeSet<NodeId> = status.voters.union(&status.learners).copied().collect();
    let here = |node: &NodeId| matches!(standing(*node), Standing::Here(_));
    if let Some(joiner) = registered.difference(&members).find(|node| here(node)) {
        return Some(Change::AddLearner(*joiner));
    }
    if let Some(removed) = status.learners.difference(&registered).next() {
        return Some(Change::Remove(*removed));
    }
    let wanted = state.cluster().map_or(1, |cluster| cluster.voters_wanted as usize);
    let away = |node: &&NodeId| **node != status.node && standing(**node).away_for(grace);
    let voters = wanted_voters(status, wanted, &registered, (here, away));
    // Whoever is away for long takes no part, and is taken in again when it comes back: it keeps its record.
    let absent = || status.learners.iter().find(away).map(|absent| Change::Remove(*absent));
    voters.map(Change::SetVoters).or_else(absent)
}

/// Who should vote, if not those who do.
fn wanted_voters(
    status: &GroupStatus,
    wanted: usize,
    registered: &BTreeSet<NodeId>,
    (here, away): (impl Fn(&NodeId) -> bool, impl Fn(&&NodeId) -> bool),
) -> Option<BTreeSet<NodeId>> {
    let mut voters = status.voters.clone();
    let caught_up = |node: &NodeId| matches!(status.lag.get(node), Some(Some(lag)) if *lag <= LAG);
    let healthy = status.learners.iter().find(|node| here(node) && caught_up(node));
    if let Some(removed) = status.voters.difference(registered).find(|node| **node != status.node) {
        voters.remove(removed);
        if voters.len() < wanted {
            voters.extend(healthy);
        }
        // The removed one stops once it has no vote: those who are left must be able to go on without it.
        if voters.iter().filter(|node| here(node)).count() * 2 > voters.len() {
            return Some(voters);
        }
        voters.clone_from(&status.voters);
    }
    let dead = status.voters.iter().find(away);
    if voters.len() > wanted {
        // Whoever is away first, however short: a vote that the majority stands on must not be taken.
        let others = || status.voters.iter().rev().filter(|node| **node != status.node);
        let spare = dead.or_else(|| others().find(|node| !here(node))).or_else(|| others().next())?;
        voters.remove(spare);
    } else {
        let learner = healthy?;
        match dead {
            _ if voters.len() < wanted => (),
            Some(dead) => drop(voters.remove(dead)),
            None => return None,
        }
        voters.insert(*learner);
    }
    Some(voters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_state::{Command, ControlNode, Proposal};
    use longshore_wire::{ClusterId, RequestId};

    const GRACE: Duration = Duration::from_secs(10);

    fn id(number: u128) -> NodeId {
        NodeId::from_u128(number)
    }

    fn cluster(controls: u128) -> State {
        let register = |number| {
            Command::RegisterControl(ControlNode {
                node: id(number),
                name: format!("c{number}"),
                boot: RequestId::from_u128(number),
                addresses: vec![],
                release: String::new(),
            })
        };
        let init =
            Command::InitCluster { cluster_id: ClusterId::default(), name: "test".to_owned(), verifiers: vec![] };
        let commands = std::iter::once(init).chain((1..=controls).map(register));
        let proposals: Vec<_> = (1..)
            .zip(commands)
            .map(|(number, command)| Proposal { request_id: RequestId::from_u128(number), now_ms: 0, command })
            .collect();
        let mut state = State::default();
        assert!(state.apply(1, &proposals).iter().all(Result::is_ok));
        state
    }

    fn status(voters: &[u128], learners: &[u128]) -> GroupStatus {
        let ids = |numbers: &[u128]| numbers.iter().map(|number| id(*number)).collect::<BTreeSet<_>>();
        GroupStatus {
            node: id(1),
            leader: Some(id(1)),
            is_leader: true,
            term: 1,
            last: None,
            committed: None,
            applied: None,
            snapshot: None,
            purged: None,
            voters: ids(voters),
            unfinished: None,
            learners: ids(learners),
            millis_since_quorum_ack: None,
            lag: (2..9).map(|number| (id(number), Some(0))).collect(),
        }
    }

    fn removal(number: u128) -> Proposal {
        let command = Command::RemoveNode { node: id(number) };
        Proposal { request_id: RequestId::from_u128(1000 + number), now_ms: 0, command }
    }

    fn voters(numbers: &[u128]) -> Option<Change> {
        Some(Change::SetVoters(numbers.iter().map(|number| id(*number)).collect()))
    }

    const fn here(_: NodeId) -> Standing {
        Standing::Here(Duration::ZERO)
    }

    #[test]
    fn joiners_learn_first_and_vote_later() {
        let state = cluster(4);
        assert_eq!(next_change(&state, &status(&[1], &[]), here, GRACE), Some(Change::AddLearner(id(2))));
        assert_eq!(next_change(&state, &status(&[1], &[2, 3, 4]), here, GRACE), voters(&[1, 2]));
        assert_eq!(next_change(&state, &status(&[1, 2, 3], &[4]), here, GRACE), None);
        assert_eq!(next_change(&state, &status(&[1, 2, 3, 4], &[]), here, GRACE), voters(&[1, 2, 3]));
        let mut behind = status(&[1], &[2, 3, 4]);
        behind.lag.clear();
        assert_eq!(next_change(&state, &behind, here, GRACE), None);
    }

    #[test]
    fn a_dead_voter_is_replaced_after_the_grace() {
        let state = cluster(4);
        let third_away = |time| move |node| if node == id(3) { Standing::Away(time) } else { here(node) };
        let group = status(&[1, 2, 3], &[4]);
        assert_eq!(next_change(&state, &group, third_away(GRACE / 2), GRACE), None);
        assert_eq!(next_change(&state, &group, third_away(GRACE), GRACE), voters(&[1, 2, 4]));
        let group = status(&[1, 2, 3], &[]);
        assert_eq!(next_change(&cluster(3), &group, third_away(GRACE), GRACE), None);
    }

    #[test]
    fn no_vote_is_taken_that_the_majority_needs() {
        let away = |gone: &'static [u128]| {
            move |node| match gone.iter().any(|number| id(*number) == node) {
                true => Standing::Away(GRACE / 2),
                false => here(node),
            }
        };
        let five = status(&[1, 2, 3, 4, 5], &[]);
        assert_eq!(next_change(&cluster(5), &five, away(&[2, 3]), GRACE), voters(&[1, 2, 4, 5]));
        let four = status(&[1, 2, 4, 5], &[3]);
        assert_eq!(next_change(&cluster(5), &four, away(&[2]), GRACE), voters(&[1, 4, 5]));
    }

    #[test]
    fn the_removed_go_but_never_the_leader() {
        assert_eq!(next_change(&cluster(0), &status(&[1], &[]), here, GRACE), None);
        assert_eq!(next_change(&cluster(2), &status(&[1, 2], &[3]), here, GRACE), Some(Change::Remove(id(3))));
        assert_eq!(next_change(&cluster(2), &status(&[1, 2, 3], &[]), here, GRACE), voters(&[1, 2]));
        let mut state = cluster(4);
        state.apply(9, &[removal(3)])[0].as_ref().unwrap();
        assert_eq!(next_change(&state, &status(&[1, 2, 3], &[4]), here, GRACE), voters(&[1, 2, 4]), "in one step");
    }

    #[test]
    fn a_voter_that_leaves_keeps_its_vote_while_the_others_are_no_majority() {
        let mut state = cluster(4);
        state.apply(9, &[removal(3)])[0].as_ref().unwrap();
        let second_away = |node| if node == id(2) { Standing::Away(GRACE / 2) } else { here(node) };
        assert_eq!(next_change(&state, &status(&[1, 2, 3], &[]), second_away, GRACE), Some(Change::AddLearner(id(4))));
        assert_eq!(next_change(&cluster(2), &status(&[1, 2, 3], &[]), second_away, GRACE), None);
        assert_eq!(next_change(&state, &status(&[1, 2, 3], &[4]), second_away, GRACE), voters(&[1, 2, 4]));
    }

    #[test]
    fn a_change_that_broke_off_is_finished_first() {
        let mut group = status(&[1, 2, 3], &[4]);
        group.unfinished = Some([1, 2, 3].map(id).into());
        assert_eq!(next_change(&cluster(5), &group, here, GRACE), voters(&[1, 2, 3]));
    }

    #[test]
    fn an_absent_learner_takes_no_part_until_it_is_back() {
        let state = cluster(4);
        let third_away = |time| move |node| if node == id(3) { Standing::Away(time) } else { here(node) };
        let group = status(&[1, 2, 4], &[3]);
        assert_eq!(next_change(&state, &group, third_away(GRACE / 2), GRACE), None);
        assert_eq!(next_change(&state, &group, third_away(GRACE), GRACE), Some(Change::Remove(id(3))));
        assert_eq!(next_change(&state, &status(&[1, 2, 4], &[]), third_away(GRACE), GRACE), None);
        assert_eq!(next_change(&state, &status(&[1, 2, 4], &[]), here, GRACE), Some(Change::AddLearner(id(3))));
    }
}
