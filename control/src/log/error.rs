//! What can go wrong with the log file.

use std::path::PathBuf;

/// A fault of the log. Cloneable, since everybody who waits for the same commit gets it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LogError {
    /// The file cannot be opened, read, written or synced.
    #[error("{}: {doing} the Raft log failed: {cause}; check the disk, then start the node again", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The cause.
        cause: String,
    },
    /// The disk has no room for the next segment. Nothing was written, what is stored can be read, and what is appended
    /// once there is room again is stored.
    #[error("{}: the disk has no room for the next segment of the Raft log: {cause}; make room there", path.display())]
    NoSpace {
        /// The segment's file.
        path: PathBuf,
        /// The cause.
        cause: String,
    },
    /// A stored value is not what was written.
    #[error("{}: {what} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which value.
        what: String,
        /// How it shows.
        why: String,
    },
    /// A stored value is intact, but a newer release wrote it.
    #[error("{}: {what} was written by a newer release: {why}; start that release again", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Which value.
        what: String,
        /// How it shows.
        why: String,
    },
    /// Entries that do not follow on the last one.
    #[error("{}: entry {got} was to follow on entry {last}; this is a fault of the program", path.display())]
    Gap {
        /// The file.
        path: PathBuf,
        /// The last entry.
        last: u64,
        /// The entry that was to be appended.
        got: u64,
    },
    /// The log has been closed.
    #[error("the Raft log is closed")]
    Closed,
}
