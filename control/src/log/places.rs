//! Where the entries stand in the segments.

use std::collections::BTreeMap;

/// A frame in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
    /// Bytes of the whole frame.
    pub(super) size: usize,
}

/// Entries without gap in one frame, up to `last`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) place: Place,
    pub(super) last: u64,
}

/// The runs by their first entry. An entry that is written again stands in a later frame, or later in the same one.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<u64, Run>);

impl Places {
    /// The entries `first..=last`, which follow on the last one, stand in this frame.
    pub(super) fn add(&mut self, first: u64, last: u64, place: Place) {
        if let Some(mut run) = self.0.last_entry()
            && run.get().place == place
            && run.get().last + 1 == first
        {
            run.get_mut().last = last;
            return;
        }
        self.0.insert(first, Run { place, last });
    }

    /// Forgets the entries from `from` on.
    pub(super) fn truncate(&mut self, from: u64) {
        drop(self.0.split_off(&from));
        if let Some(mut run) = self.0.last_entry()
            && let Some(before) = from.checked_sub(1)
        {
            run.get_mut().last = run.get().last.min(before);
        }
    }

    /// Forgets the entries up to `upto`.
    pub(super) fn purge(&mut self, upto: u64) {
        let kept = self.0.split_off(&(upto + 1));
        let gone = std::mem::replace(&mut self.0, kept);
        if let Some((_, run)) = gone.last_key_value().filter(|(_, run)| run.last > upto) {
            self.0.insert(upto + 1, *run);
        }
    }

    /// The runs that hold `from..to`, each with its first entry.
    pub(super) fn within(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, Run)> {
        let start = self.0.range(..=from).next_back().map_or(from, |(first, _)| *first);
        self.0.range(start..to.max(start)).filter(move |(_, run)| run.last >= from).map(|(first, run)| (*first, *run))
    }

    /// All runs.
    pub(super) fn runs(&self) -> impl Iterator<Item = &Run> {
        self.0.values()
    }

    /// The oldest segment that holds an entry. Entries of higher numbers were written later.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.0.first_key_value().map(|(_, run)| run.place.segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u64) -> Place {
        Place { segment: offset / 100, offset, size: 10 }
    }

    fn runs(places: &Places, from: u64, to: u64) -> Vec<(u64, u64, u64)> {
        places.within(from, to).map(|(first, run)| (first, run.last, run.place.offset)).collect()
    }

    #[test]
    fn runs_are_cut_at_both_ends() {
        let mut places = Places::default();
        places.add(5, 5, place(10));
        places.add(6, 8, place(10));
        places.add(9, 12, place(120));
        assert_eq!(runs(&places, 0, 20), [(5, 8, 10), (9, 12, 120)]);
        assert_eq!(runs(&places, 7, 9), [(5, 8, 10)]);
        assert_eq!(runs(&places, 12, 13), [(9, 12, 120)]);
        places.truncate(11);
        places.add(11, 11, place(250));
        places.purge(6);
        assert_eq!(runs(&places, 0, 20), [(7, 8, 10), (9, 10, 120), (11, 11, 250)]);
        assert_eq!(places.oldest(), Some(0));
        places.purge(10);
        assert_eq!((runs(&places, 0, 20), places.oldest()), (vec![(11, 11, 250)], Some(2)));
        places.truncate(0);
        assert_eq!(places.oldest(), None);
    }
}
