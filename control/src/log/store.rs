//! The handle of the log.

use super::disk::{Disk, Folder};
use super::first_format;
use super::folder;
use super::frame::{self, Look};
use super::index::Index;
use super::item::{Item, Standing, Unread, items};
use super::load::{self, Loaded};
use super::places::Run;
use super::segment::{Growth, Segment};
use super::spare::Spares;
use super::writer::{Done, Job, Work, Writer};
use super::{Ballot, Entry, LogError, Position};
use crate::histogram::Histogram;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Sizes of the segments.
pub(super) const GROWTH: Growth = Growth { first: 1024 * 1024, largest: 16 * 1024 * 1024 };
/// Jobs that may wait for the writer; then callers wait. openraft keeps few under way, so this is never the limit.
const QUEUE: usize = 1024;

/// The Raft log and vote. Cheap to clone; the files are closed by [`Log::close`], or when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Log(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    thread: Mutex<Option<Thread>>,
}

struct Thread {
    queue: mpsc::Sender<Job>,
    handle: JoinHandle<()>,
}

/// What handle and writer thread share.
pub(super) struct Shared {
    path: PathBuf,
    segments: Mutex<BTreeMap<u64, Arc<Segment>>>,
    index: Mutex<Index>,
    pub(super) fault: OnceLock<LogError>,
    failed: CancellationToken,
    /// Why there is no next segment, while there is none.
    space: watch::Sender<Option<LogError>>,
    /// How long each write took until it was synced.
    pub(super) syncs: Histogram,
    /// Whether a change that finds no room waits for it.
    pub(super) waits: AtomicBool,
}

impl Shared {
    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segments by their numbers, oldest first. Empty once closed.
    pub(super) fn segments(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Segment>>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the first fault, and that it happened.
    pub(super) fn fail(&self, fault: &LogError) {
        let _ = self.fault.set(fault.clone());
        self.failed.cancel();
    }
}

/// Reads the log in this folder, which must be there, and makes a writer for it.
pub(super) fn load(path: &Path, disk: Arc<dyn Disk>, growth: Growth) -> Result<Writer, LogError> {
    let Loaded { index, segments, current, end, next, spare } = load::load(&*disk, path)?;
    let standing =
        Standing { ballot: index.ballot, purged: index.purged, committed: index.committed, last: index.last };
    let space = watch::Sender::new(None);
    let spares = Spares::start(disk, path, growth, current.number, spare, space.clone())?;
    let shared = Arc::new(Shared {
        path: path.to_owned(),
        segments: Mutex::new(segments),
        index: Mutex::new(index),
        fault: OnceLock::new(),
        failed: CancellationToken::new(),
        space,
        syncs: Histogram::default(),
        waits: AtomicBool::new(false),
    });
    Ok(Writer { shared, spares, current, end, next, standing, buffer: Vec::new() })
}

impl Log {
    /// Whether there is a log at this path, of whatever format.
    pub(crate) fn exists(path: &Path) -> bool {
        path.exists() || first_format::path(path).is_file()
    }

    /// Opens the log in this folder, made when absent, and reads all of it once: damage shows now, not in an election. A
    /// log in the first release's format beside it is converted.
    ///
    /// # Errors
    /// When the files cannot be opened or something stored is damaged; says which.
    pub(crate) fn open(path: &Path) -> Result<Self, LogError> {
        folder::make(path)?;
        Self::over(path, Arc::new(Folder::new(path)), GROWTH)
    }

    /// The log on such a disk; `path` is what errors name.
    pub(super) fn over(path: &Path, disk: Arc<dyn Disk>, growth: Growth) -> Result<Self, LogError> {
        let writer = load(path, disk, growth)?;
        let shared = writer.shared.clone();
        let (queue, jobs) = mpsc::channel(QUEUE);
        let handle = std::thread::Builder::new().name("raft-log".to_owned()).spawn(move || writer.run(jobs));
        let handle = handle.map_err(|error| folder::fault(path, "opening", &error))?;
        Ok(Self(Arc::new(Inner { shared, thread: Mutex::new(Some(Thread { queue, handle })) })))
    }

    /// Closes the files, whoever still holds a clone: what is queued is written, everything after that fails as closed.
    /// Waits for that: not for a runtime's thread.
    pub(crate) fn close(&self) {
        self.0.close();
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.0.shared.index()
    }

    /// The last purged entry, and the last entry (the same where none is left).
    pub(crate) fn ends(&self) -> (Option<Position>, Option<Position>) {
        let index = self.index();
        (index.purged, index.last)
    }

