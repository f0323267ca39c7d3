//! Leaving in order: before this node stops, its workers go to other nodes, one session made before the other is broken.
//!
//! ```text
//! leaving ─▶ every control node ─▶ the leader takes this node out of the ring
//!         ─▶ proxies tell their workers the new owners ─▶ workers attach there ─▶ what is in flight here finishes
//! ```
//!
//! Bounded: a node that nobody can stand in for, or whose cluster has no quorum, does not wait. Never stops anything itself.

use crate::leader::Presence;
use crate::peers::Peers;
use crate::proxy::Proxies;
use crate::raft::Group;
use longshore_state::State;
use longshore_transport::Session;
use longshore_wire::peer::PeerRequest;
use longshore_wire::relay::RELAY_VERSION;
use longshore_wire::task::NodeState;
use longshore_wire::{ClusterUri, NodeId};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Longest time for a node's workers to go.
const LIMIT: Duration = Duration::from_secs(5);
/// Time for another node to hear that this one leaves.
const WORD: Duration = Duration::from_secs(1);
/// How often the progress is looked at.
const LOOK: Duration = Duration::from_millis(25);
/// Requests that others have sent here before they saw the ring change arrive within this.
const STRAGGLERS: Duration = Duration::from_millis(250);

/// What leaving needs.
#[derive(Debug, Clone)]
pub(crate) struct Drain {
    pub(crate) me: NodeId,
    pub(crate) group: Group,
    pub(crate) peers: Peers,
    pub(crate) proxies: Proxies,
    pub(crate) presence: Arc<Presence>,
}

impl Drain {
    /// Sees this node's workers off, within `deadline` and within [`LIMIT`].
    pub(crate) async fn run(&self, deadline: Duration) {
        let until = Instant::now() + deadline.min(LIMIT);
        let seated = self.proxies.sessions();
        if seated.is_empty() || !self.is_replaceable() {
            return;
        }
        tracing::info!(workers = seated.len(), "leaving: this node's workers go to other control nodes");
        self.say(until).await;
        let gone = timeout_at(until, self.until_gone(&seated)).await;
        let left = self.behind(&seated).len();
        match gone {
            Ok(()) => tracing::info!("left: every worker is driven by another control node"),
            Err(_) => tracing::warn!(left, "not every worker was driven by another control node in time"),
        }
    }

    /// Whether another node could drive the workers.
    fn is_replaceable(&self) -> bool {
        let now = Instant::now();
        self.peers.connected().into_iter().any(|node| !self.presence.is_leaving(node, now))
    }

    async fn say(&self, until: Instant) {
        self.presence.leave(self.me, Instant::now());
        let mut words = JoinSet::new();
        for node in self.peers.connected() {
            let Some(session) = self.peers.session(node) else { continue };
            if session.peer().version >= RELAY_VERSION {
                let peers = self.peers.clone();
                words.spawn(async move { peers.request(node, &PeerRequest::Leaving, WORD).await });
            }
        }
        let said = async { while words.join_next().await.is_some() {} };
        let _ = timeout_at(until, said).await;
    }

    async fn until_gone(&self, seated: &[(NodeId, Session)]) {
        while self.is_replaceable() && !self.behind(seated).is_empty() {
            let _ = timeout(LOOK, self.group.changed().changed()).await;
        }
        sleep(STRAGGLERS).await;
        while seated.iter().any(|(_, session)| session.calls() > 0) {
            sleep(LOOK).await;
        }
    }

    /// The workers that no other node drives yet.
    fn behind(&self, seated: &[(NodeId, Session)]) -> Vec<NodeId> {
        let state = self.group.state();
        let workers = seated.iter().map(|(worker, _)| *worker);
        workers.filter(|worker| !is_driven_elsewhere(&state, self.me, *worker)).collect()
    }
}

/// Whether a worker's new owner has spoken of it, or there is nothing to wait for.
fn is_driven_elsewhere(state: &State, me: NodeId, worker: NodeId) -> bool {
    let Some(node) = state.node(worker) else { return true };
    match state.owner_of(worker) {
        Some((owner, epoch)) => {
            let gone = matches!(node.state, NodeState::NotConnected | NodeState::Stopped);
            owner != me && (gone || node.told == epoch)
        }
        None => true,
    }
}

/// Where a node is sent whose session this one ends: first to the worker's owner, then to the other control nodes that are
/// alive, in an order that spreads those that are sent away together.
pub(crate) fn directions(state: &State, me: NodeId, from: NodeId) -> Vec<ClusterUri> {
    let owner = state.owner_of(from).map(|(owner, _)| owner);
    let mut others: Vec<_> = state.controls().filter(|node| node.id != me && node.alive).collect();
    if !others.is_empty() {
        let turn = usize::from(from.partition().0) % others.len();
        others.rotate_left(turn);
    }
    others.sort_by_key(|node| Some(node.id) != owner);
    others.into_iter().flat_map(|node| node.addresses.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_state::{Command, ControlNode, Proposal};
    use longshore_wire::{ClusterId, RequestId};

    fn apply(state: &mut State, command: Command) {
        let index = state.applied() + 1;
        let proposal = Proposal { request_id: RequestId::from_u128(u128::from(index)), now_ms: 0, command };
        state.apply(index, &[proposal])[0].as_ref().unwrap();
    }

    fn cluster() -> State {
        let mut state = State::default();
        let name = "test".to_owned();
        apply(&mut state, Command::InitCluster { cluster_id: ClusterId::default(), name, verifiers: vec![] });
        for number in 1..=3_u64 {
            let node = NodeId::from(number);
            let address = format!("longshore://c{number}.example").parse().unwrap();
            let (name, boot) = (format!("c{number}"), RequestId::from_u128(number.into()));
            let node = ControlNode { node, name, boot, addresses: vec![address], release: String::new() };
            apply(&mut state, Command::RegisterControl(node));
        }
        state
    }

    #[test]
    fn directions_lead_to_the_living_and_spread() {
        let mut state = cluster();
        let (me, dead) = (NodeId::from(1), NodeId::from(2));
        let firsts: std::collections::BTreeSet<String> =
            (10..60_u64).map(|worker| directions(&state, me, NodeId::from(worker))[0].to_string()).collect();
        assert_eq!(firsts.len(), 2, "{firsts:?}");
        apply(&mut state, Command::SetAlive { node: dead, alive: false });
        for worker in 10..60_u64 {
            let hosts = directions(&state, me, NodeId::from(worker)).into_iter().map(|uri| uri.host);
            assert_eq!(hosts.collect::<Vec<_>>(), ["c3.example"]);
        }
    }

    #[test]
    fn the_owner_comes_first() {
        let mut state = cluster();
        apply(&mut state, Command::SetRing { owners: vec![NodeId::from(3)] });
        for worker in 10..60_u64 {
            assert_eq!(directions(&state, NodeId::from(1), NodeId::from(worker))[0].host, "c3.example");
        }
    }
}
