//! The applied state as everybody else sees it.

use super::journal::{Event, Journal, Picture};
use crate::log::Position;
use longshore_state::State;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// Readers' handle of the newest applied state. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct View {
    state: Arc<RwLock<(Arc<State>, Option<Position>)>>,
    /// One more than the last applied entry, so that 0 means none.
    next: Arc<watch::Sender<u64>>,
    /// Told of what is not the key-value store's alone.
    changed: Arc<watch::Sender<()>>,
    journal: Journal,
}

impl View {
    pub(super) fn new(state: &State, picture: Picture) -> Self {
        let applied = picture.applied;
        let (next, _) = watch::channel(next_of(applied));
        let journal = Journal::new(picture);
        let state = Arc::new(RwLock::new((Arc::new(state.shown()), applied)));
        Self { state, next: Arc::new(next), changed: Arc::default(), journal }
    }

    /// The state first, then the news of it: who is woken by an index finds at least that index applied. `members`: the
    /// group has others now.
    pub(super) fn publish(&self, state: &State, members: bool, picture: Picture, news: Vec<Event>) {
        self.show(state, members, picture.applied);
        self.journal.add(news, picture);
    }

    /// The same for a state that did not come entry by entry.
    pub(super) fn replace(&self, state: &State, picture: Picture) {
        self.show(state, true, picture.applied);
        self.journal.begin_anew(picture);
    }

    fn show(&self, state: &State, members: bool, applied: Option<Position>) {
        let next = (Arc::new(state.shown()), applied);
        let former = std::mem::replace(&mut *self.state.write().unwrap_or_else(PoisonError::into_inner), next);
        let changed = members || !former.0.same_but_for_kv(state);
        // Dropped outside of the lock: the last reference to an old state frees what only it held.
        drop(former);
        self.next.send_replace(next_of(applied));
        if changed {
            self.changed.send_replace(());
        }
    }

    /// What has happened to the membership.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The newest applied state.
    pub(crate) fn state(&self) -> Arc<State> {
        self.image().0
    }

    /// The newest applied state, and up to where it reaches.
    pub(crate) fn image(&self) -> (Arc<State>, Option<Position>) {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Wakes whenever more has been applied. The value is one more than the last applied index.
    pub(crate) fn advanced(&self) -> watch::Receiver<u64> {
        self.next.subscribe()
    }

    /// Wakes when something has changed but the key-value store: writes to it are most of all entries, and of no interest to
    /// whoever drives workers or keeps the group in order.
    pub(crate) fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

fn next_of(applied: Option<Position>) -> u64 {
    applied.map_or(0, |position| position.index + 1)
}