    /// The vote.
    pub(crate) fn ballot(&self) -> Option<Ballot> {
        self.index().ballot
    }

    /// The last entry known to be committed.
    pub(crate) fn committed(&self) -> Option<Position> {
        self.index().committed
    }

    /// Remembers what is committed; stored with the next write, since losing it costs only time.
    pub(crate) fn set_committed(&self, committed: Option<Position>) {
        self.index().committed = committed;
    }

    /// About how many bytes the entries behind this one have, or all of them.
    pub(crate) fn bytes_behind(&self, index: Option<u64>) -> usize {
        self.index().bytes_behind(index)
    }

    /// The entry up to which the log can be purged so that about this many bytes are left; `None` when it is smaller.
    pub(crate) fn excess(&self, kept: usize) -> Option<u64> {
        self.index().excess(kept)
    }

    /// The fault that ended the log, if one did.
    pub(crate) fn fault(&self) -> Option<LogError> {
        self.0.shared.fault.get().cloned()
    }

    /// Why the disk has no room for the next segment, while it has none. Changes still succeed until it is needed; then
    /// they fail as [`LogError::NoSpace`], and succeed again once there is room.
    pub(crate) fn space(&self) -> watch::Receiver<Option<LogError>> {
        self.0.shared.space.subscribe()
    }

    /// From now on a change that finds no room is not failed: it waits, and so does what follows, until there is room or
    /// the log is closed. Whoever would end by that error can live on.
    pub(crate) fn wait_for_space(&self) {
        self.0.shared.waits.store(true, Ordering::Relaxed);
    }

    /// Ends the log when something stored has turned out to be damaged.
    pub(crate) fn condemn(&self, error: &LogError) {
        if matches!(error, LogError::Damaged { .. }) {
            self.0.shared.fail(error);
        }
    }

    /// How long each write took until it was synced.
    pub(crate) fn syncs(&self) -> &Histogram {
        &self.0.shared.syncs
    }

    /// Is cancelled when a fault has ended the log.
    pub(crate) fn failed(&self) -> CancellationToken {
        self.0.shared.failed.clone()
    }

    /// Adds entries. They can be read when this returns; `done` is told when they are synced. Entries that have been
    /// purged already are passed over: a snapshot holds what they did.
    pub(crate) async fn append(&self, mut entries: Vec<Entry>, done: Done) -> Result<(), LogError> {
        let era = {
            let mut index = self.index();
            entries.retain(|entry| index.purged.is_none_or(|purged| purged.index < entry.position.index));
            for entry in &entries {
                if let (Some(next), Some(last)) = (index.next(), index.last)
                    && next != entry.position.index
                {
                    let path = self.0.shared.path.clone();
                    return Err(LogError::Gap { path, last: last.index, got: entry.position.index });
                }
                index.push(entry.clone());
            }
            index.era
        };
        self.submit(Job { work: Work::Append(entries), done, era }).await
    }

    /// Stores the vote; returns when it is synced.
    pub(crate) async fn save_ballot(&self, ballot: Ballot) -> Result<(), LogError> {
        let era = self.index().era;
        self.write(Work::Vote(ballot), era).await?;
        self.index().ballot = Some(ballot);
        Ok(())
    }

    /// Removes the entries from `from` on; returns when that is synced.
    pub(crate) async fn truncate(&self, from: u64) -> Result<(), LogError> {
        if self.index().next().is_none_or(|next| next <= from) {
            return Ok(());
        }
        let before = match from.checked_sub(1) {
            Some(index) => self.read(index, from, usize::MAX)?.first().map(|entry| entry.position),
            None => None,
        };
        let (before, era) = {
            let mut index = self.index();
            let before = before.or(index.purged);
            index.truncate(from, before);
            (before, index.era)
        };
        self.write(Work::Truncate(from, before), era).await
    }

    /// Removes the entries up to `upto`; returns when that is synced.
    pub(crate) async fn purge(&self, upto: Position) -> Result<(), LogError> {
        let era = {
            let mut index = self.index();
            index.purge(upto);
            index.era
        };
        self.write(Work::Purge(upto), era).await
    }

