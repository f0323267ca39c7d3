//! Says which control nodes are alive, and spreads the ring over them.

use super::presence::Standing;
use super::{Lead, Leading};
use crate::raft::GroupStatus;
use longshore_state::{Command, State};
use longshore_wire::NodeId;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A node that lacks more entries than this is still catching up, and drives nobody yet.
const LAG: u64 = 1024;

pub(super) async fn run(lead: Lead, stop: CancellationToken) {
    lead.look_on(stop, step).await;
}

async fn step(leading: &Leading) {
    let Leading { group, timers, .. } = leading;
    let standing = |node| leading.standing(node);
    let leaving = |node| leading.presence.is_leaving(node, Instant::now());
    let commands = plan(&group.state(), &group.status(), (standing, leaving), timers.ring_grace);
    if commands.is_empty() {
        return;
    }
    tracing::info!(?commands, "the control nodes that are alive, or the ring, change");
    match group.propose(commands).await {
        Ok(outcomes) => outcomes.into_iter().filter_map(Result::err).for_each(|failure| {
            tracing::warn!(%failure, "a change of the ring was refused");
        }),
        Err(failure) => tracing::warn!(%failure, "a change of the ring was not committed"),
    }
}

/// What to commit so that the state says who is alive, and that the ring is spread over exactly those.
///
/// A node leaves the ring once it has been away for `grace`. It enters when it has been connected for half of that, so
/// that one that comes and goes moves nobody, and has caught up with the log. One that is leaving is out at once.
fn plan(
    state: &State,
    status: &GroupStatus,
    (standing, leaving): (impl Fn(NodeId) -> Standing, impl Fn(NodeId) -> bool),
    grace: Duration,
) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut owners = Vec::new();
    for node in state.controls() {
        let now = standing(node.id);
        let alive = match now {
            Standing::Here(_) => true,
            Standing::Away(_) => node.alive && !now.away_for(grace),
        };
        if alive != node.alive {
            commands.push(Command::SetAlive { node: node.id, alive });
        }
        let caught_up = node.id == status.node || matches!(status.lag.get(&node.id), Some(Some(lag)) if *lag <= LAG);
        let in_ring = state.ring().owners().contains(&node.id);
        if alive && !leaving(node.id) && (in_ring || (now.here_for(grace / 2) && caught_up)) {
            owners.push(node.id);
        }
    }
    owners.sort_unstable();
    if !owners.is_empty() && owners != state.ring().owners() {
        commands.push(Command::SetRing { owners });
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_state::{ControlNode, Proposal};
    use longshore_wire::{ClusterId, RequestId};
    use std::collections::BTreeMap;

    const GRACE: Duration = Duration::from_secs(2);

    fn id(number: u128) -> NodeId {
        NodeId::from_u128(number)
    }

    fn apply(state: &mut State, commands: Vec<Command>) {
        for command in commands {
            let index = state.applied() + 1;
            let request_id = RequestId::from_u128(u128::from(index));
            state.apply(index, &[Proposal { request_id, now_ms: 0, command }])[0].as_ref().unwrap();
        }
    }

    fn cluster() -> State {
        let mut state = State::default();
        let name = "test".to_owned();
        apply(&mut state, vec![Command::InitCluster { cluster_id: ClusterId::default(), name, verifiers: vec![] }]);
        for number in 1..=3 {
            apply(
                &mut state,
                vec![Command::RegisterControl(ControlNode {
                    node: id(number),
                    name: format!("c{number}"),
                    boot: RequestId::from_u128(number),
                    addresses: vec![],
                    release: String::new(),
                })],
            );
        }
        state
    }

    fn status() -> GroupStatus {
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
            voters: [id(1), id(2), id(3)].into(),
            unfinished: None,
            learners: Default::default(),
            millis_since_quorum_ack: None,
            lag: BTreeMap::from([(id(2), Some(0)), (id(3), Some(0))]),
        }
    }

    const fn stays(_: NodeId) -> bool {
        false
    }

    fn owners(state: &State) -> Vec<NodeId> {
        state.ring().owners().to_vec()
    }

    #[test]
    fn a_node_leaves_after_the_grace_and_comes_back() {
        let mut state = cluster();
        let all_here = |_| Standing::Here(Duration::from_secs(60));
        let commands = plan(&state, &status(), (all_here, stays), GRACE);
        apply(&mut state, commands);
        assert_eq!(owners(&state), [id(1), id(2), id(3)]);
        assert_eq!(plan(&state, &status(), (all_here, stays), GRACE), []);

        let third = |standing| move |node| if node == id(3) { standing } else { Standing::Here(Duration::MAX) };
        let short = third(Standing::Away(Duration::from_millis(1900)));
        assert_eq!(plan(&state, &status(), (short, stays), GRACE), []);
        let commands = plan(&state, &status(), (third(Standing::Away(GRACE)), stays), GRACE);
        apply(&mut state, commands);
        assert_eq!(owners(&state), [id(1), id(2)]);
        assert!(!state.node(id(3)).unwrap().alive);

        let commands = plan(&state, &status(), (third(Standing::Here(Duration::ZERO)), stays), GRACE);
        assert_eq!(commands, [Command::SetAlive { node: id(3), alive: true }]);
        apply(&mut state, commands);
        let commands = plan(&state, &status(), (third(Standing::Here(GRACE)), stays), GRACE);
        apply(&mut state, commands);
        assert_eq!(owners(&state), [id(1), id(2), id(3)]);
    }

    #[test]
    fn who_is_leaving_lives_and_drives_nobody() {
        let mut state = cluster();
        let all_here = |_| Standing::Here(Duration::from_secs(60));
        let commands = plan(&state, &status(), (all_here, stays), GRACE);
        apply(&mut state, commands);
        let commands = plan(&state, &status(), (all_here, |node| node == id(1)), GRACE);
        assert_eq!(commands, [Command::SetRing { owners: vec![id(2), id(3)] }], "also the leader itself");
        apply(&mut state, commands);
        assert_eq!(plan(&state, &status(), (all_here, |node| node == id(1)), GRACE), []);
        assert_eq!(plan(&state, &status(), (all_here, |_| true), GRACE), [], "somebody must drive the workers");
    }

    #[test]
    fn who_has_not_caught_up_drives_nobody() {
        let state = cluster();
        let mut status = status();
        status.lag = BTreeMap::from([(id(2), None), (id(3), Some(LAG + 1))]);
        let commands = plan(&state, &status, (|_| Standing::Here(GRACE), stays), GRACE);
        assert!(commands.contains(&Command::SetRing { owners: vec![id(1)] }), "{commands:?}");
    }
}
