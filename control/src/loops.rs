//! The background loops of a node: none ends unseen.
//!
//! Every loop is spawned here under a name. One that ends before the node was asked to stop, by return or by panic, is
//! a fault of the node, and [`Loops::stopped`] tells which one it was. Must never hide or restart a loop.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Why a control node has stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// It was asked to.
    Requested,
    /// It has left the cluster for good.
    Left,
    /// A part of it ended by itself; the node cannot go on without it.
    Fault {
        /// Which part.
        part: String,
        /// What is known of the cause.
        detail: String,
    },
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested => f.write_str("stopped as asked"),
            Self::Left => f.write_str("left the cluster"),
            Self::Fault { part, detail } => write!(f, "the {part} has failed: {detail}"),
        }
    }
}

/// Spawns and watches the loops. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Loops {
    tracker: TaskTracker,
    stop: CancellationToken,
    ended: Arc<watch::Sender<Option<StopReason>>>,
}

impl Loops {
    pub(crate) fn new() -> Self {
        let (ended, _) = watch::channel(None);
        Self { tracker: TaskTracker::new(), stop: CancellationToken::new(), ended: Arc::new(ended) }
    }

    /// The token that every loop watches.
    pub(crate) fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }

    /// Spawns a loop that must last as long as the node.
    pub(crate) fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let guard = EndGuard { name, loops: self.clone(), may_return: false };
        self.tracker.spawn(async move {
            let _guard = guard;
            future.await;
        });
    }

    /// Spawns an actor that may end by itself, and is dropped when the node stops. A panic in it is a fault: what it
    /// kept for others can no longer be trusted.
    pub(crate) fn spawn_actor(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let guard = EndGuard { name, loops: self.clone(), may_return: true };
        // Boxed, or the block would hold it twice: as what it was made of, and as what it awaits. So would the task.
        let future = Box::pin(future);
        let guarded = async move {
            let _guard = guard;
            future.await;
        };
        self.tracker.spawn(self.stop.clone().run_until_cancelled_owned(Box::pin(guarded)));
    }

    /// Spawns work that ends by itself, such as one conversation, and is dropped when the node stops. What goes wrong in
    /// it concerns nobody else.
    pub(crate) fn spawn_work(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(self.stop.clone().run_until_cancelled_owned(Box::pin(future)));
    }

    /// Reports that a part of the node has failed. The first report stands.
    pub(crate) fn fail(&self, part: &str, detail: impl Into<String>) {
        self.end(StopReason::Fault { part: part.to_owned(), detail: detail.into() });
    }

    /// Reports that the node has left its cluster, and must stop.
    pub(crate) fn leave(&self) {
        self.end(StopReason::Left);
    }

    fn end(&self, reason: StopReason) {
        self.ended.send_if_modified(|ended| {
            if ended.is_some() {
                return false;
            }
            if let StopReason::Fault { part, detail } = &reason {
                tracing::error!(part, detail, "a part of the control node has failed");
            }
            *ended = Some(reason);
            true
        });
    }

    /// Resolves when the node has stopped or must stop.
    pub(crate) async fn stopped(&self) -> StopReason {
        let mut ended = self.ended.subscribe();
        let reason = ended.wait_for(Option::is_some).await.map(|reason| reason.clone());
        reason.ok().flatten().unwrap_or(StopReason::Requested)
    }

    /// Tells all loops to end and waits for them, at most `deadline`. Says whether all ended in time.
    pub(crate) async fn stop(&self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        let ended = tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok();
        self.end(StopReason::Requested);
        ended
    }
}

/// Lives inside a loop; its drop is the loop's end, however that came.
struct EndGuard {
    name: &'static str,
    loops: Loops,
    may_return: bool,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        match std::thread::panicking() {
            true => self.loops.fail(self.name, "it panicked; standard error holds the message"),
            false if self.may_return || self.loops.stop.is_cancelled() => (),
            false => self.loops.fail(self.name, "it ended early"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_that_ends_is_named() {
        let loops = Loops::new();
        loops.spawn("ring loop", async {});
        let StopReason::Fault { part, .. } = loops.stopped().await else { panic!("an end is a fault") };
        assert_eq!(part, "ring loop");
    }

    #[tokio::test]
    async fn a_stop_is_no_fault() {
        let loops = Loops::new();
        let stop = loops.stop_token().clone();
        loops.spawn("ring loop", async move { stop.cancelled().await });
        assert!(loops.stop(Duration::from_secs(5)).await);
        assert_eq!(loops.stopped().await, StopReason::Requested);
    }
}
