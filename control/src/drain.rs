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
use longshore_wire::NodeId;
use longshore_wire::peer::PeerRequest;
use longshore_wire::relay::RELAY_VERSION;
use longshore_wire::task::NodeState;
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
