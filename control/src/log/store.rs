//! The handle of the log.

use super::index::Index;
use super::record::is_newer;
use super::writer::{self, Done, Job, Work};
use super::{Ballot, Entry, LogError, Position, open_record};
use crate::histogram::Histogram;
use redb::{Database, ReadableDatabase as _, TableDefinition};
use serde::de::DeserializeOwned;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub(super) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// redb's page cache in bytes, instead of its 1 GiB: the log is written once and read from the tail in memory.
const CACHE: usize = 4 * 1024 * 1024;
/// Jobs that may wait for the writer; then callers wait. openraft keeps few under way, so this is never the limit.
const QUEUE: usize = 1024;

/// The Raft log and vote. Cheap to clone; the file is closed by [`Log::close`], or when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Log(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    writer: Mutex<Option<Writer>>,
}

struct Writer {
    queue: mpsc::Sender<Job>,
    thread: JoinHandle<()>,
}

/// What handle and writer thread share.
pub(super) struct Shared {
    path: PathBuf,
    /// `None` once closed.
    database: RwLock<Option<Database>>,
    index: Mutex<Index>,
    pub(super) fault: OnceLock<LogError>,
    failed: CancellationToken,
    /// How long each write took until it was synced.
    pub(super) syncs: Histogram,
}

impl Shared {
    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works with the open file.
    pub(super) fn with_database<T>(&self, work: impl FnOnce(&Database) -> Result<T, LogError>) -> Result<T, LogError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        database.as_ref().map_or(Err(LogError::Closed), work)
    }

    pub(super) fn io(&self, doing: &'static str, cause: &dyn fmt::Display) -> LogError {
        LogError::Io { path: self.path.clone(), doing, cause: cause.to_string() }
    }

    /// Remembers the first fault, and that it happened.
    pub(super) fn fail(&self, fault: &LogError) {
        let _ = self.fault.set(fault.clone());
        self.failed.cancel();
    }

    fn open<T: DeserializeOwned>(&self, what: impl fmt::Display, record: &[u8]) -> Result<T, LogError> {
        open_record(record).map_err(|why| match is_newer(record) {
            true => LogError::Newer { path: self.path.clone(), what: what.to_string(), why },
            false => self.damaged(what, why),
        })
    }

    fn damaged(&self, what: impl fmt::Display, why: impl Into<String>) -> LogError {
        LogError::Damaged { path: self.path.clone(), what: what.to_string(), why: why.into() }
    }
}

impl Log {
    /// Opens the log in this file, made when absent, and reads all of it once: damage shows now, not in an election.
    ///
    /// # Errors
    /// When the file cannot be opened or a stored value is damaged; says which.
    pub(crate) fn open(path: &Path) -> Result<Self, LogError> {
        let database = Database::builder().set_cache_size(CACHE).create(path);
        let log = Self::over(path, database.map_err(|error| broken(path, &error))?)?;
        if let Some(folder) = path.parent() {
            // Without this a power cut could take the new file's name away.
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| opening(path, &error))?;
        }
        Ok(log)
    }

    /// The log in an open database; `path` is what errors name.
    pub(super) fn over(path: &Path, database: Database) -> Result<Self, LogError> {
        make_tables(&database).map_err(|error| opening(path, &error))?;
        let shared = Shared {
            path: path.to_owned(),
            database: RwLock::new(Some(database)),
            index: Mutex::default(),
            fault: OnceLock::new(),
            failed: CancellationToken::new(),
            syncs: Histogram::default(),
        };
        let index = shared.with_database(|database| load(&shared, database))?;
        *shared.index() = index;
        let shared = Arc::new(shared);
        let (queue, jobs) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("raft-log".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || writer::run(&shared, jobs)
            })
            .map_err(|error| opening(path, &error))?;
        Ok(Self(Arc::new(Inner { shared, writer: Mutex::new(Some(Writer { queue, thread })) })))
    }

    /// Closes the file, whoever still holds a clone: what is queued is written, everything after that fails as closed.
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
        {
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
        }
        self.submit(Job { work: Work::Append(entries), done }).await
    }

    /// Stores the vote; returns when it is synced.
    pub(crate) async fn save_ballot(&self, ballot: Ballot) -> Result<(), LogError> {
        self.write(Work::Vote(ballot)).await?;
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
        {
            let mut index = self.index();
            let before = before.or(index.purged);
            index.truncate(from, before);
        }
        self.write(Work::Truncate(from)).await
    }

    /// Removes the entries up to `upto`; returns when that is synced.
    pub(crate) async fn purge(&self, upto: Position) -> Result<(), LogError> {
        self.index().purge(upto);
        self.write(Work::Purge(upto)).await
    }

    /// Entries from `from` to before `to`, as far as they exist, and no more than `budget` bytes unless the first one
    /// alone is larger.
    pub(crate) fn read(&self, from: u64, to: u64, budget: usize) -> Result<Vec<Entry>, LogError> {
        let (from, to, tail_start, tail) = {
            let index = self.index();
            let (from, to) = index.clip(from, to);
            let tail_start = index.tail_start();
            let tail = if from >= tail_start { limit(index.tail(from, to).cloned().map(Ok), budget)? } else { vec![] };
            (from, to, tail_start, tail)
        };
        if from >= to || from >= tail_start {
            return Ok(tail);
        }
        let stored = self.read_file(from, to.min(tail_start), budget)?;
        let spent: usize = stored.iter().map(Entry::size).sum();
        let stopped_short = stored.last().is_some_and(|last| last.position.index + 1 != tail_start);
        if to <= tail_start || stopped_short || spent >= budget {
            return Ok(stored);
        }
        let index = self.index();
        let rest = index.tail(tail_start, to).scan(spent, |spent, entry| {
            *spent = spent.saturating_add(entry.size());
            (*spent <= budget).then(|| entry.clone())
        });
        Ok(stored.into_iter().chain(rest).collect())
    }

    fn read_file(&self, from: u64, to: u64, budget: usize) -> Result<Vec<Entry>, LogError> {
        self.0.shared.with_database(|database| read_entries(&self.0.shared, database, from, to, budget))
    }

    async fn write(&self, work: Work) -> Result<(), LogError> {
        let (sender, receiver) = oneshot::channel();
        let done = Box::new(move |result| drop(sender.send(result)));
        self.submit(Job { work, done }).await?;
        receiver.await.unwrap_or(Err(LogError::Closed))
    }

    async fn submit(&self, job: Job) -> Result<(), LogError> {
        if let Some(fault) = self.fault() {
            return Err(fault);
        }
        let queue = self.0.writer().as_ref().map(|writer| writer.queue.clone()).ok_or(LogError::Closed)?;
        queue.send(job).await.map_err(|_| LogError::Closed)
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("path", &self.0.shared.path).finish_non_exhaustive()
    }
}

