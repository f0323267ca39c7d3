//! The handle of the Raft group.

use super::batcher::{self, Asker, Outcomes, SUBMISSION_BYTES, Submission};
use super::engine::{Engine, stopped};
use super::reads::Ask;
use super::status::{self, GroupStatus, Leadership};
use super::tally::Tally;
use crate::clock::now_ms;
use crate::identity::random_ulid;
use crate::log::Position;
use crate::machine::{Journal, View};
use bytes::Bytes;
use longshore_state::{Command, Outcome, Proposal, State};
use longshore_wire::{Code, Failure, RequestId, encode_behind};
use openraft::async_runtime::WatchReceiver as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;

/// Time for one proposal or read: several elections.
const DEADLINE: Duration = Duration::from_secs(10);
/// Room for proposals to begin with, in bytes: a write of a small value fits.
const ROOM: usize = 512;

/// This node's part in the Raft group. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Group(Arc<Inner>);

struct Inner {
    engine: Engine,
    proposals: mpsc::Sender<Submission>,
    reads: mpsc::Sender<Ask>,
    tracker: TaskTracker,
}

impl Group {
    pub(super) fn new(
        engine: Engine,
        proposals: mpsc::Sender<Submission>,
        reads: mpsc::Sender<Ask>,
        tracker: TaskTracker,
    ) -> Self {
        Self(Arc::new(Inner { engine, proposals, reads, tracker }))
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Runs work that ends with the group.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.tracker.spawn(work);
    }

    /// Commits commands as one log entry: all of them, in order, or none. One outcome each; a refusal is an outcome.
    ///
    /// # Errors
    /// `NoQuorum`, `Busy`, `TooLarge`, …; the failure says whether the commands may have been carried out.
    pub(crate) async fn propose(&self, commands: Vec<Command>) -> Result<Vec<Outcome>, Failure> {
        let requests = commands.into_iter().map(|command| (RequestId::from_u128(random_ulid()), command));
        self.propose_all(requests.collect()).await
    }

    /// Commits one command.
    ///
    /// # Errors
    /// As [`Group::propose`], and the command's own refusal.
    pub(crate) async fn propose_one(&self, command: Command) -> Outcome {
        self.propose_as(RequestId::from_u128(random_ulid()), command).await
    }

    /// Commits one command under a request id; a repeat gets the first outcome.
    ///
    /// # Errors
    /// As [`Group::propose`], and the command's own refusal.
    pub(crate) async fn propose_as(&self, request_id: RequestId, command: Command) -> Outcome {
        self.propose_all(vec![(request_id, command)]).await.and_then(only)
    }

    /// Whether this node leads now.
    pub(super) fn is_leader(&self) -> bool {
        self.engine().0.leadership.borrow().is_leader
    }

    /// Whether a leader is known now, so that nobody has to wait for one.
    pub(crate) fn has_leader(&self) -> bool {
        self.engine().0.leadership.borrow().leader.is_some()
    }

    /// As [`Group::propose_as`], without a future: `done` hears the outcome, in this call or later, and must not wait. It is
    /// dropped unheard only when the node is torn down.
    pub(crate) fn begin(&self, request_id: RequestId, command: Command, done: impl FnOnce(Outcome) + Send + 'static) {
        self.begin_all(1, encoded([(request_id, command)]), |outcomes| done(outcomes.and_then(only)));
    }

    /// The same for encoded proposals.
    pub(super) fn begin_all(&self, count: u32, proposals: Bytes, done: impl FnOnce(Outcomes) + Send + 'static) {
        match fits(count, &proposals) {
            Ok(()) if count == 0 => return done(Ok(Vec::new())),
            Ok(()) => (),
            Err(refusal) => return done(Err(refusal)),
        }
        let underway = self.engine().0.tally.begin(count);
        let call = Box::new(move |result: Outcomes| {
            underway.settle(&result);
            done(result);
        });
        let deadline = Instant::now() + DEADLINE;
        let submission = Submission { count, proposals, deadline, asker: Asker::Call(call) };
        if let Err((submission, refusal)) = offer(&self.0.proposals, submission) {
            submission.asker.tell(Err(refusal));
        }
    }

    async fn propose_all(&self, commands: Vec<(RequestId, Command)>) -> Result<Vec<Outcome>, Failure> {
        let wanted = commands.len();
        let outcomes = self.submit(u32::try_from(wanted).unwrap_or(u32::MAX), encoded(commands)).await?;
        match outcomes.len() == wanted {
            true => Ok(outcomes),
            false => Err(Failure::unknown(Code::Internal, "the leader has answered another number of proposals")),
        }
    }

    /// Gives encoded proposals to the batcher and waits.
    async fn submit(&self, count: u32, proposals: Bytes) -> Result<Vec<Outcome>, Failure> {
        if count == 0 {
            return Ok(Vec::new());
        }
        fits(count, &proposals)?;
        let underway = self.engine().0.tally.begin(count);
        let result = self.carried(count, proposals).await;
        underway.settle(&result);
        result
    }

