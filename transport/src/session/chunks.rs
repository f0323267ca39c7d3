//! Bytes waiting in order. Small pieces are gathered into blocks, large ones are kept as they came.
//!
//! Owns no limit: whoever fills one decides how much may wait.

use bytes::{Buf, Bytes, BytesMut};
use std::cell::Cell;
use std::collections::VecDeque;
use std::io::IoSlice;
use tokio::io::ReadBuf;

/// Bytes of a block that gathers small pieces; four times as much once a backlog has formed.
const BLOCK: usize = 16 * 1024;
/// From this size on a piece is kept instead of copied: below, a copy is cheaper than a segment of its own, and a tiny
/// piece would keep a large receive buffer alive.
pub(super) const SHARE_FROM: usize = 16 * 1024;

/// Pieces that an empty queue keeps room for.
const KEPT: usize = 4;

thread_local! {
    /// A block that the next queue of this thread gathers in: idle ones hold none.
    static SPARE: Cell<BytesMut> = Cell::new(BytesMut::new());
}

/// A queue of bytes.
#[derive(Debug)]
pub(super) struct Chunks {
    parts: VecDeque<Bytes>,
    tail: BytesMut,
    length: usize,
    share_from: usize,
}

impl Chunks {
    /// An empty queue that keeps pieces of at least `share_from` bytes without copying them.
    pub(super) fn new(share_from: usize) -> Self {
        Self { parts: VecDeque::new(), tail: BytesMut::new(), length: 0, share_from }
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends a copy.
    #[inline]
    pub(super) fn copy(&mut self, bytes: &[u8]) {
        if self.tail.capacity() - self.tail.len() < bytes.len() {
            self.grow(bytes.len());
        }
        self.tail.extend_from_slice(bytes);
        self.length += bytes.len();
    }

    #[cold]
    fn grow(&mut self, least: usize) {
        self.seal();
        if self.tail.capacity() == 0 && least <= BLOCK {
            self.tail = SPARE.take();
        }
        let block = if self.length < BLOCK { BLOCK } else { 4 * BLOCK };
        self.tail.reserve(block.max(least));
    }

    /// Gives the memory of an empty queue back.
    pub(super) fn rest(&mut self) {
        debug_assert!(self.is_empty(), "bytes would be lost");
        let mut tail = std::mem::take(&mut self.tail);
        tail.clear();
        if tail.try_reclaim(BLOCK) && tail.capacity() <= 4 * BLOCK {
            SPARE.set(tail);
        }
        self.parts.shrink_to(KEPT);
    }

    /// Appends a piece, without a copy when it is large.
    pub(super) fn push(&mut self, bytes: Bytes) {
        if bytes.len() < self.share_from {
            return self.copy(&bytes);
        }
        self.seal();
        self.length += bytes.len();
        self.parts.push_back(bytes);
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.parts.push_back(self.tail.split().freeze());
        }
    }

    /// Takes the next bytes in one piece, at most `max` of them.
    pub(super) fn pop(&mut self, max: usize) -> Option<Bytes> {
        let piece = match self.parts.front_mut() {
            Some(front) if front.len() > max => front.split_to(max),
            Some(_) => self.parts.pop_front()?,
            None if self.tail.is_empty() => return None,
            None => self.tail.split_to(max.min(self.tail.len())).freeze(),
        };
        self.length -= piece.len();
        Some(piece)
    }

    /// Moves as many bytes as fit into `into`, and says how many.
    pub(super) fn read(&mut self, into: &mut ReadBuf<'_>) -> usize {
        let before = into.remaining();
        while into.remaining() > 0
            && let Some(piece) = self.pop(into.remaining())
        {
            into.put_slice(&piece);
        }
        before - into.remaining()
    }

    /// Fills `slices` with the next bytes and says how many slices were filled.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let waiting = self.parts.iter().map(|part| &part[..]).chain(std::iter::once(&self.tail[..]));
        let mut filled = 0;
        for (slice, bytes) in slices.iter_mut().zip(waiting.filter(|bytes| !bytes.is_empty())) {
            *slice = IoSlice::new(bytes);
            filled += 1;
        }
        filled
    }

    /// Drops the next `count` bytes.
    pub(super) fn advance(&mut self, mut count: usize) {
        debug_assert!(count <= self.length, "more bytes written than given");
        self.length -= count;
        while let Some(front) = self.parts.front_mut() {
            if front.len() > count {
                return front.advance(count);
            }
            count -= front.len();
            self.parts.pop_front();
        }
        self.tail.advance(count);
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.share_from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_queue_holds_no_memory() {
        let mut queue = Chunks::new(SHARE_FROM);
        for size in [10, 300_000, 20] {
            queue.copy(&vec![1; size]);
            queue.push(Bytes::from(vec![2; size]));
            queue.advance(2 * size);
            queue.rest();
            assert!(queue.tail.capacity() == 0 && queue.parts.capacity() <= KEPT);
        }
    }

    proptest! {
        #[test]
        fn bytes_come_out_in_order(
            pieces in prop::collection::vec((any::<u8>(), 0_usize..40_000, any::<bool>()), 0..20),
            takes in prop::collection::vec((1_usize..50_000, any::<bool>()), 1..20),
        ) {
            let (mut queue, mut model) = (Chunks::new(SHARE_FROM), Vec::new());
            let mut takes = takes.into_iter().cycle();
            let (mut got, mut pieces) = (Vec::new(), pieces.into_iter());
            loop {
                let piece = pieces.next();
                if let Some((byte, count, copied)) = piece {
                    let bytes = vec![byte; count];
                    model.extend_from_slice(&bytes);
                    if copied { queue.copy(&bytes) } else { queue.push(Bytes::from(bytes)) }
                }
                let (max, advance) = takes.next().unwrap();
                if advance {
                    let mut slices = [IoSlice::new(&[]); 4];
                    let filled = queue.slices(&mut slices);
                    let seen: Vec<u8> = slices[..filled].iter().flat_map(|s| s.to_vec()).take(max).collect();
                    queue.advance(seen.len());
                    got.extend(seen);
                } else if let Some(bytes) = queue.pop(max) {
                    prop_assert!(bytes.len() <= max);
                    got.extend_from_slice(&bytes);
                }
                prop_assert_eq!(got.len() + queue.len(), model.len());
                if piece.is_none() && queue.is_empty() { break }
            }
            prop_assert_eq!(got, model);
        }
    }
}
