//! The actor behind one worker: looks at the state and at the last report, and does what closes the gap.
//!
//! ```text
//! woken by: state change, report, session come or gone, job done, clock
//!    └▶ round: still mine? ─no─▶ tell the worker its new owner, leave the table, end
//!              └─yes─▶ tell the cluster what it does not know · begin the steps that are not under way
//! ```
//!
//! Orders and commands run as jobs beside the actor, so that it never waits inside its own loop. Whatever fails is simply
//! still different at a later round.

use super::commit::{self, Presence};
use super::reconcile::{self, Step, StepKey};
use super::seat::{Seat, View};
use super::{Proxies, Shared};
use crate::blobs::push_file;
use crate::jobs::Jobs;
use longshore_state::{Command, State};
use longshore_transport::Session;
use longshore_wire::edge::{BLAKE3_VERSION, OpenWorker, Order, ToWorker};
use longshore_wire::task::{TaskSpec, TaskStatus};
use longshore_wire::{Code, Digest, Epoch, Failure, NodeId, TaskId, encode};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinError;
use tokio::time::Instant;

/// The comparison is made at least so often.
const EVERY: Duration = Duration::from_secs(10);
/// Time for a worker to take an order.
const ORDER: Duration = Duration::from_secs(10);
/// Time for one archive of the largest size over a slow line.
const PUSH: Duration = Duration::from_secs(600);
/// After a job that went well its effect must show within this, else it is done again.
const SHOWS: Duration = Duration::from_secs(2);
/// First and longest pause after a job that failed.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Something under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Job {
    Step(StepKey),
    SayPresence,
    SayTasks,
}

/// A job is not begun again before this.
#[derive(Debug, Clone, Copy)]
struct Hold {
    until: Instant,
    failures: u32,
}

/// What was last told to the cluster, and when: the own state may lag behind it a little.
#[derive(Debug)]
struct Said<T> {
    what: T,
    epoch: Epoch,
    at: Instant,
}

/// What the cluster is told of a worker's tasks.
#[derive(Debug, Clone, PartialEq)]
struct ToldTasks {
    tasks: Vec<TaskStatus>,
    ended: Vec<(TaskId, u64)>,
}

impl<T: PartialEq> Said<T> {
    fn covers(said: Option<&Self>, what: &T, epoch: Epoch) -> bool {
        said.is_some_and(|said| said.what == *what && said.epoch == epoch && said.at.elapsed() < SHOWS)
    }
}

/// The actor.
pub(crate) struct Actor {
    proxies: Proxies,
    seat: Arc<Seat>,
    jobs: Jobs<(Job, Result<(), Failure>)>,
    busy: HashSet<Job>,
    held: HashMap<Job, Hold>,
    link: Option<u64>,
    // Boxed: both are forgotten soon, the actor lives as long as its worker.
    said_presence: Option<Box<Said<Presence>>>,
    said_tasks: Option<Box<Said<ToldTasks>>>,
}

impl Actor {
    pub(crate) fn new(proxies: Proxies, seat: Arc<Seat>) -> Self {
        Self {
            proxies,
            seat,
            jobs: Jobs::new(),
            busy: HashSet::new(),
            held: HashMap::new(),
            link: None,
            said_presence: None,
            said_tasks: None,
        }
    }

    fn worker(&self) -> NodeId {
        self.seat.worker()
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.proxies.shared
    }

    /// Runs until this node no longer owns the worker.
    pub(crate) async fn run(mut self) {
        let mut arrivals = self.shared().blobs.arrivals();
        while let Some(next) = self.round() {
            tokio::select! {
                biased;
                Some(done) = self.jobs.next() => self.finish(done),
                () = self.seat.woken() => (),
                Ok(()) = arrivals.changed() => self.held.retain(|job, _| !matches!(job, Job::Step(StepKey::Push(_)))),
                () = tokio::time::sleep_until(next) => (),
            }
        }
        // Boxed: at the end of its life only, while there is an actor for every worker.
        Box::pin(self.leave()).await;
    }

