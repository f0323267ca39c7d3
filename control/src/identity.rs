//! The data folder: whose it is, and that nobody else uses it now.
//!
//! A node is who its folder says: the id is made once and kept. A copied folder would be a second voter with the first
//! one's name, so a folder is locked while a process uses it. Must never replace an id that is there but unreadable.

use crate::durable;
use crate::founding::{self, FoundingError};
use longshore_wire::NodeId;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// File that holds the node id as text.
pub(crate) const NODE_ID: &str = "node-id";
/// File that is locked while a process uses the folder.
const LOCK: &str = "lock";

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process uses it.
    #[error("{}: another process uses this data folder; stop it, or give this node a folder of its own", path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
    },
    /// The node id cannot be read.
    #[error("{}: this file should hold the node id, but {why}; restore it, or remove the whole data folder to start as a new node", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How it shows.
        why: String,
    },
    /// A new group in it is not complete.
    #[error(transparent)]
    Founding(#[from] FoundingError),
    /// The folder cannot be used at all.
    #[error("{}: {doing} failed: {cause}; check the path and its permissions", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The cause.
        cause: io::Error,
    },
}

/// A data folder that belongs to this process until this is dropped.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    node: NodeId,
    /// Closing the file gives the lock back.
    _lock: File,
}

impl DataFolder {
    /// Takes the folder, made when absent, and the node id in it, made when absent. Blocks for a few syncs.
    ///
    /// # Errors
    /// See [`FolderError`].
    pub(crate) fn open(path: &Path) -> Result<Self, FolderError> {
        let lock = lock(path)?;
        founding::finish(path)?;
        let file = path.join(NODE_ID);
        let node = match fs::read_to_string(&file) {
            Ok(text) => read_id(&text).map_err(|why| FolderError::Damaged { path: file, why })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let node = NodeId::from_u128(random_ulid());
                durable::replace(path, NODE_ID, |file| writeln!(file, "{node}"))
                    .map_err(io(&file, "writing the node id"))?;
                node
            }
            Err(cause) => return Err(io(&file, "reading the node id")(cause)),
        };
        Ok(Self { path: path.to_owned(), node, _lock: lock })
    }

    /// Whose folder it is.
    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes the folder when it is absent, and takes it for this process until the lock is dropped. Blocks.
///
/// # Errors
/// See [`FolderError`].
pub(crate) fn lock(path: &Path) -> Result<File, FolderError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io(path, "creating the data folder"))?;
    let lock = OpenOptions::new().write(true).mode(0o600).create(true).truncate(false).open(path.join(LOCK));
    let lock = lock.map_err(io(path, "locking the data folder"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(FolderError::Taken { path: path.to_owned() }),
        Err(TryLockError::Error(cause)) => Err(io(path, "locking the data folder")(cause)),
    }
}

fn io(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |cause| FolderError::Io { path, doing, cause }
}

fn read_id(text: &str) -> Result<NodeId, String> {
    match text.trim() {
        "" => Err("it is empty".to_owned()),
        id => id.parse().map_err(|error: longshore_wire::ids::IdError| error.to_string()),
    }
}

/// 128 fresh bits: milliseconds, then randomness (ULID).
pub(crate) fn random_ulid() -> u128 {
    ulid::Ulid::generate().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_stays_and_the_folder_is_locked() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let first = DataFolder::open(&path).unwrap();
        assert!(matches!(DataFolder::open(&path), Err(FolderError::Taken { .. })));
        let node = first.node();
        drop(first);
        assert_eq!(DataFolder::open(&path).unwrap().node(), node);
    }

    #[test]
    fn a_damaged_id_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NODE_ID), "").unwrap();
        let error = DataFolder::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("it is empty"), "{error}");
    }
}
