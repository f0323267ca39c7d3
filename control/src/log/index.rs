//! What is known of the log without reading the file: its ends, the vote, and the newest entries.

use super::item::Standing;
use super::places::Places;
use super::sizes::Sizes;
use super::{Ballot, Entry, Position};
use std::collections::BTreeMap;

/// Bytes of synced entries that stay readable without the disk: what followers that keep up ask for.
const TAIL_BYTES: usize = 2 * 1024 * 1024;

/// The in-memory side of the log.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Last entry that has been purged.
    pub(super) purged: Option<Position>,
    /// Last entry there is, or `purged` when there is none.
    pub(super) last: Option<Position>,
    /// The vote.
    pub(super) ballot: Option<Ballot>,
    /// Last entry known to be committed; goes to disk along with the next write.
    pub(super) committed: Option<Position>,
    /// The newest entries: all that are not synced yet, and some that are. Without gap, up to `last`.
    tail: BTreeMap<u64, Entry>,
    tail_bytes: usize,
    /// Bytes of all entries, in memory or not.
    sizes: Sizes,
    /// Where the synced entries stand.
    pub(super) places: Places,
    /// How often what was not synced had to be taken back: changes of an earlier era do not follow on what there is now.
    pub(super) era: u64,
}

impl Index {
    /// Number that the next entry must have; `None` for the very first.
    pub(super) fn next(&self) -> Option<u64> {
        self.last.map(|last| last.index + 1)
    }

    /// Takes an entry that follows on the last one.
    pub(super) fn push(&mut self, entry: Entry) {
        self.last = Some(entry.position);
        self.tail_bytes += entry.size();
        self.sizes.add(entry.position.index, entry.size());
        self.tail.insert(entry.position.index, entry);
    }

    /// Forgets the entries from `from` on; `before` is the entry in front of it.
    pub(super) fn truncate(&mut self, from: u64, before: Option<Position>) {
        for entry in self.tail.split_off(&from).into_values() {
            self.tail_bytes -= entry.size();
        }
        self.last = before;
        self.sizes.truncate(from);
    }

    /// Forgets the entries up to `upto`.
    pub(super) fn purge(&mut self, upto: Position) {
        let kept = self.tail.split_off(&(upto.index + 1));
        let gone = std::mem::replace(&mut self.tail, kept);
        self.tail_bytes -= gone.values().map(Entry::size).sum::<usize>();
        self.purged = Some(upto);
        self.sizes.purge(upto.index);
        if self.last.is_none_or(|last| last.index < upto.index) {
            self.last = Some(upto);
        }
    }

    /// Takes back everything that is not synced.
    pub(super) fn take_back(&mut self, synced: &Standing) {
        self.era += 1;
        self.tail.clear();
        self.tail_bytes = 0;
        self.sizes = Sizes::default();
        for run in self.places.runs() {
            self.sizes.add(run.last, run.place.size);
        }
        // What was purged in memory is gone there; a purge may be repeated.
        let end = |position: &Option<Position>| position.map(|position| position.index);
        self.last = [synced.last, self.purged].into_iter().max_by_key(end).flatten();
    }

    /// The segments hold all entries below `next` now. Drops the oldest of them from memory when there are too many.
    pub(super) fn shrink(&mut self, next: u64) {
        while self.tail_bytes > TAIL_BYTES {
            let Some(oldest) = self.tail.first_entry().filter(|oldest| *oldest.key() < next) else { break };
            self.tail_bytes -= oldest.remove().size();
        }
    }

    /// Number of the oldest entry in memory, or the number of the next entry.
    pub(super) fn tail_start(&self) -> u64 {
        self.tail.first_key_value().map_or_else(|| self.next().unwrap_or(0), |(index, _)| *index)
    }

    /// The entries in memory from `from` to before `to`.
    pub(super) fn tail(&self, from: u64, to: u64) -> impl Iterator<Item = &Entry> {
        self.tail.range(from..to.max(from)).map(|(_, entry)| entry)
    }

    /// Bytes of the entries behind this one, or of all; to within [`sizes::SEGMENT`].
    pub(super) fn bytes_behind(&self, index: Option<u64>) -> usize {
        self.sizes.behind(index)
    }

    /// The entry up to which the log can be purged so that about this many bytes are left; `None` when it is smaller.
    pub(super) fn excess(&self, kept: usize) -> Option<u64> {
        self.sizes.excess(kept)
    }

    /// The part of `from..to` that exists.
    pub(super) fn clip(&self, from: u64, to: u64) -> (u64, u64) {
        let first = self.purged.map_or(0, |purged| purged.index + 1);
        (from.max(first), to.min(self.next().unwrap_or(0)))
    }
}