    async fn carried(&self, count: u32, proposals: Bytes) -> Result<Vec<Outcome>, Failure> {
        let deadline = Instant::now() + DEADLINE;
        // Nothing is handed over while there is nobody to take it: so that failure is certain.
        self.engine().leader(deadline).await?;
        let (reply, answer) = oneshot::channel();
        enqueue(&self.0.proposals, Submission { count, proposals, deadline, asker: Asker::Future(reply) })?;
        // The batcher keeps the deadline; the margin lets its own, more exact failure arrive.
        match timeout_at(deadline + Duration::from_secs(1), answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Failure::unknown(Code::Unavailable, "this control node is stopping")),
            Err(_) => Err(Failure::unknown(Code::NoQuorum, "the control group has not answered in time")),
        }
    }

    /// Returns once this node has applied everything that was acknowledged before the call, so that a read of
    /// [`Group::state`] is linearizable.
    ///
    /// # Errors
    /// `NoQuorum` without a leader that proves to be one, `Timeout` when this node lags behind.
    pub(crate) async fn read_index(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + DEADLINE;
        match self.ask_read_index().await? {
            Some(index) => self.engine().applied(index, deadline).await,
            None => Ok(()),
        }
    }

    pub(super) async fn ask_read_index(&self) -> Result<Option<u64>, Failure> {
        let deadline = Instant::now() + DEADLINE;
        let (reply, answer) = oneshot::channel();
        enqueue(&self.0.reads, Ask { deadline, reply })?;
        match timeout_at(deadline + Duration::from_secs(1), answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(Failure::new(Code::NoQuorum, "the control group has not answered in time")),
        }
    }

    /// The applied state; may be behind other nodes.
    pub(crate) fn state(&self) -> Arc<State> {
        self.view().state()
    }

    /// The applied state, and up to where it reaches.
    pub(crate) fn image(&self) -> (Arc<State>, Option<Position>) {
        self.view().image()
    }

    /// Wakes whenever more has been applied. The value is one more than the last applied index; the state that
    /// [`Group::state`] gives then is at least that far.
    pub(crate) fn advanced(&self) -> watch::Receiver<u64> {
        self.view().advanced()
    }

    /// Wakes when something has been applied that is not the key-value store's alone.
    pub(crate) fn changed(&self) -> watch::Receiver<()> {
        self.view().changed()
    }

    /// What has happened to the membership, as the applied log tells it.
    pub(crate) fn journal(&self) -> &Journal {
        self.view().journal()
    }

    fn view(&self) -> &View {
        &self.engine().0.view
    }

    /// How the group stands.
    pub(crate) fn status(&self) -> GroupStatus {
        let applied = self.advanced().borrow().checked_sub(1);
        status::status(&self.engine().0.raft.metrics().borrow_watched(), &self.engine().0.log, applied)
    }

    /// What the group has done here since the start.
    pub(crate) fn tally(&self) -> &Tally {
        &self.engine().0.tally
    }

    /// Wakes when leader, term or this node's part in it has changed.
    pub(crate) fn leadership(&self) -> watch::Receiver<Leadership> {
        self.engine().0.leadership.subscribe()
    }

    /// Resolves when the group has ended on this node by a fault, with a sentence about it; never on request.
    pub(crate) async fn stopped(&self) -> String {
        let mut fault = self.engine().0.fault.subscribe();
        let reason = fault.wait_for(Option::is_some).await.map(|reason| reason.clone());
        reason.ok().flatten().unwrap_or_else(|| "the control group has ended".to_owned())
    }

    /// Stops this node's part, at most within `deadline`. Proposals under way fail as unknown.
    pub(crate) async fn stop(&self, deadline: Duration) {
        self.engine().0.stop.cancel();
        self.0.tracker.close();
        let stop = async {
            self.0.tracker.wait().await;
            if let Err(error) = self.engine().0.raft.shutdown().await {
                tracing::warn!(%error, "the Raft engine did not end well");
            }
            let log = self.engine().0.log.clone();
            // Handles of the group may live on; the file must not stay open with them.
            let _ = tokio::task::spawn_blocking(move || log.close()).await;
        };
        if timeout(deadline, stop).await.is_err() {
            tracing::warn!("the Raft engine did not end in time");
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("node", &self.engine().0.node).finish_non_exhaustive()
    }
}

/// Encodes commands for the log, one behind the other.
fn encoded(commands: impl IntoIterator<Item = (RequestId, Command)>) -> Bytes {
    let now_ms = now_ms();
    let mut bytes = Vec::with_capacity(ROOM);
    for (request_id, command) in commands {
        encode_behind(&mut bytes, &Proposal { request_id, now_ms, command });
    }
    bytes.into()
}

/// The outcome of one command.
fn only(mut outcomes: Vec<Outcome>) -> Outcome {
    outcomes.pop().unwrap_or_else(|| Err(Failure::unknown(Code::Internal, "the leader's answer is empty")))
}

/// Refuses a submission over the limits.
fn fits(count: u32, proposals: &Bytes) -> Result<(), Failure> {
    let (size, most) = (proposals.len(), batcher::BATCH_PROPOSALS);
    if size <= SUBMISSION_BYTES && count <= most {
        return Ok(());
    }
    let message = format!("{count} commands of {size} bytes at once; the limits are {most} and {SUBMISSION_BYTES}");
    Err(Failure::new(Code::TooLarge, message))
}

fn enqueue<T>(queue: &mpsc::Sender<T>, item: T) -> Result<(), Failure> {
    offer(queue, item).map_err(|(_, refusal)| refusal)
}

/// Puts an item into a queue, or gives it back.
fn offer<T>(queue: &mpsc::Sender<T>, item: T) -> Result<(), (T, Failure)> {
    queue.try_send(item).map_err(|error| match error {
        mpsc::error::TrySendError::Full(item) => {
            (item, Failure::new(Code::Busy, "too many requests wait for the control group; try again later"))
        }
        mpsc::error::TrySendError::Closed(item) => (item, stopped()),
    })
}
