//! How many bytes the entries have, without keeping a number for each.

use std::collections::VecDeque;

/// Entries are counted in segments of about so many bytes.
pub(super) const SEGMENT: usize = 1024 * 1024;

/// A run of entries up to `last`.
#[derive(Debug, Clone, Copy)]
struct Segment {
    last: u64,
    bytes: usize,
}

/// Sizes of the log's entries, oldest first.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    segments: VecDeque<Segment>,
}

impl Sizes {
    pub(super) fn add(&mut self, index: u64, bytes: usize) {
        match self.segments.back_mut() {
            Some(open) if open.bytes < SEGMENT => {
                open.last = index;
                open.bytes += bytes;
            }
            _ => self.segments.push_back(Segment { last: index, bytes }),
        }
    }

    /// Forgets the segments that reach beyond `from`, except for what is before it in the first of them.
    pub(super) fn truncate(&mut self, from: u64) {
        let kept = self.segments.partition_point(|segment| segment.last < from);
        let cut = self.segments.get(kept).copied();
        self.segments.truncate(kept);
        if let (Some(cut), Some(last)) = (cut, from.checked_sub(1))
            && self.segments.back().is_none_or(|segment| segment.last < last)
        {
            self.segments.push_back(Segment { last, bytes: cut.bytes });
        }
    }

    /// Forgets the segments that end at or before `upto`.
    pub(super) fn purge(&mut self, upto: u64) {
        let gone = self.segments.partition_point(|segment| segment.last <= upto);
        self.segments.drain(..gone);
    }

    pub(super) fn behind(&self, index: Option<u64>) -> usize {
        let passed = index.map_or(0, |index| self.segments.partition_point(|segment| segment.last <= index));
        self.segments.iter().skip(passed).map(|segment| segment.bytes).sum()
    }

    pub(super) fn excess(&self, kept: usize) -> Option<u64> {
        let mut sum = 0;
        let too_much = |segment: &&Segment| {
            sum += segment.bytes;
            sum > kept
        };
        self.segments.iter().rev().find(too_much).map(|segment| segment.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_kept_by_segment() {
        let mut sizes = Sizes::default();
        (0..100).for_each(|index| sizes.add(index, SEGMENT / 4));
        assert_eq!(sizes.behind(None), 25 * SEGMENT);
        assert_eq!(sizes.behind(Some(59)), 10 * SEGMENT);
        assert_eq!((sizes.excess(25 * SEGMENT), sizes.excess(10 * SEGMENT)), (None, Some(59)));
        sizes.purge(59);
        assert_eq!(sizes.behind(None), 10 * SEGMENT);
        sizes.truncate(80);
        assert_eq!(sizes.behind(None), 5 * SEGMENT);
        sizes.truncate(0);
        assert_eq!((sizes.behind(None), sizes.excess(0)), (0, None));
    }
}
