//! The actor behind the supervisor: one loop, all tasks. It alone makes, signals and waits for processes.

use super::machine::{Action, Machine, Now, STOP_GRACE, Then};
use super::process::{Process, leaders_below};
use super::record::{self, Record};
use super::spawn::{SpawnError, Surroundings, spawn};
use super::{Ground, Logs, Message};
use crate::folder::{check_task_id, make_private};
use crate::socket::AppSocket;
use crate::tasklog::TaskLog;
use longshore_wire::task::{TaskSpec, TaskStatus};
use longshore_wire::{Code, Digest, Failure, TaskId};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// One task with what belongs to it.
struct Entry {
    machine: Machine,
    socket: Option<AppSocket>,
}

/// A process that has ended.
type Ended = (TaskId, Process, Option<i32>);

pub(super) struct Actor {
    ground: Ground,
    tasks: BTreeMap<TaskId, Entry>,
    processes: JoinSet<Ended>,
    messages: mpsc::Receiver<Message>,
    statuses: watch::Sender<Vec<TaskStatus>>,
    logs: Logs,
    /// Told when the last process has ended; once set, nothing starts.
    closing: Option<oneshot::Sender<()>>,
    closed: bool,
}

impl Actor {
    /// The actor with the tasks of a former run. What still runs goes on; nothing is started yet.
    pub(super) async fn revive(
        ground: Ground,
        messages: mpsc::Receiver<Message>,
        statuses: watch::Sender<Vec<TaskStatus>>,
        logs: Logs,
    ) -> io::Result<Self> {
        let paths = ground.paths.clone();
        let (records, mut leaders) = blocking(move || {
            record::sweep(&paths)?;
            Ok((record::read_all(&paths)?, leaders_below(&paths.tasks())))
        })
        .await?;
        let mut actor = Self {
            ground,
            tasks: BTreeMap::new(),
            processes: JoinSet::new(),
            messages,
            statuses,
            logs,
            closing: None,
            closed: false,
        };
        for record in records {
            actor.take_back(record, &mut leaders).await;
        }
        for (task, process) in leaders {
            tracing::warn!(task, "a process of a task without record is ended: nobody could ever stop it");
            process.kill();
        }
        actor.publish();
        Ok(actor)
    }

    async fn take_back(&mut self, record: Record, leaders: &mut BTreeMap<String, Process>) {
        let task = record.spec().task.clone();
        let held = self.ground.cache.find(record.spec().digest).is_some();
        let Some(machine) = record.revive(leaders, now()) else { return self.forget_record(&task).await };
        if machine.process().is_none() && !held {
            // Without its archive it cannot start. Forgotten, it is missing at the owner, which sends both again.
            tracing::warn!(%task, "a task's archive is gone; the task waits for its owner");
            return self.forget_record(&task).await;
        }
        tracing::info!(%task, runs = machine.process().is_some(), "a task of a former run is taken back");
        if let Some(process) = machine.process().cloned() {
            self.watch_process(task.clone(), process, None);
        }
        self.insert(machine);
        self.open_socket(&task);
        self.save(&task).await;
    }