    /// Entries from `from` to before `to`, as far as they exist, and no more than `budget` bytes unless the first one
    /// alone is larger.
    pub(crate) fn read(&self, from: u64, to: u64, budget: usize) -> Result<Vec<Entry>, LogError> {
        let (from, stored_to, runs, rest) = {
            let index = self.index();
            let (from, to) = index.clip(from, to);
            let tail_start = index.tail_start();
            let stored_to = to.min(tail_start);
            let runs = self.runs(&index, from, stored_to, budget)?;
            let rest = match runs.last().is_none_or(|(_, run, _)| run.last + 1 >= stored_to) {
                true => limit(index.tail(from.max(tail_start), to).cloned(), budget),
                false => Vec::new(),
            };
            (from, stored_to, runs, rest)
        };
        let stored = runs.iter().map(|(first, run, segment)| read_run(segment, (*first).max(from), run, stored_to));
        let stored = stored.collect::<Result<Vec<_>, _>>()?.into_iter().flatten();
        Ok(limit(stored.chain(rest), budget))
    }

    /// Where `from..to` stands, until the budget is spent.
    fn runs(
        &self,
        index: &Index,
        from: u64,
        to: u64,
        budget: usize,
    ) -> Result<Vec<(u64, Run, Arc<Segment>)>, LogError> {
        let mut runs = Vec::new();
        if from >= to {
            return Ok(runs);
        }
        let segments = self.0.shared.segments();
        let mut bytes = 0_usize;
        for (first, run) in index.places.within(from, to) {
            if bytes > budget {
                break;
            }
            bytes = bytes.saturating_add(run.place.size);
            let segment = segments.get(&run.place.segment).ok_or(LogError::Closed)?;
            runs.push((first, run, segment.clone()));
        }
        Ok(runs)
    }

    async fn write(&self, work: Work, era: u64) -> Result<(), LogError> {
        let (sender, receiver) = oneshot::channel();
        let done = Box::new(move |result| drop(sender.send(result)));
        self.submit(Job { work, done, era }).await?;
        receiver.await.unwrap_or(Err(LogError::Closed))
    }

    async fn submit(&self, job: Job) -> Result<(), LogError> {
        if let Some(fault) = self.fault() {
            return Err(fault);
        }
        let queue = self.0.thread().as_ref().map(|thread| thread.queue.clone()).ok_or(LogError::Closed)?;
        queue.send(job).await.map_err(|_| LogError::Closed)
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("path", &self.0.shared.path).finish_non_exhaustive()
    }
}

impl Inner {
    fn thread(&self) -> MutexGuard<'_, Option<Thread>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let Some(Thread { queue, handle }) = self.thread().take() else { return };
        self.shared.waits.store(false, Ordering::Relaxed);
        drop(queue);
        if handle.join().is_err() {
            tracing::error!("the thread that writes the Raft log panicked");
        }
        self.shared.segments().clear();
    }
}

impl Drop for Inner {
    /// Waits for the writer, at most the one commit that is under way, so that the files are closed afterwards.
    fn drop(&mut self) {
        self.close();
    }
}

/// The entries `from..to` of this run.
fn read_run(segment: &Segment, from: u64, run: &Run, to: u64) -> Result<Vec<Entry>, LogError> {
    let place = run.place;
    let at = usize::try_from(place.offset).unwrap_or(usize::MAX);
    let mut bytes = vec![0; place.size];
    segment.file.read_at(place.offset, &mut bytes).map_err(|error| segment.io("reading", &error))?;
    let Look::Frame { body, .. } = frame::look(&bytes, 0, segment.salt, None) else {
        return Err(segment.damaged(at, "the frame is not as it was written"));
    };
    let mut entries = Vec::new();
    for item in items(body) {
        match item {
            Ok(Item::Entry(entry)) => {
                // Written again behind a truncation in the same frame: the later one counts.
                while entries.last().is_some_and(|last: &Entry| last.position.index >= entry.position.index) {
                    entries.pop();
                }
                entries.push(entry);
            }
            Ok(_) => (),
            Err(Unread::Damaged(why) | Unread::Newer(why)) => return Err(segment.damaged(at, why)),
        }
    }
    entries.retain(|entry| (from..to.min(run.last + 1)).contains(&entry.position.index));
    match entries.len() as u64 == (run.last + 1).min(to) - from {
        true => Ok(entries),
        false => Err(segment.damaged(at, "the frame lacks entries that it held")),
    }
}

/// Takes entries while they fit into `budget` bytes, the first one always.
fn limit(entries: impl Iterator<Item = Entry>, budget: usize) -> Vec<Entry> {
    let mut taken = Vec::new();
    let mut spent = 0_usize;
    for entry in entries {
        spent = spent.saturating_add(entry.size());
        if spent > budget && !taken.is_empty() {
            break;
        }
        taken.push(entry);
    }
    taken
}
