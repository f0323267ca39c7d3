//! Lets frames gather while one portion of arrivals is worked through.
//!
//! Handlers run inside a reader and send on their own session, or on others. While a [`Cork`] is held on a thread, those
//! sessions are only noted; when it is let go, each is written once, by this thread, as far as its link takes it. What is
//! left is the writer task's.

use super::core::Core;
use std::cell::RefCell;
use std::sync::Arc;
use tokio::time::Instant;

thread_local! {
    static CORK: RefCell<State> = const { RefCell::new(State { held: None, noted: Vec::new() }) };
}

struct State {
    /// Since when frames are held back.
    held: Option<Instant>,
    /// Sessions that have something to write; each was idle before, so none is here twice.
    noted: Vec<Arc<Core>>,
}

/// Holds frames back on this thread until it is dropped. It must not live across an await.
pub(super) struct Cork(());

impl Cork {
    /// Holds frames back; `None` when somebody on this thread does already.
    pub(super) fn hold(now: Instant) -> Option<Self> {
        CORK.with_borrow_mut(|state| {
            let first = state.held.is_none();
            state.held = Some(now);
            first.then_some(Self(()))
        })
    }
}

impl Cork {
    /// Writes what has gathered so far, and goes on.
    pub(super) fn let_through(&self) {
        // What is written may itself cause frames: a session inside a stream of another. They are noted, too.
        while let Some(core) = CORK.with_borrow_mut(|state| state.noted.pop()) {
            core.write_or_wake();
        }
    }
}

impl Drop for Cork {
    fn drop(&mut self) {
        self.let_through();
        CORK.with_borrow_mut(|state| state.held = None);
    }
}

/// Notes that a session has something to write; `false` when nothing is held back on this thread.
pub(super) fn note(core: &Core) -> bool {
    CORK.with_borrow_mut(|state| {
        if state.held.is_none() {
            return false;
        }
        let core = core.me.upgrade();
        let noted = core.is_some();
        state.noted.extend(core);
        noted
    })
}

/// The time, cheaply: when the portion arrived that is worked through on this thread.
pub(super) fn now() -> Instant {
    CORK.with_borrow(|state| state.held).unwrap_or_else(Instant::now)
}
