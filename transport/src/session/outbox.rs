//! What waits to be written: control frames in order, and the streams that have bulk to send.
//!
//! It never does IO. Whoever adds to it while [`Outbox::signal`] says so must see to it that a writer runs.

use super::cell::Cell;
use super::chunks::Chunks;
use bytes::Bytes;
use longshore_wire::frame::{HEADER, Header, Kind};
use std::collections::VecDeque;
use std::sync::Arc;

/// Senders wait while so many bytes of control frames are queued.
const ROOM: usize = 1024 * 1024;
/// Requests of other sessions are refused while so many bytes of control frames are queued: those who pass them on cannot wait.
const PASS_ROOM: usize = 4 * 1024 * 1024;
/// The reader waits while so many bytes of frames that the peer provoked (pongs, refusals) are queued: a peer that
/// floods us and reads nothing fills its own connection, not our memory.
const REFLEX_ROOM: usize = 1024 * 1024;
/// New requests are refused while so many bytes of replies are queued.
const REPLY_ROOM: usize = 16 * 1024 * 1024;
/// A reply is replaced by a failure while so many bytes of replies are queued.
const REPLY_LIMIT: usize = 64 * 1024 * 1024;

/// Why a control frame is sent, which decides what bounds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// This side wants it; its sender waits for room, or it belongs to something that did.
    Own,
    /// It answers a request.
    Reply,
    /// The peer provoked it.
    Reflex,
}

/// What the writer has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// There is more.
    More,
    /// All is written.
    Idle,
    /// All is written, and nothing will follow.
    Last,
}

/// The queues.
pub(super) struct Outbox {
    control: Chunks,
    ready: VecDeque<Arc<Cell>>,
    next_id: u32,
    wrapped: bool,
    batch: u64,
    reflex: usize,
    replies: usize,
    signalled: bool,
    closed: bool,
}

impl Outbox {
    /// Empty queues. The dialler's ids are odd, the acceptor's even; 0 is no id.
    pub(super) fn new(dialled: bool, share_from: usize) -> Self {
        Self {
            control: Chunks::new(share_from),
            ready: VecDeque::new(),
            next_id: if dialled { 1 } else { 2 },
            wrapped: false,
            batch: 0,
            reflex: 0,
            replies: 0,
            signalled: false,
            closed: false,
        }
    }

    /// An id for a request or stream of this side. Ids rise with the order of the frames that introduce them; after
    /// 2³¹ of them they start anew, and those still `taken` are skipped.
    pub(super) fn new_id(&mut self, taken: impl Fn(u32) -> bool) -> u32 {
        loop {
            let id = self.next_id;
            let (next, wrapped) = id.overflowing_add(2);
            self.next_id = if next == 0 { 2 } else { next };
            self.wrapped |= wrapped;
            if !self.wrapped || !taken(id) {
                return id;
            }
        }
    }

    /// Whether `id` was ever given out by this side.
    pub(super) fn was_given(&self, id: u32) -> bool {
        id % 2 == self.next_id % 2 && (self.wrapped || id < self.next_id)
    }

    /// Appends a control frame; nothing after the end.
    pub(super) fn frame(&mut self, cause: Cause, kind: Kind, id: u32, head: &[u8], body: Bytes) {
        if self.closed {
            return;
        }
        self.begin(cause, kind, id, head.len() + body.len());
        self.control.copy(head);
        self.control.push(body);
    }

    /// Appends a control frame, and copies the pieces of its payload.
    #[inline]
    pub(super) fn copied<const N: usize>(&mut self, cause: Cause, kind: Kind, id: u32, pieces: [&[u8]; N]) {
        if self.closed {
            return;
        }
        self.begin(cause, kind, id, pieces.iter().map(|piece| piece.len()).sum());
        for piece in pieces {
            self.control.copy(piece);
        }
    }

