//! The newest changes, for watches. Bounded by count and by bytes; shares its records with the store.
//!
//! It is in no snapshot: after one was installed, or a start from one, it begins anew, and whoever needs older changes
//! gets a [`KvGap`]. Every change has a revision of its own, one more than the change before.

use super::record::KvRecord;
use imbl::Vector;

/// Most changes that are kept.
const MAX_CHANGES: usize = 65_536;
/// Most bytes that they may hold, counted as if they shared nothing with the store.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Bytes that a change costs besides its key and value.
const OVERHEAD: usize = 64;

/// Changes that were asked for are forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvGap {
    /// All up to this revision, included.
    pub compacted: u64,
}

#[derive(Clone, Default)]
pub(super) struct History {
    changes: Vector<KvRecord>,
    bytes: usize,
    /// Revision before the oldest change that is kept.
    compacted: u64,
}

impl History {
    /// Begins anew behind this revision.
    pub(super) fn begin(&mut self, revision: u64) {
        *self = Self { compacted: revision, ..Self::default() };
    }

    pub(super) fn push(&mut self, change: KvRecord) {
        self.bytes += change.weight() + OVERHEAD;
        self.changes.push_back(change);
        while self.changes.len() > MAX_CHANGES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.bytes -= oldest.weight() + OVERHEAD;
            self.compacted = oldest.revision();
        }
    }

    pub(super) fn compacted(&self) -> u64 {
        self.compacted
    }

    /// The changes behind `after`, oldest first.
    pub(super) fn after(&self, after: u64) -> Result<impl Iterator<Item = &KvRecord>, KvGap> {
        let Some(skip) = after.checked_sub(self.compacted) else { return Err(KvGap { compacted: self.compacted }) };
        let from = usize::try_from(skip).unwrap_or(usize::MAX).min(self.changes.len());
        Ok(self.changes.focus().narrow(from..).into_iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: u64, size: usize) -> KvRecord {
        KvRecord::written(revision, 1, None, "k", &vec![0; size])
    }

    fn revisions(history: &History, after: u64) -> Result<Vec<u64>, KvGap> {
        history.after(after).map(|changes| changes.map(KvRecord::revision).collect())
    }

    #[test]
    fn it_is_bounded_by_count_and_says_what_it_forgot() {
        let mut history = History::default();
        history.begin(10);
        let last = 10 + MAX_CHANGES as u64 + 3;
        (11..=last).for_each(|revision| history.push(change(revision, 1)));
        assert_eq!((history.changes.len(), history.compacted()), (MAX_CHANGES, 13));
        assert_eq!(revisions(&history, 12), Err(KvGap { compacted: 13 }));
        assert_eq!(revisions(&history, 13).unwrap().len(), MAX_CHANGES);
        assert_eq!(revisions(&history, last - 2).unwrap(), [last - 1, last]);
        assert_eq!(revisions(&history, last).unwrap(), [0; 0]);
        assert_eq!(revisions(&history, u64::MAX).unwrap(), [0; 0]);
    }

    #[test]
    fn it_is_bounded_by_bytes() {
        let mut history = History::default();
        for revision in 1..=100 {
            history.push(change(revision, 1024 * 1024));
        }
        assert!(history.bytes <= MAX_BYTES && history.changes.len() == 15, "{}", history.changes.len());
        assert_eq!(revisions(&history, history.compacted()).unwrap(), (86..=100).collect::<Vec<_>>());
        history.begin(100);
        assert_eq!((history.bytes, revisions(&history, 99)), (0, Err(KvGap { compacted: 100 })));
    }
}
