//! What the group has done at this node since its start, for the metrics.

use super::status::Leadership;
use longshore_wire::NodeId;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    leader: Mutex<Option<NodeId>>,
    leader_changes: AtomicU64,
    pending: AtomicU64,
    committed: AtomicU64,
    failed: AtomicU64,
}

/// Proposals that somebody waits for. Dropped without being settled, they count as failed.
pub(super) struct Underway {
    tally: Arc<Tally>,
    count: u64,
    committed: bool,
}

impl Tally {
    /// Notes who leads. A pause without leader is no change, if the same one comes back.
    pub(super) fn led(&self, now: Leadership) {
        let Some(leader) = now.leader else { return };
        let former = self.leader.lock().unwrap_or_else(PoisonError::into_inner).replace(leader);
        if former.is_some_and(|former| former != leader) {
            self.leader_changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes that so many proposals have come.
    pub(super) fn begin(self: &Arc<Self>, count: u32) -> Underway {
        self.pending.fetch_add(count.into(), Ordering::Relaxed);
        Underway { tally: Arc::clone(self), count: count.into(), committed: false }
    }

    /// How often another node began to lead.
    pub(crate) fn leader_changes(&self) -> u64 {
        self.leader_changes.load(Ordering::Relaxed)
    }

    /// Proposals that wait for their outcome.
    pub(crate) fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    /// Proposals that were committed; their outcome may be a refusal.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Proposals that failed on their way, or that nobody waited for any more. Some of them may have been committed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

impl Underway {
    /// They are through.
    pub(super) fn settle<T, E>(mut self, result: &Result<T, E>) {
        self.committed = result.is_ok();
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let Self { tally, count, committed } = self;
        tally.pending.fetch_sub(*count, Ordering::Relaxed);
        let settled = if *committed { &tally.committed } else { &tally.failed };
        settled.fetch_add(*count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposals_end_in_one_of_two_ways() {
        let tally = Arc::new(Tally::default());
        let (through, refused, left) = (tally.begin(3), tally.begin(2), tally.begin(1));
        assert_eq!(tally.pending(), 6);
        through.settle(&Ok::<_, ()>(()));
        refused.settle(&Err::<(), _>(()));
        drop(left);
        assert_eq!((tally.pending(), tally.committed(), tally.failed()), (0, 3, 3));
    }

    #[test]
    fn a_leader_that_comes_back_is_no_change() {
        let tally = Tally::default();
        let led = |leader: Option<u64>| {
            tally.led(Leadership { leader: leader.map(NodeId::from), ..Leadership::default() });
            tally.leader_changes()
        };
        let leaders = [Some(1), Some(1), None, Some(1), Some(2), None, Some(1)];
        assert_eq!(leaders.map(led), [0, 0, 0, 0, 1, 1, 2]);
    }
}
