//! Handing over leadership and vote before this node stops, so that nobody has to miss it first (Raft's thesis §3.10).

use super::group::Group;
use longshore_wire::NodeId;
use openraft::async_runtime::WatchReceiver as _;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::timeout;

/// Time for the successor to be elected: a few messages and two syncs, with room for a busy disk.
const LIMIT: Duration = Duration::from_secs(2);

impl Group {
    /// Makes the follower that lacks least of the log the leader, if this node leads. Waits until another node does, at
    /// most [`LIMIT`] and at most `deadline`; without a successor the others elect one when they miss this node.
    pub(crate) async fn hand_over(&self, deadline: Duration) {
        self.hand_over_among(|_| true, deadline).await;
    }

    /// The same, to one of these only.
    pub(super) async fn hand_over_to(&self, candidates: &BTreeSet<NodeId>, deadline: Duration) {
        self.hand_over_among(|node| candidates.contains(node), deadline).await;
    }

    async fn hand_over_among(&self, may: impl Fn(&NodeId) -> bool, deadline: Duration) {
        let Some(successor) = self.successor(may) else { return };
        let me = self.engine().0.node;
        let mut leadership = self.leadership();
        if let Err(fatal) = self.engine().0.raft.trigger().transfer_leader(successor).await {
            tracing::debug!(%fatal, "the leadership is not handed over");
            return;
        }
        let other = leadership.wait_for(|now| now.leader.is_some_and(|leader| leader != me));
        match timeout(deadline.min(LIMIT), other).await {
            Ok(_) => tracing::info!(%successor, "the leadership has been handed over"),
            Err(_) => tracing::warn!(%successor, "the successor did not take over in time; the others will elect one"),
        }
    }

    /// Waits until this node has no vote, at most `limit`; says whether it has none. The newest membership tells, committed
    /// or not: it follows upon one that both the former voters and the others have confirmed.
    pub(crate) async fn until_voteless(&self, limit: Duration) -> bool {
        let me = self.engine().0.node;
        let mut metrics = self.engine().0.raft.metrics();
        let gone = async {
            while metrics.borrow_and_update().membership_config.membership().voter_ids().any(|voter| voter == me) {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        timeout(limit, gone).await.is_ok()
    }

    /// A voter with a live session that lacks least, while this node leads.
    fn successor(&self, may: impl Fn(&NodeId) -> bool) -> Option<NodeId> {
        let status = self.status();
        if !status.is_leader {
            return None;
        }
        let connected = self.engine().0.peers.connected();
        let lag = |node: &NodeId| status.lag.get(node).copied().flatten();
        let able = |node: &NodeId| *node != status.node && connected.contains(node) && may(node);
        let candidates = status.voters.iter().copied().filter(able);
        candidates.filter_map(|node| Some((lag(&node)?, node))).min().map(|(_, node)| node)
    }
}
