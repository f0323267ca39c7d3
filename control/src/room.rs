//! Whether there is room on the disk below the data folder.
//!
//! ```text
//!            below `low`            below half of it
//!  Enough ──────────────▶ Short ──────────────────────▶ Full
//!     ▲                     │  ▲                          │
//!     └── twice `low` ──────┘  └── above half of `low` ───┘
//! ```
//!
//! A node that is short of room neither leads nor takes new writes on; one that is full does not take the leader's either.
//! Both while everything that must be written to stay alive (votes, what is committed) still fits. Owns the judgement and
//! the sentence about it; what follows from it is the group's.

use longshore_wire::{Code, Failure};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How often the disk is looked at.
const EVERY: Duration = Duration::from_millis(500);
/// Bytes that are taken of others when the disk has just run full.
const GRACE: u64 = 4 * 1024 * 1024;
/// Pause before something is written again that found no room.
const AGAIN: Duration = Duration::from_secs(1);

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// The leader's entries are refused, too.
    Full,
    /// New writes are refused, and somebody else shall lead.
    Short,
    /// All is well.
    Enough,
}

/// The disk below a folder. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    low: u64,
    free: AtomicU64,
    level: watch::Sender<Level>,
    /// Bytes that may yet be taken of what was under way when the disk ran full.
    grace: AtomicU64,
    stop: CancellationToken,
}

impl Room {
    /// Judges the disk of this folder; `low` in bytes, 0 for one that is never judged short. What waits for room gives up
    /// when `stop` is cancelled.
    pub(crate) fn new(folder: &Path, low: u64, stop: CancellationToken) -> Self {
        let level = watch::Sender::new(Level::Enough);
        let (free, grace) = (AtomicU64::new(u64::MAX), AtomicU64::new(GRACE));
        let room = Self(Arc::new(Inner { folder: folder.to_owned(), low, free, level, grace, stop }));
        room.look();
        room
    }

    /// Looks at the disk until the node stops.
    pub(crate) async fn run(self) {
        loop {
            tokio::select! {
                biased;
                () = self.0.stop.cancelled() => return,
                () = sleep(EVERY) => self.look(),
            }
        }
    }

    /// How much there is.
    pub(crate) fn level(&self) -> Level {
        *self.0.level.borrow()
    }

    /// Wakes when that has changed.
    pub(crate) fn changed(&self) -> watch::Receiver<Level> {
        self.0.level.subscribe()
    }

    /// Whether so many bytes may be written without running short.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        self.0.free.load(Ordering::Relaxed) >= bytes.saturating_add(self.0.low)
    }

    /// Takes so many bytes of others. A full disk takes only a little more: what was under way when it ran full, so that
    /// the group can come to an end with it.
    ///
    /// # Errors
    /// `NoSpace` when nothing more is taken.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), Failure> {
        if self.level() > Level::Full {
            return Ok(());
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let left = |grace: u64| grace.checked_sub(bytes);
        let taken = self.0.grace.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        taken.map(drop).map_err(|_| self.refusal())
    }

    /// The sentence about too little room.
    pub(crate) fn refusal(&self) -> Failure {
        Failure::new(Code::NoSpace, self.to_string())
    }

    /// Does work that found no room again and again until it fits, or fails otherwise, or the node stops.
    ///
    /// # Errors
    /// What the work says.
    pub(crate) async fn until_fits<T, F>(&self, what: &str, mut work: impl FnMut() -> F) -> io::Result<T>
    where
        F: Future<Output = io::Result<T>>,
    {
        let mut told = false;
        loop {
            match work().await {
                Err(error) if is_full(&error) && !self.0.stop.is_cancelled() => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(what, room = %self, "there is no room on the disk; it is tried again until there is");
                    }
                    tokio::select! {
                        () = self.0.stop.cancelled() => return Err(error),
                        () = sleep(AGAIN) => (),
                    }
                }
                ended => return ended,
            }
        }
    }

    fn look(&self) {
        let inner = &self.0;
        // A disk that does not say how full it is is judged by what it refuses.
        let Ok(disk) = rustix::fs::statvfs(&inner.folder) else { return };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        inner.free.store(free, Ordering::Relaxed);
        let before = self.level();
        let now = judge(before, free, inner.low);
        if now > Level::Full {
            inner.grace.store(GRACE, Ordering::Relaxed);
        }
        inner.level.send_if_modified(|level| std::mem::replace(level, now) != now);
        match (before, now) {
            (Level::Enough, Level::Short | Level::Full) => tracing::error!(room = %self, "the disk is nearly full"),
            (Level::Short | Level::Full, Level::Enough) => tracing::info!(free, "there is room on the disk again"),
            _ => (),
        }
    }
}

fn judge(before: Level, free: u64, low: u64) -> Level {
    match before {
        _ if free < low / 2 => Level::Full,
        _ if free < low => Level::Short,
        Level::Short | Level::Full if free < low.saturating_mul(2) => Level::Short,
        _ => Level::Enough,
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { folder, low, free, .. } = &*self.0;
        let (free, low, enough) = (free.load(Ordering::Relaxed) >> 20, low >> 20, low.saturating_mul(2) >> 20);
        let folder = folder.display();
        write!(
            f,
            "{free} MiB are free below the data folder {folder}; below {low} MiB (limits.disk_low_mib) this control node takes no writes and \
             does not lead: make room there, from {enough} MiB on it goes on by itself"
        )
    }
}

/// Whether an error says that the disk, or the share of it, is full.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_short_until_there_is_twice_as_much() {
        let frees = [200, 99, 101, 49, 51, 199, 200, 100];
        let levels = frees.iter().scan(Level::Enough, |level, free| {
            *level = judge(*level, *free, 100);
            Some(*level)
        });
        use Level::{Enough, Full, Short};
        assert_eq!(levels.collect::<Vec<_>>(), [Enough, Short, Short, Full, Short, Short, Enough, Enough]);
        assert_eq!(judge(Enough, 0, 0), Enough, "never judged");
    }

    #[tokio::test]
    async fn a_full_disk_takes_what_was_under_way_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        // No disk has so much.
        let room = Room::new(folder.path(), u64::MAX, CancellationToken::new());
        assert_eq!(room.level(), Level::Full);
        let taken = (0..100).filter(|_| room.take(1024 * 1024).is_ok()).count();
        assert_eq!(taken, 4);
        assert_eq!(room.take(1024 * 1024).unwrap_err().code, Code::NoSpace);
        assert!(!room.fits(0));
        let enough = Room::new(folder.path(), 0, CancellationToken::new());
        assert!((0..100).all(|_| enough.take(1024 * 1024).is_ok()));
    }

    #[tokio::test]
    async fn what_found_no_room_is_done_once_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::new(folder.path(), 0, CancellationToken::new());
        let mut left = 2;
        let work = || {
            left -= 1;
            std::future::ready(if left > 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(left) })
        };
        assert_eq!(room.until_fits("a test", work).await.unwrap(), 0);
        let other = || std::future::ready(Err::<(), _>(io::ErrorKind::NotFound.into()));
        assert_eq!(room.until_fits("a test", other).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
