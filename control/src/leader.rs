//! What only the leader does: it keeps the control group, the ring and the assignments as they should be.
//!
//! ```text
//! presence (every node) ── who is connected, since when ─┐
//! members    state + group ──▶ add learner, promote, replace, remove
//! liveness   state + presence ▶ SetAlive, SetRing
//! placement  state ──────────▶ Assign
//! leases     state + clock ──▶ RevokeLease
//! ```
//!
//! Every loop compares state with actuality, again and again, and never relies on having seen an event. What to do is
//! decided by pure functions. After an election each loop first waits until this node has applied everything that was
//! committed before it: decisions of a leader that is behind would undo those of its predecessor.

mod leases;
mod liveness;
mod members;
mod placement;
mod presence;

pub(crate) use presence::Presence;

use crate::loops::Loops;
use crate::options::Timers;
use crate::peers::Peers;
use crate::raft::Group;
use longshore_wire::NodeId;
use presence::Standing;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often the leader compares. A failure is noticed so much later at the most.
const EVERY: Duration = Duration::from_millis(250);

/// What the leader's loops share.
#[derive(Debug, Clone)]
pub(crate) struct Leading {
    pub(crate) me: NodeId,
    pub(crate) group: Group,
    pub(crate) peers: Peers,
    pub(crate) timers: Arc<Timers>,
    pub(crate) presence: Arc<Presence>,
}

/// Starts all of them.
pub(crate) fn spawn(loops: &Loops, leading: &Leading) {
    let stop = loops.stop_token();
    loops.spawn("presence loop", presence::run(leading.clone(), stop.clone()));
    loops.spawn("membership loop", members::run(Lead::new(leading), stop.clone()));
    loops.spawn("liveness loop", liveness::run(Lead::new(leading), stop.clone()));
    loops.spawn("placement loop", placement::run(Lead::new(leading), stop.clone()));
    loops.spawn("lease loop", leases::run(Lead::new(leading), stop.clone()));
}

impl Leading {
    /// How a control node stands now; this one is always here.
    fn standing(&self, node: NodeId) -> Standing {
        if node == self.me { Standing::Here(Duration::MAX) } else { self.presence.standing(node, Instant::now()) }
    }
}

/// One loop's grip on leadership.
#[derive(Debug)]
struct Lead {
    leading: Leading,
    /// The term in which this loop has proved its state to be up to date.
    proved: Option<u64>,
}

impl Lead {
    fn new(leading: &Leading) -> Self {
        Self { leading: leading.clone(), proved: None }
    }

    /// Waits for the next look, or for a change of leadership. False = the node stops.
    async fn next(&self, stop: &CancellationToken) -> bool {
        tokio::select! {
            biased;
            () = stop.cancelled() => false,
            () = tokio::time::sleep(EVERY) => true,
        }
    }

    /// Looks again and again, while this node leads, until the node stops.
    async fn look_on(mut self, stop: CancellationToken, step: impl AsyncFn(&Leading)) {
        while self.next(&stop).await {
            let look = async {
                if self.leads().await {
                    step(&self.leading).await;
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = look => (),
            }
        }
    }

    /// Whether this node leads and its state is not behind.
    async fn leads(&mut self) -> bool {
        let now = *self.leading.group.leadership().borrow();
        if !now.is_leader {
            self.proved = None;
            return false;
        }
        if self.proved == Some(now.term) {
            return true;
        }
        match self.leading.group.read_index().await {
            Ok(()) => self.proved = Some(now.term),
            Err(failure) => tracing::debug!(%failure, "not yet ready to lead"),
        }
        self.proved == Some(now.term)
    }
}
