//! The applied state as everybody else sees it.

use crate::log::Position;
use longshore_state::State;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// Readers' handle of the newest applied state. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct View {
    state: Arc<RwLock<Arc<State>>>,
    /// One more than the last applied entry, so that 0 means none.
    next: Arc<watch::Sender<u64>>,
}

impl View {
    pub(super) fn new(state: State, applied: Option<Position>) -> Self {
        let (next, _) = watch::channel(next_of(applied));
        Self { state: Arc::new(RwLock::new(Arc::new(state))), next: Arc::new(next) }
    }

    /// The state first, then the news of it: who is woken by an index finds at least that index applied.
    pub(super) fn publish(&self, state: &State, applied: Option<Position>) {
        let state = Arc::new(state.clone());
        let former = std::mem::replace(&mut *self.state.write().unwrap_or_else(PoisonError::into_inner), state);
        // Dropped outside of the lock: the last reference to an old state frees what only it held.
        drop(former);
        self.next.send_replace(next_of(applied));
    }

    /// The newest applied state.
    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes when more has been applied. The value is one more than the last applied index.
    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.next.subscribe()
    }
}

fn next_of(applied: Option<Position>) -> u64 {
    applied.map_or(0, |position| position.index + 1)
}