    /// One comparison. Returns when to look again at the latest; `None` when the worker is another node's.
    fn round(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let state = self.shared().group.state();
        let Some(epoch) = self.proxies.owned(self.worker()) else {
            return (!self.proxies.retire(self.worker())).then_some(now);
        };
        let view = self.seat.view();
        if self.link != view.link {
            self.link = view.link;
            self.held.clear();
        }
        let shown = |job: &Job| match (job, &view.report) {
            (Job::Step(StepKey::Start(started, revision)), Some(report)) => {
                report.tasks.iter().any(|status| status.task == *started && status.revision >= *revision)
            }
            _ => false,
        };
        self.held.retain(|job, hold| hold.until + EVERY > now && !shown(job));
        self.tidy();
        let mut next = now + EVERY;
        self.say_presence(&state, &view, epoch, &mut next);
        self.say_tasks(&state, &view, epoch);
        self.close_gap(&state, &view, epoch);
        let held = self.held.values().map(|hold| hold.until).filter(|until| *until > now);
        Some(held.fold(next, Instant::min))
    }

    /// Forgets what is of no more use: there is an actor for every worker, and most of them are idle.
    fn tidy(&mut self) {
        if self.held.is_empty() {
            self.held = HashMap::new();
        }
        if self.busy.is_empty() {
            self.busy = HashSet::new();
        }
        self.said_presence.take_if(|said| said.at.elapsed() >= SHOWS);
        self.said_tasks.take_if(|said| said.at.elapsed() >= SHOWS);
    }

    fn say_presence(&mut self, state: &State, view: &View, epoch: Epoch, next: &mut Instant) {
        let Some(record) = state.node(self.worker()) else { return };
        let patience_ends = commit::patience_ends(view, self.shared().attach_grace);
        let patient = patience_ends > Instant::now();
        if view.session.is_none() && patient {
            *next = patience_ends.min(*next);
        }
        let Some(presence) = commit::presence(record, epoch, view, patient) else { return };
        if Said::covers(self.said_presence.as_deref(), &presence, epoch) {
            *next = (Instant::now() + SHOWS).min(*next);
            return;
        }
        let command = Command::SetConnected {
            node: self.worker(),
            epoch,
            owner: self.shared().me,
            state: presence.state,
            transport: presence.via.as_ref().map(|via| via.transport.clone()).unwrap_or_default(),
            remote: presence.via.as_ref().and_then(|via| via.remote.clone()),
            clone: presence.clone.clone(),
        };
        if self.begin(Job::SayPresence, say(Arc::clone(self.shared()), command)) {
            self.said_presence = Some(Box::new(Said { what: presence, epoch, at: Instant::now() }));
        }
    }

    fn say_tasks(&mut self, state: &State, view: &View, epoch: Epoch) {
        let (Some(_), Some(report)) = (&view.session, &view.report) else { return };
        let mut ended = state.ended_tasks(self.worker(), &report.tasks);
        ended.retain(|(task, _)| !self.may_start(task));
        let what = ToldTasks { tasks: report.tasks.clone(), ended };
        if !state.report_differs(self.worker(), &what.tasks, &what.ended)
            || Said::covers(self.said_tasks.as_deref(), &what, epoch)
        {
            return;
        }
        let ToldTasks { tasks, ended } = what.clone();
        let command = Command::ReportTasks { node: self.worker(), epoch, tasks, ended };
        if self.begin(Job::SayTasks, say(Arc::clone(self.shared()), command)) {
            self.said_tasks = Some(Box::new(Said { what, epoch, at: Instant::now() }));
        }
    }

    /// Whether an order to start the task is on its way, or was answered so lately that no report can show it yet: that
    /// it is not in the report does not mean then that it has ended.
    fn may_start(&self, task: &TaskId) -> bool {
        let starts = |job: &Job| matches!(job, Job::Step(StepKey::Start(started, _)) if started == task);
        let now = Instant::now();
        self.busy.iter().any(starts) || self.held.iter().any(|(job, hold)| starts(job) && hold.until > now)
    }

    fn close_gap(&mut self, state: &State, view: &View, epoch: Epoch) {
        let (Some(session), Some(report)) = (&view.session, &view.report) else { return };
        let wanted: Vec<TaskSpec> = state.tasks_of(self.worker()).filter_map(|task| state.task_spec(task)).collect();
        let named = state.blobs();
        let referenced: HashSet<Digest> = named.keys().copied().collect();
        for step in reconcile::steps(&wanted, report, &referenced) {
            let errand = Errand {
                shared: Arc::clone(self.shared()),
                seat: Arc::clone(&self.seat),
                session: session.clone(),
                epoch,
            };
            let key = step.key();
            self.begin(Job::Step(key), errand.run(step));
        }
    }

