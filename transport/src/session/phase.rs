//! How far a session has come towards its end; it never goes back.

use std::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::Notify;

/// Steps of the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Phase {
    /// The session is used.
    Open,
    /// The end has been declared: nothing new is sent or taken.
    Closing,
    /// The link must be cut.
    Cut,
    /// The link is closed, nobody works for the session any longer.
    Over,
}

/// The phase, for those who look and for those who wait.
#[derive(Debug)]
pub(super) struct Progress {
    phase: AtomicU8,
    changed: Notify,
}

impl Progress {
    pub(super) const fn new() -> Self {
        Self { phase: AtomicU8::new(Phase::Open as u8), changed: Notify::const_new() }
    }

    /// Whether the session has come so far.
    #[inline]
    pub(super) fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Acquire) >= phase as u8
    }

    /// Goes on to `phase`; `false` when it had come so far before.
    pub(super) fn reach(&self, phase: Phase) -> bool {
        let moved = self.phase.fetch_max(phase as u8, Ordering::AcqRel) < phase as u8;
        if moved {
            self.changed.notify_waiters();
        }
        moved
    }

    /// Resolves when the session has come so far.
    pub(super) async fn reached(&self, phase: Phase) {
        while !self.is(phase) {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if !self.is(phase) {
                changed.await;
            }
        }
    }
}
