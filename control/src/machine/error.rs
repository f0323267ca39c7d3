//! What can go wrong with the state machine.

use longshore_state::snapshot::SnapshotError;
use std::io;
use std::path::{Path, PathBuf};

/// A fault of the state machine or its files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    /// A file or folder cannot be read or written.
    #[error("{}: {doing} failed: {cause}; check the disk, then start the node again", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The cause.
        cause: io::Error,
    },
    /// A snapshot is not what was written.
    #[error("{}: the snapshot is damaged: {cause}", path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// How it shows.
        cause: SnapshotError,
    },
    /// A snapshot's description of itself cannot be read.
    #[error("{}: the snapshot's description is damaged: {why}", path.display())]
    Meta {
        /// The file.
        path: PathBuf,
        /// How it shows.
        why: String,
    },
    /// A log entry cannot be read.
    #[error(
        "log entry {index} cannot be applied: {why}; all control nodes need the newest release that any of them runs"
    )]
    Entry {
        /// Its number.
        index: u64,
        /// How it shows.
        why: String,
    },
}

impl MachineError {
    /// Whether a file is not what was written, as against one that cannot be read now or by this release.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Snapshot { cause, .. } => matches!(
                cause,
                SnapshotError::Truncated { .. }
                    | SnapshotError::Magic
                    | SnapshotError::Damaged { .. }
                    | SnapshotError::Count { .. }
            ),
            Self::Meta { why, .. } => !why.starts_with("its format is"),
            Self::Io { .. } | Self::Entry { .. } => false,
        }
    }

    /// The same for who knows nothing of machines; the kind of the cause stays.
    pub(crate) fn into_io(self) -> io::Error {
        let kind = if let Self::Io { cause, .. } = &self { cause.kind() } else { io::ErrorKind::Other };
        io::Error::new(kind, self)
    }

    pub(super) fn io(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { path: path.to_owned(), doing, cause }
    }
}