    fn begin(&mut self, cause: Cause, kind: Kind, id: u32, length: usize) {
        debug_assert!(length <= kind.max_payload(), "{kind:?} of {length} bytes");
        let header = Header { kind, id, length: u32::try_from(length).expect("payloads are limited") };
        self.control.copy(&header.encode());
        match cause {
            Cause::Own => {}
            Cause::Reply => self.replies += HEADER + length,
            Cause::Reflex => self.reflex += HEADER + length,
        }
    }

    /// Bytes of control frames that wait.
    pub(super) fn waiting(&self) -> usize {
        self.control.len()
    }

    /// Whether senders may add frames.
    pub(super) fn has_room(&self) -> bool {
        self.control.len() < ROOM
    }

    /// Whether senders must wait.
    pub(super) fn is_full(&self) -> bool {
        !self.closed && !self.has_room()
    }

    /// Whether a request of another session may be added.
    pub(super) fn takes_passed(&self) -> bool {
        self.control.len() < PASS_ROOM
    }

    /// Whether the peer provoked more than it takes off.
    pub(super) fn is_flooded(&self) -> bool {
        self.reflex > REFLEX_ROOM
    }

    /// Whether too many replies wait for new requests to be taken.
    pub(super) fn is_clogged(&self) -> bool {
        self.replies > REPLY_ROOM
    }

    /// Whether a reply of `length` bytes may still be queued.
    pub(super) fn takes_reply(&self, length: usize) -> bool {
        self.replies + length <= REPLY_LIMIT
    }

    /// Adds a stream that has something to send.
    pub(super) fn ready(&mut self, cell: Arc<Cell>) {
        if !self.closed {
            self.ready.push_back(cell);
        }
    }

    /// The stream whose turn it is, and whether it is the only one; `None` while control frames wait.
    pub(super) fn next_ready(&mut self) -> Option<(Arc<Cell>, bool)> {
        if !self.control.is_empty() {
            return None;
        }
        let cell = self.ready.pop_front()?;
        Some((cell, self.ready.is_empty()))
    }

    /// Says that something waits; `true` when it must be told to a writer, `false` when one is at work already.
    pub(super) fn signal(&mut self) -> bool {
        !std::mem::replace(&mut self.signalled, true)
    }

    /// Whether something waits, or is being written.
    pub(super) fn is_signalled(&self) -> bool {
        self.signalled
    }

    /// Moves all control frames into an empty queue.
    pub(super) fn take_control(&mut self, into: &mut Chunks) -> bool {
        debug_assert!(into.is_empty(), "frames would be lost");
        if self.control.is_empty() {
            return false;
        }
        std::mem::swap(&mut self.control, into);
        self.batch += 1;
        (self.reflex, self.replies) = (0, 0);
        true
    }

    /// Number of the batch that frames added now belong to.
    pub(super) fn batch(&self) -> u64 {
        self.batch
    }

    /// Whether some stream has something to send.
    pub(super) fn has_bulk(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether all is written, or only bulk waits that is `held` back; if so, the next frame needs a signal again.
    pub(super) fn rest(&mut self, held: bool) -> Rest {
        if !self.control.is_empty() || (self.has_bulk() && !held) {
            return Rest::More;
        }
        self.signalled = false;
        if self.closed { Rest::Last } else { Rest::Idle }
    }

    /// Lets nothing more in, and drops the bulk.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.ready.clear();
    }

    /// Drops what will never be written.
    pub(super) fn clear(&mut self) {
        self.control.clear();
        self.ready.clear();
    }

    /// Whether the end has been declared.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_start_anew_and_skip_those_in_use() {
        for (dialled, last, first) in [(true, u32::MAX, 1), (false, u32::MAX - 1, 2)] {
            let mut outbox = Outbox::new(dialled, usize::MAX);
            assert_eq!(outbox.new_id(|_| true), first);
            assert!(outbox.was_given(first) && !outbox.was_given(first + 2) && !outbox.was_given(first + 1));
            outbox.next_id = last;
            assert_eq!(outbox.new_id(|_| false), last);
            assert_eq!(outbox.new_id(|id| id < 10), if dialled { 11 } else { 10 });
            assert!(outbox.was_given(last));
        }
    }
}
