//! The folder of snapshot files.

use super::MachineError;
use super::partial::{self, Partial, PartialId};
use crate::durable;
use crate::log::{Members, Position, open_record, seal_record};
use longshore_state::{State, snapshot};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Snapshots that are kept: the newest, and one before it for the operator.
const KEPT: usize = 2;
/// How finished snapshots end.
const SUFFIX: &str = ".snap";
/// How unfinished files end; removed at the start.
const UNFINISHED: &str = ".tmp";
/// How those end that have turned out to be damaged.
const DAMAGED: &str = "snap-damaged";
/// Buffer of a snapshot's file.
const BUFFER: usize = 256 * 1024;

/// Up to where a state reaches.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// The last entry applied.
    pub(crate) applied: Option<Position>,
    /// Who belongs to the group.
    pub(crate) members: Members,
    /// The entry that said so.
    pub(crate) members_at: Option<Position>,
}

/// A checked snapshot. Holds its file open, so that it can be read even once newer ones have replaced it.
#[derive(Clone)]
pub(crate) struct SnapshotFile {
    /// Up to where it reaches.
    pub(crate) meta: Meta,
    /// Bytes.
    pub(crate) size: u64,
    path: PathBuf,
    file: Arc<File>,
    /// The state within, where it has been read already.
    state: Option<State>,
}

impl fmt::Debug for SnapshotFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotFile").field("path", &self.path).field("size", &self.size).finish_non_exhaustive()
    }
}

impl SnapshotFile {
    /// Tells this file apart from another one of the same state and size: when it was written, in nanoseconds.
    pub(crate) fn stamp(&self) -> u64 {
        let since = self.made().and_then(|made| made.duration_since(SystemTime::UNIX_EPOCH).ok());
        since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// When it was written here.
    pub(crate) fn made(&self) -> Option<SystemTime> {
        self.file.metadata().ok()?.modified().ok()
    }

    pub(super) fn open(path: PathBuf, meta: Meta) -> Result<Self, MachineError> {
        let file = open(&path)?;
        let size = file.metadata().map_err(MachineError::io(&path, "reading a snapshot"))?.len();
        Ok(Self { meta, size, path, file: Arc::new(file), state: None })
    }

    /// The same with its state, once the whole file is read and is what its description says.
    pub(super) fn checked(mut self) -> Result<Self, MachineError> {
        let (state, meta) = self.load()?;
        if meta.applied != self.meta.applied {
            let why = "it reaches elsewhere than its sender says".to_owned();
            return Err(MachineError::Meta { path: self.path, why });
        }
        self.state = Some(state);
        Ok(self)
    }

    /// Reads from `offset`; fewer bytes than asked for only at the end. Independent of other readers.
    pub(crate) fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, MachineError> {
        let mut bytes = Vec::with_capacity(length);
        let limit = u64::try_from(length).unwrap_or(u64::MAX);
        let mut reader = ReadAt { file: Arc::clone(&self.file), offset }.take(limit);
        reader.read_to_end(&mut bytes).map_err(MachineError::io(&self.path, "reading a snapshot"))?;
        Ok(bytes)
    }

    /// Its name in the folder.
    #[cfg(test)]
    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap().to_string_lossy().into_owned()
    }

    /// The state within.
    pub(crate) fn state(&self) -> Result<State, MachineError> {
        match &self.state {
            Some(state) => Ok(state.clone()),
            None => self.load().map(|(state, _)| state),
        }
    }

    /// Reads and checks the whole file.
    pub(crate) fn load(&self) -> Result<(State, Meta), MachineError> {
        load(ReadAt { file: Arc::clone(&self.file), offset: 0 }, &self.path)
    }
}

/// Reads a shared file without touching its position.
struct ReadAt {
    file: Arc<File>,
    offset: u64,
}

impl Read for ReadAt {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += u64::try_from(count).unwrap_or(0);
        Ok(count)
    }
}

/// The folder. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots {
    folder: Arc<PathBuf>,
    newest: Arc<Mutex<Option<SnapshotFile>>>,
    /// Whether the newest one has turned out to be damaged.
    damaged: Arc<AtomicBool>,
}

impl Snapshots {
    /// Takes the folder, made when absent, and clears away what a crash left unfinished.
    pub(crate) fn open(folder: &Path) -> Result<Self, MachineError> {
        fs::create_dir_all(folder).map_err(MachineError::io(folder, "creating the snapshot folder"))?;
        for name in names(folder)?.iter().filter(|name| name.ends_with(UNFINISHED)) {
            let path = folder.join(name);
            fs::remove_file(&path).map_err(MachineError::io(&path, "removing an unfinished snapshot"))?;
        }
        let snapshots = Self { folder: Arc::new(folder.to_owned()), newest: Arc::default(), damaged: Arc::default() };
        snapshots.remove_parts(snapshots.finished()?.last().and_then(|path| index(path)).unwrap_or(0))?;
        Ok(snapshots)
    }

    /// The state of the newest snapshot. A damaged one is an error, not a reason to take an older one: the log behind
    /// the older one has been purged.
    pub(super) fn restore(&self) -> Result<Option<(State, Meta)>, MachineError> {
        let Some(path) = self.finished()?.pop() else { return Ok(None) };
        let (state, meta) = load(open(&path)?, &path)?;
        self.set_newest(SnapshotFile::open(path, meta.clone())?);
        Ok(Some((state, meta)))
    }