    /// Runs until stopped. Tasks go on.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let next = if self.closed { None } else { self.next_deadline() };
            let next = next.or_else(|| self.kill_deadline());
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(ended) = self.processes.join_next() => match ended {
                    Ok(ended) => self.ended(ended).await,
                    Err(error) => tracing::error!(%error, "waiting for a task failed"),
                },
                Some(message) = self.messages.recv() => self.handle(message).await,
                () = sleep_until(next) => self.tick().await,
            }
            self.publish();
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.tasks.values().filter_map(|entry| entry.machine.deadline()).min()
    }

    /// The next forced end; all that is still of interest while closing.
    fn kill_deadline(&self) -> Option<Instant> {
        let live = self.tasks.values().filter(|entry| entry.machine.process().is_some());
        live.filter_map(|entry| entry.machine.deadline()).min()
    }

    async fn handle(&mut self, message: Message) {
        match message {
            Message::Start { spec, done } => {
                let answer = self.start(*spec).await;
                let _ = done.send(answer);
            }
            Message::Stop { task, done } => {
                let action =
                    self.tasks.get_mut(&task).and_then(|entry| entry.machine.stop(Then::Forget, STOP_GRACE, now()));
                self.save(&task).await;
                self.act(&task, action).await;
                let _ = done.send(Ok(()));
            }
            Message::Drop { digests, done } => {
                let _ = done.send(self.drop_archives(digests).await);
            }
            Message::StopAll { grace, done } => self.stop_all(grace, done).await,
        }
    }

    async fn start(&mut self, spec: TaskSpec) -> Result<(), Failure> {
        if self.closed {
            return Err(Failure::new(Code::NotReady, "this worker is stopping and takes no tasks"));
        }
        if !check_task_id(&spec.task) {
            return Err(Failure::new(Code::Invalid, format!("'{}' is not the name of a task", spec.task)));
        }
        if self.ground.cache.find(spec.digest).is_none() {
            return Err(Failure::new(Code::NotFound, format!("archive {} is not on this worker", spec.digest)));
        }
        let task = spec.task.clone();
        let action = match self.tasks.get_mut(&task) {
            Some(entry) => entry.machine.order(spec, now()),
            None => {
                self.insert(Machine::new(spec, now()));
                None
            }
        };
        // Written down before anything is done about it: an order that was answered outlives a power cut.
        let saved = self.save(&task).await;
        self.act(&task, action).await;
        self.tick().await;
        if saved {
            Ok(())
        } else {
            Err(Failure::new(Code::Internal, "the task cannot be written down; see the worker's log"))
        }
    }

    fn insert(&mut self, machine: Machine) {
        let task = machine.spec.task.clone();
        let log = Arc::new(TaskLog::open(&self.ground.paths.task(&task)));
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).entry(task.clone()).or_insert(log);
        self.tasks.insert(task, Entry { machine, socket: None });
    }

    async fn tick(&mut self) {
        let tasks: Vec<_> = self.tasks.keys().cloned().collect();
        for task in tasks {
            let Some(entry) = self.tasks.get_mut(&task) else { continue };
            if self.closed && entry.machine.process().is_none() {
                continue;
            }
            let action = entry.machine.tick(now());
            self.act(&task, action).await;
        }
    }

    async fn ended(&mut self, (task, process, code): Ended) {
        let Some(entry) = self.tasks.get_mut(&task).filter(|entry| entry.machine.process() == Some(&process)) else {
            return;
        };
        let action = entry.machine.ended(code, now());
        tracing::info!(%task, code, state = %entry.machine.status().state, "a task's process has ended");
        if action.is_none() {
            self.save(&task).await;
        }
        self.act(&task, action).await;
        self.check_closed();
    }

    async fn act(&mut self, task: &TaskId, action: Option<Action>) {
        match action {
            None => {}
            Some(Action::Term(process)) => process.terminate(),
            Some(Action::Kill(process)) => {
                tracing::warn!(%task, "a task did not end when asked to; it is killed");
                process.kill();
            }
            Some(Action::Spawn) => self.spawn(task).await,
            Some(Action::Forget) => {
                self.tasks.remove(task);
                self.logs.lock().unwrap_or_else(PoisonError::into_inner).remove(task);
                self.forget_record(task).await;
            }
        }
    }

    async fn spawn(&mut self, task: &TaskId) {
        self.open_socket(task);
        // The record says `starting` before there is a process, so that one can be sought even if we die right after.
        let saved = self.save(task).await;
        let Some(entry) = self.tasks.get_mut(task) else { return };
        let made =
            if saved { make(&self.ground, entry) } else { Err((false, "the task cannot be written down".into())) };
        let process = match made {
            Ok((process, child)) => {
                entry.machine.started(process.clone(), now());
                Some((process, child))
            }
            Err((lasting, message)) => {
                tracing::warn!(%task, message, "a task cannot be started");
                entry.machine.spawn_failed(lasting, message, now());
                None
            }
        };
        self.save(task).await;
        if let Some((process, child)) = process {
            self.watch_process(task.clone(), process, Some(child));
        }
    }

    fn watch_process(&mut self, task: TaskId, process: Process, child: Option<Child>) {
        self.processes.spawn(async move {
            let code = process.clone().ended(child).await;
            (task, process, code)
        });
    }

    /// Opens the task's socket anew, with what it is now.
    fn open_socket(&mut self, task: &TaskId) {
        let short_id = self.ground.fence.known().short_id;
        let Some(entry) = self.tasks.get_mut(task) else { return };
        // The former one goes first: they have the same path.
        entry.socket = None;
        match self.ground.sockets.open(&entry.machine.spec, short_id) {
            Ok(socket) => entry.socket = Some(socket),
            Err(error) => tracing::error!(%task, %error, "the app socket cannot be opened"),
        }
    }

    async fn drop_archives(&self, digests: Vec<Digest>) -> Result<(), Failure> {
        let used = |digest: &Digest| self.tasks.values().any(|entry| entry.machine.spec.digest == *digest);
        let unused: Vec<_> = digests.into_iter().filter(|digest| !used(digest)).collect();
        let cache = Arc::clone(&self.ground.cache);
        let removing = blocking(move || unused.into_iter().try_for_each(|digest| cache.remove(digest)));
        removing
            .await
            .map_err(|error| Failure::unknown(Code::Internal, format!("an archive cannot be removed: {error}")))
    }

    async fn stop_all(&mut self, grace: Duration, done: oneshot::Sender<()>) {
        self.closed = true;
        self.closing = Some(done);
        let tasks: Vec<_> = self.tasks.keys().cloned().collect();
        for task in tasks {
            let action = self.tasks.get_mut(&task).and_then(|entry| entry.machine.stop(Then::Rest, grace, now()));
            self.act(&task, action).await;
        }
        self.check_closed();
    }

    fn check_closed(&mut self) {
        if self.tasks.values().all(|entry| entry.machine.process().is_none())
            && let Some(done) = self.closing.take()
        {
            // Seen by the last report, which is made as soon as this is told.
            self.publish();
            let _ = done.send(());
        }
    }

    /// Writes a task's record; whether that worked.
    async fn save(&self, task: &TaskId) -> bool {
        let Some(entry) = self.tasks.get(task) else { return true };
        let (record, paths) = (Record::of(&entry.machine), self.ground.paths.clone());
        match blocking(move || record.write(&paths)).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%task, %error, "a task's record cannot be written");
                false
            }
        }
    }

    async fn forget_record(&self, task: &TaskId) {
        let (gone, paths) = (task.clone(), self.ground.paths.clone());
        if let Err(error) = blocking(move || record::forget(&paths, &gone)).await {
            tracing::error!(%task, %error, "a task's record cannot be removed");
        }
    }

    fn publish(&self) {
        let now: Vec<_> = self.tasks.values().map(|entry| entry.machine.status()).collect();
        self.statuses.send_if_modified(|before| {
            *before != now && {
                *before = now;
                true
            }
        });
    }
}

/// Makes a task's process, or says whether it is worth another attempt, and why it failed.
fn make(ground: &Ground, entry: &Entry) -> Result<(Process, Child), (bool, String)> {
    let spec = &entry.machine.spec;
    let socket = entry.socket.as_ref().ok_or_else(|| (false, "its app socket cannot be opened".to_owned()))?;
    let archive = ground.cache.find(spec.digest).ok_or_else(|| (false, "its archive is gone".to_owned()))?;
    let log = ground.paths.task(&spec.task).join("log");
    make_private(&ground.paths.task(&spec.task)).map_err(|error| (false, error.to_string()))?;
    let around = Surroundings {
        paths: &ground.paths,
        archive: &archive,
        log: &log,
        socket: socket.path(),
        node: &ground.name,
        short_id: ground.fence.known().short_id,
        runtimes: &ground.runtimes,
    };
    spawn(spec, &around).map_err(|error: SpawnError| (error.is_lasting(), error.to_string()))
}

fn now() -> Now {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Now { instant: Instant::now(), unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Does file work on a blocking thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
