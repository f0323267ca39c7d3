//! The supervisor: keeps the tasks running that the owner has ordered.
//!
//! ```text
//! Supervisor (handle) ──Message──▶ Actor ── Machine per task (pure) ──▶ processes, records, sockets
//!                     ◀──watch───    statuses
//! ```
//!
//! A task is a process group that needs nothing of the worker to go on: it writes its output by itself and its record
//! lies on the disk. Ending the supervisor ends no task.

mod actor;
pub(crate) mod machine;
mod process;
mod record;
mod spawn;

use crate::cache::Cache;
use crate::fence::Fence;
use crate::folder::Paths;
use crate::socket::Sockets;
use crate::tasklog::TaskLog;
use crate::vital::Vital;
use longshore_wire::task::{TaskSpec, TaskStatus};
use longshore_wire::{Code, Digest, Failure, TaskId};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Orders waiting for the actor. More than a session lets be in flight would be pointless; when full, senders wait.
const QUEUE: usize = 256;
/// How often the sizes of the outputs are looked at.
const ROTATE_EVERY: Duration = Duration::from_millis(500);

/// What the supervisor works with.
pub(crate) struct Ground {
    pub(crate) paths: Paths,
    pub(crate) cache: Arc<Cache>,
    pub(crate) fence: Arc<Fence>,
    pub(crate) sockets: Sockets,
    pub(crate) name: String,
    pub(crate) runtimes: Vec<String>,
}

type Logs = Arc<Mutex<BTreeMap<TaskId, Arc<TaskLog>>>>;

/// A handle to the supervisor. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Supervisor {
    sender: mpsc::Sender<Message>,
    statuses: watch::Receiver<Vec<TaskStatus>>,
    logs: Logs,
}

/// What the actor can be told.
enum Message {
    Start { spec: Box<TaskSpec>, done: oneshot::Sender<Result<(), Failure>> },
    Stop { task: TaskId, done: oneshot::Sender<Result<(), Failure>> },
    Drop { digests: Vec<Digest>, done: oneshot::Sender<Result<(), Failure>> },
    StopAll { grace: Duration, done: oneshot::Sender<()> },
}

impl Supervisor {
    /// Finds the tasks of a former run, and keeps them and all that are ordered running until stopped.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub(crate) async fn start(ground: Ground, tracker: &TaskTracker, vital: Vital) -> io::Result<Self> {
        let (sender, messages) = mpsc::channel(QUEUE);
        let (statuses, watched) = watch::channel(Vec::new());
        let logs = Logs::default();
        let actor = actor::Actor::revive(ground, messages, statuses, Arc::clone(&logs)).await?;
        let stop = vital.stop.clone();
        tracker.spawn(vital.clone().watch("rotation", rotate(Arc::clone(&logs), stop.clone())));
        tracker.spawn(vital.watch("supervisor", actor.run(stop)));
        Ok(Self { sender, statuses: watched, logs })
    }

    /// Follows the state of all tasks.
    pub(crate) fn statuses(&self) -> watch::Receiver<Vec<TaskStatus>> {
        self.statuses.clone()
    }

    /// A task's output, if the task is known.
    pub(crate) fn log(&self, task: &TaskId) -> Option<Arc<TaskLog>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).get(task).cloned()
    }

    /// Queues an order to run a task; the answer comes once it is written down. A repeat is no error.
    pub(crate) async fn run(&self, spec: Box<TaskSpec>) -> Answer {
        self.ask(|done| Message::Start { spec, done }).await
    }

    /// Queues an order to end and forget a task.
    pub(crate) async fn end(&self, task: TaskId) -> Answer {
        self.ask(|done| Message::Stop { task, done }).await
    }

    /// Queues an order to remove archives; those in use stay.
    pub(crate) async fn drop_archives(&self, digests: Vec<Digest>) -> Answer {
        self.ask(|done| Message::Drop { digests, done }).await
    }

    /// Stops all tasks, forcing them after `grace`, and starts none any more. Resolves when all have ended.
    pub(crate) async fn stop_all(&self, grace: Duration) {
        let (done, ended) = oneshot::channel();
        if self.sender.send(Message::StopAll { grace, done }).await.is_ok() {
            let _ = ended.await;
        }
    }

    async fn ask(&self, message: impl FnOnce(oneshot::Sender<Result<(), Failure>>) -> Message) -> Answer {
        let (done, answer) = oneshot::channel();
        // A closed queue shows in the answer: its sender is dropped with the message.
        let _ = self.sender.send(message(done)).await;
        Answer(answer)
    }
}

/// An order that stands in the queue, in the order in which it was given.
pub(crate) struct Answer(oneshot::Receiver<Result<(), Failure>>);

impl Answer {
    /// How it went.
    ///
    /// # Errors
    /// Why the order was refused.
    pub(crate) async fn get(self) -> Result<(), Failure> {
        let closing = |_| Err(Failure::unknown(Code::Unavailable, "this worker is shutting down"));
        self.0.await.unwrap_or_else(closing)
    }
}

/// Keeps every output within its size.
async fn rotate(logs: Logs, stop: CancellationToken) {
    let mut timer = tokio::time::interval(ROTATE_EVERY);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(timer.tick()).await.is_some() {
        let all: Vec<_> = logs.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let rotating = tokio::task::spawn_blocking(move || {
            for log in all {
                if let Err(error) = log.rotate() {
                    tracing::warn!(path = %log.path().display(), %error, "a task's output cannot be rotated; some is lost");
                }
            }
        });
        if let Err(error) = rotating.await {
            tracing::error!(%error, "the rotation of outputs failed");
        }
    }
}

#[cfg(test)]
mod tests;
