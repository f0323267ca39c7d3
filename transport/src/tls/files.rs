//! Files that may be replaced while the node runs.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// When to read files again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// When one of them looks different from the last time.
    Changed,
    /// Whatever they look like.
    Now,
}

/// What a file looks like from outside; `None` where there is none.
type Stamp = Option<(SystemTime, u64, u64)>;

/// Some files, and what they looked like when they were read.
#[derive(Debug)]
pub(super) struct Files {
    paths: Vec<PathBuf>,
    seen: Mutex<Vec<Stamp>>,
}

impl Files {
    /// Looks at the files. To be called before they are read, so that no change in between is missed.
    pub(super) fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let paths: Vec<_> = paths.into_iter().collect();
        let seen = Mutex::new(stamps(&paths));
        Self { paths, seen }
    }

    /// Whether they are to be read again now. Each change counts once, also if what was read is then refused.
    pub(super) fn due(&self, when: When) -> bool {
        let now = stamps(&self.paths);
        // A poisoned lock still holds whole stamps.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *seen != now;
        *seen = now;
        !self.paths.is_empty() && (changed || when == When::Now)
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    paths.iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Stamp {
    let data = std::fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len(), data.ino()))
}
