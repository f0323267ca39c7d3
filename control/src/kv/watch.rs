//! Watches: every change of some keys, once and in order, out of the history in this node's state.
//!
//! A watch is a position, and nothing waits for it: apply goes on whatever a reader does, and nothing is queued. A reader
//! that stays so far behind that the history has forgotten what comes next is told so ([`Seen::Gap`]), and goes on behind.

use crate::raft::Group;
use longshore_state::{KvRecord, State};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{OwnedSemaphorePermit, watch};

/// Most changes at a time.
const MAX_CHANGES: usize = 256;
/// No more are added at a time once they hold so many bytes.
const MAX_BYTES: usize = 256 * 1024;

/// What a watch has seen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Changes, oldest first; perhaps none, and just a later position.
    Changes(Vec<KvRecord>),
    /// Changes up to this revision may have been missed: what counts now is to be listed. Later ones follow.
    Gap(u64),
}

/// One watch.
#[derive(Debug)]
pub(crate) struct Watch {
    group: Group,
    changed: watch::Receiver<u64>,
    prefix: String,
    after: u64,
    /// A gap that is still to be told.
    gap: bool,
    _place: OwnedSemaphorePermit,
    /// Where gaps are counted.
    gaps: Arc<AtomicU64>,
}

impl Watch {
    /// From behind a revision, or with a gap up to one.
    pub(super) fn new(
        group: Group,
        prefix: String,
        start: Result<u64, u64>,
        place: OwnedSemaphorePermit,
        gaps: Arc<AtomicU64>,
    ) -> Self {
        let changed = group.advanced();
        let (Ok(after) | Err(after)) = start;
        Self { group, changed, prefix, after, gap: start.is_err(), _place: place, gaps }
    }

    /// The revision up to which all has been seen.
    pub(crate) const fn position(&self) -> u64 {
        self.after
    }

    /// Waits for more. Whoever gives up waiting has lost nothing.
    pub(crate) async fn next(&mut self) -> Seen {
        let seen = self.seen().await;
        if matches!(seen, Seen::Gap(_)) {
            self.gaps.fetch_add(1, Ordering::Relaxed);
        }
        seen
    }

    async fn seen(&mut self) -> Seen {
        loop {
            self.changed.mark_unchanged();
            if std::mem::take(&mut self.gap) {
                return Seen::Gap(self.after);
            }
            let state = self.group.state();
            if state.kv_revision() > self.after {
                let (seen, position) = look(&state, &self.prefix, self.after);
                self.after = position;
                return seen;
            }
            drop(state);
            if self.changed.changed().await.is_err() {
                // The group has ended, and with it all news; the node stops.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// What a state tells a watch that has seen all up to `after`, and how far it has seen then.
fn look(state: &State, prefix: &str, after: u64) -> (Seen, u64) {
    let Ok(changes) = state.kv_changes(after) else {
        return (Seen::Gap(state.kv_revision()), state.kv_revision());
    };
    let (mut seen, mut bytes, mut position) = (Vec::new(), 0, after);
    for change in changes {
        if seen.len() == MAX_CHANGES || bytes > MAX_BYTES {
            break;
        }
        position = change.revision();
        if change.key().starts_with(prefix) {
            bytes += change.key().len() + change.value().map_or(0, <[u8]>::len);
            seen.push(change.clone());
        }
    }
    (Seen::Changes(seen), position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_state::{Command, Proposal};
    use longshore_wire::kv::KvRequest;
    use longshore_wire::{ClusterId, RequestId};

    fn state(changes: u64, size: usize) -> State {
        let mut state = State::default();
        let found =
            Command::InitCluster { cluster_id: ClusterId::default(), name: "test".to_owned(), verifiers: vec![] };
        let puts = (1..=changes).map(|number| {
            let key = format!("{}/{number}", if number % 2 == 0 { "even" } else { "odd" });
            Command::Kv(KvRequest::Put { key, value: vec![0; size] })
        });
        for (index, command) in (1..).zip(std::iter::once(found).chain(puts)) {
            let request_id = RequestId::from_u128(u128::from(index));
            state.apply(index, &[Proposal { request_id, now_ms: 0, command }])[0].as_ref().unwrap();
        }
        state
    }

    fn all(state: &State, prefix: &str, mut after: u64) -> (Vec<u64>, usize) {
        let (mut revisions, mut looks) = (Vec::new(), 0);
        while after < state.kv_revision() {
            let (Seen::Changes(changes), position) = look(state, prefix, after) else { panic!("no gap") };
            assert!(position > after && changes.len() <= MAX_CHANGES);
            revisions.extend(changes.iter().map(|change| change.revision()));
            (after, looks) = (position, looks + 1);
        }
        (revisions, looks)
    }

    #[test]
    fn each_change_once_and_in_order_in_pieces() {
        let small = state(1000, 1);
        assert_eq!(all(&small, "", 0), ((1..=1000).collect(), 4));
        assert_eq!(all(&small, "even/", 10), ((12..=1000).step_by(2).collect(), 2));
        assert_eq!(all(&small, "none", 0), (vec![], 1));
        assert_eq!(all(&state(8, 200 * 1024), "", 0), ((1..=8).collect(), 4));
    }

    #[test]
    fn who_is_too_far_behind_is_told_and_goes_on_behind_the_gap() {
        let state = state(60, 512 * 1024);
        assert_eq!(look(&state, "", 0), (Seen::Gap(60), 60));
        assert_eq!(look(&state, "", state.kv_compacted() - 1), (Seen::Gap(60), 60));
        assert!(matches!(look(&state, "", state.kv_compacted()), (Seen::Changes(_), _)));
    }
}
