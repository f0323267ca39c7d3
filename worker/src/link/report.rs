//! What the owner is told of this worker: at once when something changes, and every now and then.

use crate::cache::Cache;
use longshore_transport::Session;
use longshore_wire::edge::{Report, ToControl};
use longshore_wire::task::{NodeState, TaskStatus};
use longshore_wire::{Failure, encode};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Changes within this time make one report: a task that starts goes through several states.
const COALESCE: Duration = Duration::from_millis(50);
/// Longest time without a report.
const EVERY: Duration = Duration::from_secs(10);
/// Pause before a report that failed is made again.
const RETRY: Duration = Duration::from_secs(1);
/// Time for the owner to take a report.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Makes the reports.
#[derive(Clone)]
pub(crate) struct Reporter {
    pub(crate) state: watch::Receiver<NodeState>,
    pub(crate) statuses: watch::Receiver<Vec<TaskStatus>>,
    pub(crate) cache: Arc<Cache>,
}

impl Reporter {
    /// How things stand now.
    pub(crate) fn report(&self) -> Report {
        Report { state: *self.state.borrow(), tasks: self.statuses.borrow().clone(), archives: self.cache.held() }
    }

    /// Sends one report.
    ///
    /// # Errors
    /// Why the owner did not take it.
    pub(crate) async fn send(&self, session: &Session) -> Result<(), Failure> {
        session.request(encode(&ToControl::Report(self.report())), TIMEOUT).await.map(drop)
    }

    /// Reports over a session until it ends.
    pub(super) async fn run(mut self, session: Session) {
        let mut archives = self.cache.changes();
        let mut pause = EVERY;
        // What has changed since the attach counts as a change: its report was made before.
        self.state.mark_changed();
        loop {
            tokio::select! {
                _ = session.closed() => return,
                Ok(()) = self.state.changed() => {}
                Ok(()) = self.statuses.changed() => {}
                Ok(()) = archives.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
            tokio::time::sleep(COALESCE).await;
            self.state.mark_unchanged();
            self.statuses.mark_unchanged();
            archives.mark_unchanged();
            pause = match self.send(&session).await {
                Ok(()) => EVERY,
                Err(failure) => {
                    tracing::debug!(code = %failure.code, message = failure.message, "the owner did not take a report");
                    RETRY
                }
            };
        }
    }
}