impl Inner {
    fn writer(&self) -> MutexGuard<'_, Option<Writer>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let Some(Writer { queue, thread }) = self.writer().take() else { return };
        drop(queue);
        if thread.join().is_err() {
            tracing::error!("the thread that writes the Raft log panicked");
        }
        *self.shared.database.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Drop for Inner {
    /// Waits for the writer, at most the one commit that is under way, so that the file is closed afterwards.
    fn drop(&mut self) {
        self.close();
    }
}

fn read_entries(
    shared: &Shared,
    database: &Database,
    from: u64,
    to: u64,
    budget: usize,
) -> Result<Vec<Entry>, LogError> {
    let io = |error: redb::Error| shared.io("reading", &error);
    let transaction = database.begin_read().map_err(|error| io(error.into()))?;
    let table = transaction.open_table(LOG).map_err(|error| io(error.into()))?;
    let range = table.range(from..to).map_err(|error| io(error.into()))?;
    let entries = range.map(|item| {
        let (key, record) = item.map_err(|error| io(error.into()))?;
        shared.open(format_args!("log entry {}", key.value()), record.value())
    });
    limit(entries, budget)
}

/// Takes entries while they fit into `budget` bytes, the first one always.
fn limit(entries: impl Iterator<Item = Result<Entry, LogError>>, budget: usize) -> Result<Vec<Entry>, LogError> {
    let mut taken = Vec::new();
    let mut spent = 0_usize;
    for entry in entries {
        let entry = entry?;
        spent = spent.saturating_add(entry.size());
        if spent > budget && !taken.is_empty() {
            break;
        }
        taken.push(entry);
    }
    Ok(taken)
}

fn opening(path: &Path, cause: &dyn fmt::Display) -> LogError {
    LogError::Io { path: path.to_owned(), doing: "opening", cause: cause.to_string() }
}

/// A file that is no database any more, or one that cannot be opened now.
fn broken(path: &Path, error: &redb::DatabaseError) -> LogError {
    let damage = match error {
        redb::DatabaseError::Storage(redb::StorageError::Corrupted(_)) | redb::DatabaseError::RepairAborted => true,
        redb::DatabaseError::Storage(redb::StorageError::Io(error)) => {
            matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
        }
        _ => false,
    };
    match damage {
        true => LogError::Damaged { path: path.to_owned(), what: "the file".to_owned(), why: error.to_string() },
        false => opening(path, error),
    }
}

fn make_tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(LOG)?;
    transaction.open_table(META)?;
    transaction.commit()?;
    Ok(())
}

/// Reads the whole file: every record is opened, every number must follow on the one before.
fn load(shared: &Shared, database: &Database) -> Result<Index, LogError> {
    let io = |error: redb::Error| shared.io("reading", &error);
    let transaction = database.begin_read().map_err(|error| io(error.into()))?;
    let meta = transaction.open_table(META).map_err(|error| io(error.into()))?;
    let purged: Option<Position> = stored(shared, &meta, "purged")?;
    let mut index = Index::default();
    (index.purged, index.last) = (purged, purged);
    index.ballot = stored(shared, &meta, "vote")?;
    index.committed = stored(shared, &meta, "committed")?;
    let log = transaction.open_table(LOG).map_err(|error| io(error.into()))?;
    for item in log.range::<u64>(..).map_err(|error| io(error.into()))? {
        let (key, record) = item.map_err(|error| io(error.into()))?;
        let number = key.value();
        let entry: Entry = shared.open(format_args!("log entry {number}"), record.value())?;
        let expected = index.next().unwrap_or(number);
        if entry.position.index != number || number != expected {
            let why = format!("it holds entry {}, where entry {expected} must stand", entry.position.index);
            return Err(shared.damaged(format_args!("log entry {number}"), why));
        }
        index.push(entry);
        index.shrink(number + 1);
    }
    Ok(index)
}

fn stored<T: DeserializeOwned>(
    shared: &Shared,
    meta: &impl redb::ReadableTable<&'static str, &'static [u8]>,
    name: &'static str,
) -> Result<Option<T>, LogError> {
    let record = meta.get(name).map_err(|error| shared.io("reading", &error))?;
    record.map(|record| shared.open(name, record.value())).transpose()
}
