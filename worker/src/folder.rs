//! The worker's data folder: who holds it, what lies where, and how a file in it is replaced.
//!
//! ```text
//! worker.lock  node-id  cluster.json          s/<short>.sock      cache/<digest>/…
//! tasks/<task>/task.json  log  log.1  data/
//! ```
//!
//! Never writes outside itself; names that come from the cluster are checked before they become paths.

use crate::StartError;
use longshore_wire::{NodeId, TaskId};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use ulid::Ulid;

/// How long a lock may still be held by what is just being started or just ending.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two tries.
const LOCK_POLL: Duration = Duration::from_millis(10);
/// Longest task id that becomes a folder's name: an instance's 64 characters, a dash, a short id.
const MAX_TASK_ID: usize = 80;

/// A data folder, held by this process until dropped.
pub(crate) struct Folder {
    paths: Paths,
    _lock: File,
}

/// What lies where. Cheap to clone; holds nothing.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    root: PathBuf,
}

impl Folder {
    /// Makes the folder when absent, and takes it.
    pub(crate) fn open(path: &Path) -> Result<Self, StartError> {
        make_private(path).map_err(|source| StartError::Folder { path: path.to_owned(), source })?;
        let root = path.canonicalize().map_err(|source| StartError::Folder { path: path.to_owned(), source })?;
        let lock = take_lock(&root)?;
        let paths = Paths { root };
        for part in [paths.tasks(), paths.cache()] {
            make_private(&part).map_err(|source| StartError::Folder { path: part, source })?;
        }
        Ok(Self { paths, _lock: lock })
    }

    /// What lies where.
    pub(crate) fn paths(&self) -> Paths {
        self.paths.clone()
    }

    /// The node's id, made at the first start.
    pub(crate) fn node_id(&self) -> Result<NodeId, StartError> {
        let path = self.paths.root.join("node-id");
        match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| StartError::Damaged {
                path,
                reason: "this is not a node id; restore the file, or remove it to enrol as a new worker".into(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let id = NodeId::from_u128(Ulid::generate().into());
                replace(&path, format!("{id}\n").as_bytes()).map_err(|source| StartError::Folder { path, source })?;
                Ok(id)
            }
            Err(source) => Err(StartError::Folder { path, source }),
        }
    }
}

/// Takes the lock, with some patience: a process that is being started holds a copy of its parent's lock until it executes
/// its own program, also when the parent is already gone.
fn take_lock(root: &Path) -> Result<File, StartError> {
    let path = root.join("worker.lock");
    let fail = |source| StartError::Folder { path: path.clone(), source };
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(fail)?;
    let begin = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if begin.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_POLL),
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StartError::InUse(root.to_owned())),
            Err(error) => return Err(fail(error.into())),
        }
    }
}

impl Paths {
    /// The data folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What the worker remembers of its cluster.
    pub(crate) fn cluster(&self) -> PathBuf {
        self.root.join("cluster.json")
    }

    /// All tasks' folders.
    pub(crate) fn tasks(&self) -> PathBuf {
        self.root.join("tasks")
    }

    /// The unpacked archives.
    pub(crate) fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// One task's folder. The id must have passed [`check_task_id`].
    pub(crate) fn task(&self, task: &TaskId) -> PathBuf {
        self.tasks().join(task.as_str())
    }

    /// The folder that a task may write to.
    pub(crate) fn task_data(&self, task: &TaskId) -> PathBuf {
        self.task(task).join("data")
    }
}

/// Whether a task id can be a folder's name: no separator, no dot in front, nothing that a shell would mind.
pub(crate) fn check_task_id(task: &TaskId) -> bool {
    let text = task.as_str();
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    (1..=MAX_TASK_ID).contains(&text.len()) && text.bytes().all(fine) && !text.starts_with(['.', '-', '_'])
}

/// Makes a folder and its parents, for this user only.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Replaces a file so that after a crash or a power cut it holds either all of the old content or all of the new.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_and_a_lasting_id() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("a/b")).unwrap();
        let id = folder.node_id().unwrap();
        assert!(matches!(Folder::open(&dir.path().join("a/b")), Err(StartError::InUse(_))));
        drop(folder);
        let folder = Folder::open(&dir.path().join("a/b")).unwrap();
        assert_eq!(folder.node_id().unwrap(), id);
        fs::write(dir.path().join("a/b/node-id"), "rubbish").unwrap();
        assert!(matches!(folder.node_id(), Err(StartError::Damaged { .. })));
    }

    #[test]
    fn task_ids_stay_inside() {
        for fine in ["greeter-3", "a.b_c-12"] {
            assert!(check_task_id(&TaskId(fine.into())), "{fine}");
        }
        for wrong in ["", "..", ".a", "a/b", "A-1", "a b", &"a".repeat(81)] {
            assert!(!check_task_id(&TaskId(wrong.into())), "{wrong}");
        }
    }
}
