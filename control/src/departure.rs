//! Leaving for good: this node's workers go to others, then the leadership, then the node itself with its vote and its
//! short id.
//!
//! The others must have taken its vote away before it stops: else they would wait for it as for one that has died. Must
//! never leave a group that cannot go on without this node, and never stops anything itself.

use crate::drain::Drain;
use crate::loops::Loops;
use longshore_state::Command;
use longshore_wire::{Code, Failure};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// Time for a departure that the API was asked for, and for the vote to be taken away.
const LIMIT: Duration = Duration::from_secs(15);

/// What leaving needs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Departure {
    drain: Drain,
    loops: Loops,
    /// Whether this node is on its way out, so that nobody registers it again.
    leaving: Arc<watch::Sender<bool>>,
}

impl Departure {
    pub(crate) fn new(drain: Drain, loops: Loops, leaving: watch::Sender<bool>) -> Self {
        Self { drain, loops, leaving: Arc::new(leaving) }
    }

    /// Leaves, and then has the node stop. Goes on when the caller has gone.
    ///
    /// # Errors
    /// As [`Departure::leave`]; then the node runs on.
    pub(crate) async fn leave_and_stop(&self) -> Result<(), Failure> {
        let (told, outcome) = oneshot::channel();
        let departure = self.clone();
        self.loops.spawn_work(async move {
            let left = departure.leave(LIMIT).await;
            let is_gone = left.is_ok();
            let _ = told.send(left);
            if is_gone {
                departure.loops.leave();
            }
        });
        outcome.await.unwrap_or_else(|_| Err(Failure::unknown(Code::Unavailable, "this control node is stopping")))
    }

    /// Takes this node out of the cluster, within about `deadline`.
    ///
    /// # Errors
    /// `Conflict` when the cluster needs this node, `NoQuorum` or `Unavailable` when nobody can let it go: then it still
    /// belongs to the cluster. A failure that says *unknown*: it may, and will say so at its next start.
    pub(crate) async fn leave(&self, deadline: Duration) -> Result<(), Failure> {
        let Drain { me, group, .. } = &self.drain;
        let status = group.status();
        if !status.voters.contains(me) && !status.learners.contains(me) {
            return Ok(());
        }
        if status.voters.len() == 1 && status.voters.contains(me) {
            let why = "this node is the only voter of the control group, so the cluster would end with it: stop it, or let others join and vote first (`longshore cluster voters 3`)";
            return Err(Failure::new(Code::Conflict, why));
        }
        self.until_others_own(deadline / 3).await?;
        self.drain.run(deadline / 3).await;
        group.hand_over(deadline / 4).await;
        if group.status().is_leader {
            let why = "this node leads the control group, and no other voter took over; try again when `longshore cluster status` shows one without lag";
            return Err(Failure::new(Code::Unavailable, why));
        }
        self.leaving.send_replace(true);
        match group.propose_one(Command::RemoveNode { node: *me }).await {
            Err(failure) if failure.code != Code::NotFound => {
                self.leaving.send_replace(false);
                return Err(failure);
            }
            _ => tracing::info!(node = %me, "this node has left the cluster; its short id is free"),
        }
        if !group.until_voteless(deadline.min(LIMIT)).await {
            tracing::warn!("the others have not taken this node's vote away yet; they count it as one that has died");
        }
        Ok(())
    }

    /// Waits until somebody else has a part of the ring: whoever is new gets one a moment after it has come.
    async fn until_others_own(&self, limit: Duration) -> Result<(), Failure> {
        let Drain { me, group, .. } = &self.drain;
        let mut changed = group.changed();
        let others = async {
            while group.state().ring().owners().iter().all(|owner| owner == me) && changed.changed().await.is_ok() {}
        };
        timeout(limit, others).await.map_err(|_| {
            let why =
                "no other control node is ready to drive workers; see `longshore node list`, or stop this node instead";
            Failure::new(Code::Conflict, why)
        })
    }
}