    /// The newest snapshot.
    pub(crate) fn newest(&self) -> Option<SnapshotFile> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the newest snapshot has turned out to be damaged, so that another one must be written in its place.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Reads a snapshot that a receiver has found damaged. If it is, it is named and put aside; says so. Blocks: not for a
    /// runtime's thread.
    pub(crate) fn examine(&self, file: &SnapshotFile) -> bool {
        let Err(error) = file.load() else { return false };
        let aside = file.path.with_extension(DAMAGED);
        let moved = fs::rename(&file.path, &aside);
        let aside = aside.display();
        tracing::error!(%error, ?moved, %aside, "a stored snapshot is damaged; it is put aside and written anew; check the disk");
        self.damaged.store(self.newest().is_some_and(|newest| newest.path == file.path), Ordering::Relaxed);
        true
    }

    fn set_newest(&self, file: SnapshotFile) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let index = |file: &SnapshotFile| file.meta.applied.map(|position| position.index);
        // One that was begun before a newer one was received may be finished behind it.
        if newest.as_ref().is_none_or(|newest| index(newest) <= index(&file)) {
            *newest = Some(file);
            self.damaged.store(false, Ordering::Relaxed);
        }
    }

    /// Finished snapshots, oldest first: the names sort as their numbers do.
    fn finished(&self) -> Result<Vec<PathBuf>, MachineError> {
        let mut names = names(&self.folder)?;
        names.retain(|name| is_finished(name));
        names.sort();
        Ok(names.iter().map(|name| self.folder.join(name)).collect())
    }

    /// Writes a snapshot, synced, under its final name only when complete.
    pub(crate) fn save(&self, state: &State, meta: &Meta) -> Result<SnapshotFile, MachineError> {
        let (index, term) = meta.applied.map_or((0, 0), |position| (position.index, position.term));
        let path = self.folder.join(format!("{index:020}-{term:020}{SUFFIX}"));
        let unfinished = self.folder.join(format!("{index:020}-{term:020}{SUFFIX}{UNFINISHED}"));
        if let Err(cause) = write(&unfinished, state, meta) {
            // Nobody gains from a disk that it fills.
            let _ = fs::remove_file(&unfinished);
            return Err(MachineError::io(&unfinished, "writing a snapshot")(cause));
        }
        fs::rename(&unfinished, &path).map_err(MachineError::io(&path, "renaming a snapshot"))?;
        sync_folder(&self.folder)?;
        self.prune(index);
        let file = SnapshotFile::open(path, meta.clone())?;
        self.set_newest(file.clone());
        Ok(file)
    }

    /// Removes all but the newest, and parts that are of no use any more; a file that cannot be removed costs space,
    /// nothing else.
    fn prune(&self, index: u64) {
        let (Ok(()), Ok(mut found)) = (self.remove_parts(index), self.finished()) else { return };
        found.truncate(found.len().saturating_sub(KEPT));
        for path in found {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "an old snapshot cannot be removed");
            }
        }
    }

    /// What has arrived of this snapshot. Parts of others are removed.
    pub(crate) fn part(&self, id: &PartialId) -> Result<Partial, MachineError> {
        let wanted = id.name();
        for name in names(&self.folder)?.iter().filter(|name| name.ends_with(partial::SUFFIX) && **name != wanted) {
            partial::remove(&self.folder.join(name));
        }
        Partial::open(&self.folder, id)
    }

    /// Removes parts of snapshots that reach no further than this entry.
    fn remove_parts(&self, index: u64) -> Result<(), MachineError> {
        let stale =
            |name: &&String| name.ends_with(partial::SUFFIX) && partial::index(name).is_none_or(|part| part <= index);
        for name in names(&self.folder)?.iter().filter(stale) {
            partial::remove(&self.folder.join(name));
        }
        Ok(())
    }
}

fn names(folder: &Path) -> Result<Vec<String>, MachineError> {
    let io = |cause| MachineError::io(folder, "listing the snapshot folder")(cause);
    let items = fs::read_dir(folder).map_err(io)?;
    let names = items.map(|item| item.map(|item| item.file_name().to_string_lossy().into_owned()));
    names.collect::<Result<_, _>>().map_err(io)
}

pub(super) fn is_finished(name: &str) -> bool {
    let numbers = name.strip_suffix(SUFFIX).and_then(|stem| stem.split_once('-'));
    let number = |text: &str| text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|(index, term)| number(index) && number(term))
}

/// Up to where the finished snapshot with this name reaches.
fn index(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.split('-').next()?.parse().ok()
}

fn write(path: &Path, state: &State, meta: &Meta) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER, File::create(path)?);
    snapshot::write(state, &seal_record(meta), &mut out)?;
    out.flush()?;
    out.get_ref().sync_all()
}

fn open(path: &Path) -> Result<File, MachineError> {
    File::open(path).map_err(MachineError::io(path, "opening a snapshot"))
}

fn load(input: impl Read, path: &Path) -> Result<(State, Meta), MachineError> {
    let mut input = BufReader::with_capacity(BUFFER, input);
    let (state, meta) =
        snapshot::read(&mut input).map_err(|cause| MachineError::Snapshot { path: path.to_owned(), cause })?;
    let meta = open_record(&meta).map_err(|why| MachineError::Meta { path: path.to_owned(), why })?;
    Ok((state, meta))
}

fn sync_folder(folder: &Path) -> Result<(), MachineError> {
    durable::sync(folder).map_err(MachineError::io(folder, "syncing the snapshot folder"))
}