    /// Begins a job unless it is under way or held back.
    fn begin(&mut self, job: Job, work: impl Future<Output = Result<(), Failure>> + Send + 'static) -> bool {
        if self.busy.contains(&job) || self.held.get(&job).is_some_and(|hold| hold.until > Instant::now()) {
            return false;
        }
        self.busy.insert(job.clone());
        self.jobs.spawn(async move { (job, work.await) });
        true
    }

    fn finish(&mut self, done: Result<(Job, Result<(), Failure>), JoinError>) {
        let (job, result) = match done {
            Ok(done) => done,
            // Jobs are never aborted: this is a panic, and the proxy cannot know what it left behind.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        self.busy.remove(&job);
        let failures = self.held.get(&job).map_or(0, |hold| hold.failures);
        match result {
            Ok(()) => match job {
                // What was told is remembered apart, since a different word need not wait.
                Job::SayPresence | Job::SayTasks => {
                    self.held.remove(&job);
                }
                step => {
                    self.held.insert(step, Hold { until: Instant::now() + SHOWS, failures: 0 });
                }
            },
            Err(failure) => {
                tracing::info!(worker = %self.worker(), ?job, code = %failure.code, %failure, "not done; to be tried again");
                match job {
                    Job::SayPresence => self.said_presence = None,
                    Job::SayTasks => self.said_tasks = None,
                    Job::Step(_) => (),
                }
                let pause = RETRY.0.saturating_mul(2_u32.saturating_pow(failures)).min(RETRY.1);
                self.held.insert(job, Hold { until: Instant::now() + pause, failures: failures.saturating_add(1) });
            }
        }
    }

    /// The worker is another node's: it is told, and its session stays until it leaves by itself.
    async fn leave(self) {
        let Some(session) = self.seat.vacate() else { return };
        if self.shared().group.state().node(self.worker()).is_none() {
            session.close(Failure::new(Code::NotFound, "this worker was removed from the cluster"));
            return;
        }
        self.proxies.tell_moved(self.worker(), &session).await;
    }
}

async fn say(shared: Arc<Shared>, command: Command) -> Result<(), Failure> {
    shared.group.propose_one(command).await.map(|_| ())
}

/// What one step needs.
struct Errand {
    shared: Arc<Shared>,
    seat: Arc<Seat>,
    session: Session,
    epoch: Epoch,
}

impl Errand {
    async fn run(self, step: Step) -> Result<(), Failure> {
        match step {
            Step::Push(digest) => self.push(digest).await,
            Step::Start(spec) => self.order(Order::Start(spec)).await,
            Step::Stop(task) => self.order(Order::Stop { task }).await,
            Step::DropArchives(digests) => self.order(Order::DropArchives { digests }).await,
        }
    }

    async fn order(&self, order: Order) -> Result<(), Failure> {
        let body = encode(&ToWorker::Order { epoch: self.epoch, order });
        self.session.request(body, ORDER).await.map(|_| ())
    }

    async fn push(&self, digest: Digest) -> Result<(), Failure> {
        let path = self.shared.blobs.path(&digest);
        let Ok(meta) = tokio::fs::metadata(&path).await else {
            self.shared.supply.hurry();
            return Err(Failure::new(Code::Unavailable, format!("archive {digest} has not reached this node yet")));
        };
        let _place = self.shared.pushes.acquire().await;
        let checks = self.session.peer().version >= BLAKE3_VERSION;
        let blake3 = if checks { self.shared.group.state().blake3(digest) } else { None };
        let head = encode(&OpenWorker::Archive { epoch: self.epoch, digest, size: meta.len(), blake3 });
        let transfer = async { push_file(&path, self.session.open(head).await?).await };
        let late = |_| Err(Failure::unknown(Code::Timeout, "the worker takes the archive too slowly"));
        tokio::time::timeout(PUSH, transfer).await.unwrap_or_else(late)?;
        self.seat.note_archive(digest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_actor_is_small() {
        fn bytes<F: Future>(_: impl Fn(Actor) -> F) -> usize {
            size_of::<F>()
        }
        let size = bytes(Actor::run);
        assert!(size <= 1536, "{size} bytes for every worker");
    }
}
