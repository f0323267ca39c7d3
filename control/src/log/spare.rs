//! The helper thread: prepares the next segment while the current one fills up, and removes those that are purged.
//!
//! When it cannot prepare one it tries again until it can; the writer asks only when it needs it. Must never touch a
//! segment that holds something.

use super::LogError;
use super::disk::Disk;
use super::segment::{self, Growth, Segment};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// More than ever wait: the writer asks for one segment at a time.
const QUEUE: usize = 64;

enum Task {
    /// Prepare this segment, and give it over once that is done.
    Ahead(u64, u64),
    /// Prepare this segment now and say how that ended, unless it has been given over.
    Now(u64, u64),
    /// Remove these segments, in this order.
    Remove(Vec<u64>),
}

/// The writer's end.
pub(super) struct Spares {
    growth: Growth,
    /// `None` once dropped.
    tasks: Option<SyncSender<Task>>,
    prepared: Receiver<Result<Arc<Segment>, LogError>>,
    /// What an earlier start has prepared.
    found: Option<Arc<Segment>>,
    thread: Option<JoinHandle<()>>,
}

impl Spares {
    /// Starts the thread; it begins with the segment behind `current`, unless that has been `found`. `space` tells why
    /// there is no next segment while the disk is full.
    pub(super) fn start(
        disk: Arc<dyn Disk>,
        folder: &Path,
        growth: Growth,
        current: u64,
        found: Option<Arc<Segment>>,
        space: watch::Sender<Option<LogError>>,
    ) -> Result<Self, LogError> {
        let (tasks, todo) = sync_channel(QUEUE);
        let (give, prepared) = sync_channel(QUEUE);
        let helper = Helper { disk, folder: folder.to_owned(), space, give, made: (current, u64::MAX), failed: None };
        let thread = std::thread::Builder::new().name("raft-log-next".to_owned()).spawn(move || helper.run(&todo));
        let thread = thread.map_err(|error| LogError::Io {
            path: folder.to_owned(),
            doing: "starting a thread for",
            cause: error.to_string(),
        })?;
        let ahead = found.is_none();
        let spares = Self { growth, tasks: Some(tasks), prepared, found, thread: Some(thread) };
        if ahead {
            spares.tell(Task::Ahead(current + 1, growth.size(current + 1)));
        }
        Ok(spares)
    }

    fn tell(&self, task: Task) {
        if let Some(tasks) = &self.tasks {
            // A helper that has ended is noticed where its answer is awaited.
            let _ = tasks.send(task);
        }
    }

    /// The segment of this number, with room for so many bytes; the one behind it is prepared from then on.
    ///
    /// # Errors
    /// When it could not be prepared, just now; nothing has changed then, and the next call tries again.
    pub(super) fn take(&mut self, number: u64, wanted: u64) -> Result<Arc<Segment>, LogError> {
        let size = self.growth.size(number).max(wanted.next_multiple_of(segment::BEGIN as u64));
        let mut at_hand = self.found.take().or_else(|| self.prepared.try_recv().ok()?.ok());
        loop {
            if let Some(segment) = at_hand.filter(|segment| segment.number == number && segment.size >= wanted) {
                self.tell(Task::Ahead(number + 1, self.growth.size(number + 1)));
                return Ok(segment);
            }
            self.tell(Task::Now(number, size));
            at_hand = Some(self.prepared.recv().unwrap_or(Err(LogError::Closed))?);
        }
    }

    /// Removes segments, the oldest first.
    pub(super) fn remove(&self, numbers: Vec<u64>) {
        self.tell(Task::Remove(numbers));
    }
}

impl Drop for Spares {
    /// Waits for what is under way, at most the preparation of one segment.
    fn drop(&mut self) {
        self.tasks = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that prepares segments of the Raft log panicked");
        }
    }
}

struct Helper {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    space: watch::Sender<Option<LogError>>,
    give: SyncSender<Result<Arc<Segment>, LogError>>,
    /// Number and bytes of the segment that was given over last. It may be in use: it must not be made again.
    made: (u64, u64),
    /// What to try again.
    failed: Option<(u64, u64)>,
}

impl Helper {
    fn run(mut self, todo: &Receiver<Task>) {
        loop {
            let task = match self.failed {
                Some(_) => todo.recv_timeout(RETRY),
                None => todo.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match (task, self.failed) {
                (Ok(Task::Ahead(number, size)), _) => drop(self.prepare(number, size)),
                (Ok(Task::Now(number, size)), _) => {
                    if let Err(error) = self.prepare(number, size) {
                        let _ = self.give.send(Err(error));
                    }
                }
                (Ok(Task::Remove(numbers)), _) => self.remove(&numbers),
                (Err(RecvTimeoutError::Timeout), Some((number, size))) => drop(self.prepare(number, size)),
                (Err(RecvTimeoutError::Timeout), None) => (),
                (Err(RecvTimeoutError::Disconnected), _) => return,
            }
        }
    }

    fn prepare(&mut self, number: u64, size: u64) -> Result<(), LogError> {
        if number < self.made.0 || (number == self.made.0 && size <= self.made.1) {
            return Ok(());
        }
        match segment::prepare(&*self.disk, &self.folder, number, size) {
            Ok(segment) => {
                if self.failed.take().is_some() {
                    tracing::info!(segment = number, "the next segment of the Raft log is prepared after all");
                }
                self.made = (number, size);
                self.space.send_replace(None);
                let _ = self.give.send(Ok(Arc::new(segment)));
                Ok(())
            }
            Err(error) => {
                if self.failed.replace((number, size)).is_none() {
                    tracing::error!(%error, "the next segment of the Raft log cannot be prepared; it is tried again");
                }
                self.space.send_replace(Some(error.clone()));
                Err(error)
            }
        }
    }

    /// The names go one by one: a gap between them would look like damage after a power cut.
    fn remove(&self, numbers: &[u64]) {
        for number in numbers {
            let gone = self.disk.remove(&segment::name(*number)).and_then(|()| self.disk.sync());
            if let Err(error) = gone {
                // The next start finds it again.
                tracing::warn!(segment = number, %error, "a purged segment of the Raft log cannot be removed");
                return;
            }
        }
    }
}
