//! Which snapshot is being sent, so that neither it nor the log behind it goes away meanwhile.
//!
//! A follower that has installed a snapshot goes on with the log behind it. If that had been purged while the snapshot
//! travelled, the next snapshot would have to follow, and so on for as long as anybody writes. So a snapshot that is sent
//! holds the log from its end on, and attempts that follow send the same one: the receiver goes on where it stopped. How
//! much log may be held in this way is bounded by whoever purges.

use crate::machine::SnapshotFile;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// So long a snapshot is held behind the last attempt: for the next one, or for the log that is wanted next.
const LINGER: Duration = Duration::from_secs(60);

/// The snapshot that is being sent. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Pin(Arc<Mutex<Pinned>>);

#[derive(Debug, Default)]
struct Pinned {
    file: Option<SnapshotFile>,
    /// Attempts under way.
    sending: usize,
    /// Until when it is held once there are none.
    until: Option<Instant>,
    /// Up to where the log has been purged.
    purged: u64,
}

/// An attempt to send the snapshot.
#[derive(Debug)]
pub(super) struct Sending(Pin);

fn index(file: &SnapshotFile) -> u64 {
    file.meta.applied.map_or(0, |position| position.index)
}

impl Pinned {
    fn held(&self) -> Option<&SnapshotFile> {
        let now = Instant::now();
        self.file.as_ref().filter(|_| self.sending > 0 || self.until.is_some_and(|until| now < until))
    }
}

impl Pin {
    fn pinned(&self) -> MutexGuard<'_, Pinned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What shall be sent: what is being sent already, else the newest.
    pub(super) fn choose(&self, newest: Option<SnapshotFile>) -> Option<SnapshotFile> {
        self.pinned().held().cloned().or(newest)
    }

    /// A snapshot is being sent from now on, until the value is dropped.
    pub(super) fn send(&self, file: &SnapshotFile) -> Sending {
        let mut pinned = self.pinned();
        let held = pinned.held().map(index);
        // One that the log does not follow on any more is worth nothing to hold.
        if held.is_none_or(|held| held > index(file)) && index(file) >= pinned.purged {
            pinned.file = Some(file.clone());
        }
        pinned.sending += 1;
        Sending(self.clone())
    }

    /// How far the log may be purged, of what is wanted.
    pub(super) fn limit(&self, wanted: u64) -> u64 {
        self.pinned().held().map_or(wanted, |file| wanted.min(index(file)))
    }

    /// The log is purged up to here; what does not reach so far is held no longer.
    pub(super) fn purge(&self, upto: u64) {
        let mut pinned = self.pinned();
        pinned.purged = pinned.purged.max(upto);
        if pinned.file.as_ref().is_some_and(|file| index(file) < upto) {
            pinned.file = None;
        }
    }
}

impl Sending {
    /// It is damaged: another one shall be sent.
    pub(super) fn give_up(&self) {
        self.0.pinned().file = None;
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut pinned = self.0.pinned();
        pinned.sending -= 1;
        pinned.until = Some(Instant::now() + LINGER);
    }
}
