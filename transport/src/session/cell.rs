//! What the two sides of a stream share: its buffers, its credit, and how it ends.
//!
//! Credit is spent when bytes are taken from the caller, so that what waits here can always be sent. Wakers are called
//! after the lock is let go.

use super::chunks::{Chunks, SHARE_FROM};
use super::core::lock;
use super::ids::IdMap;
use bytes::Bytes;
use longshore_wire::Failure;
use longshore_wire::frame::INITIAL_CREDIT;
use std::io;
use std::io::IoSlice;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes that a stream holds for the writer: two batches, so that one is filled while the other is written.
const SEND: usize = 256 * 1024;
/// Bytes that a stream's peer may have under way on a short path, if they are read fast: then portions of credit are large
/// and few, and the peer does not stand still while one is on its way.
const NEAR: u32 = 2 * 1024 * 1024;
/// Read is fast what takes no longer than this for all that may be under way.
const FAST: Duration = Duration::from_millis(5);
/// Most bytes that a stream's peer may have under way.
const WIDEST: u32 = 16 * 1024 * 1024;
/// Bytes that all streams of a session together may have under way beyond their first credit.
const EXTRA: u32 = 48 * 1024 * 1024;

/// All open streams of a session.
#[derive(Default)]
pub(super) struct Streams(Mutex<Table>);

#[derive(Default)]
struct Table {
    cells: IdMap<Arc<Cell>>,
    /// How many have even and odd ids: one of them is this side's, the other the peer's.
    sides: [usize; 2],
    /// Credit beyond the first that the open streams' peers were given.
    extra: u32,
}

impl Streams {
    /// Adds a stream, unless `limit` of its opener are open.
    pub(super) fn open(&self, id: u32, limit: usize) -> Option<Arc<Cell>> {
        let mut table = lock(&self.0);
        let side = &mut table.sides[id as usize % 2];
        if *side >= limit {
            return None;
        }
        *side += 1;
        let cell = Arc::new(Cell::new(id));
        table.cells.insert(id, Arc::clone(&cell));
        Some(cell)
    }

    pub(super) fn get(&self, id: u32) -> Option<Arc<Cell>> {
        lock(&self.0).cells.get(&id).cloned()
    }

    pub(super) fn is_live(&self, id: u32) -> bool {
        lock(&self.0).cells.contains_key(&id)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.0).cells.is_empty()
    }

    pub(super) fn remove(&self, id: u32) {
        let mut table = lock(&self.0);
        if let Some(cell) = table.cells.remove(&id) {
            table.sides[id as usize % 2] -= 1;
            table.extra -= cell.extra.load(Relaxed);
        }
    }

    /// Bytes by which the credit of a stream with this window may grow: as much again, within the limits.
    pub(super) fn widen(&self, id: u32, span: u32) -> u32 {
        let mut table = lock(&self.0);
        let by = span.min(WIDEST.saturating_sub(span)).min(EXTRA - table.extra);
        let Some(cell) = table.cells.get(&id) else { return 0 };
        cell.extra.fetch_add(by, Relaxed);
        table.extra += by;
        by
    }

    /// Ends all, since the session does.
    pub(super) fn end(&self, failure: &Failure) {
        let cells = std::mem::take(&mut *lock(&self.0)).cells;
        for cell in cells.into_values() {
            cell.end(End::Lost(failure.clone()));
        }
    }
}

/// How a stream ended before both sides had finished.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// The peer reset it.
    Reset(Failure),
    /// The session is over; what has arrived can still be read.
    Lost(Failure),
    /// The stream is closed on this side.
    Dropped,
}

/// What the two sides of a stream's buffers share: its [`Stream`] and the session's loops.
pub(super) struct Cell {
    pub(super) id: u32,
    /// Credit beyond the first that the peer was given. Changed with the table's lock held.
    extra: AtomicU32,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) outgoing: Chunks,
    /// Bytes that may still be sent.
    pub(super) credit: u32,
    /// Whether the cell is among the outbox's ready ones.
    pub(super) queued: bool,
    pub(super) finishing: bool,
    pub(super) finish_sent: bool,
    pub(super) writer: Option<Waker>,
    pub(super) incoming: Chunks,
    /// Bytes that the peer may still send.
    pub(super) window: u32,
    /// Bytes read since credit was last granted.
    pub(super) consumed: u32,
    /// Bytes that the peer may have under way in all.
    span: u32,
    /// Bytes read since the span was last looked at, and when that was.
    measured: (u32, Option<Instant>),
    pub(super) finish_seen: bool,
    pub(super) reader: Option<Waker>,
    /// The [`Stream`] is gone after its finish: the peer may finish in peace, but no longer send.
    pub(super) deaf: bool,
    pub(super) end: Option<End>,
}

/// What the writer takes of a stream.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) bytes: Option<Bytes>,
    pub(super) finish: bool,
    /// There is more to take.
    pub(super) more: bool,
    /// Both sides have finished.
    pub(super) complete: bool,
}

/// What the reader must do after bytes of the peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    /// Nobody will read them: reset the stream.
    Unwanted,
    /// The peer breaks the rules.
    Violation(&'static str),
}

impl Cell {
    fn new(id: u32) -> Self {
        let state = State {
            outgoing: Chunks::new(SHARE_FROM),
            credit: INITIAL_CREDIT,
            queued: false,
            finishing: false,
            finish_sent: false,
            writer: None,
            incoming: Chunks::new(SHARE_FROM),
            window: INITIAL_CREDIT,
            consumed: 0,
            span: INITIAL_CREDIT,
            measured: (0, None),
            finish_seen: false,
            reader: None,
            deaf: false,
            end: None,
        };
        Self { id, extra: AtomicU32::new(0), state: Mutex::new(state) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Takes the next slice for the writer, at most `max` bytes.
    pub(super) fn take(&self, max: usize) -> Taken {
        let mut state = self.state();
        if state.end.is_some() {
            state.queued = false;
            return Taken::default();
        }
        let bytes = state.outgoing.pop(max);
        let more = !state.outgoing.is_empty();
        let finish = state.finishing && !state.finish_sent && !more;
        state.finish_sent |= finish;
        state.queued = more;
        let complete = state.finish_sent && state.finish_seen;
        let waker = state.writer.take();
        drop(state);
        wake(waker);
        Taken { bytes, finish, more, complete }
    }

    /// Bytes from the peer.
    pub(super) fn accept(&self, bytes: Bytes) -> Verdict {
        let mut state = self.state();
        if state.end.is_some() {
            return Verdict::Ok;
        }
        if state.finish_seen {
            return Verdict::Violation("data behind the end of its stream");
        }
        let Some(window) = u32::try_from(bytes.len()).ok().and_then(|length| state.window.checked_sub(length)) else {
            return Verdict::Violation("more data than the stream had credit for");
        };
        if state.deaf {
            return Verdict::Unwanted;
        }
        state.window = window;
        state.incoming.push(bytes);
        let waker = state.reader.take();
        drop(state);
        wake(waker);
        Verdict::Ok
    }

    /// The peer sends no more. Says whether that completes the stream.
    pub(super) fn finish(&self) -> Result<bool, &'static str> {
        let mut state = self.state();
        if state.finish_seen {
            return Err("two ends of one stream");
        }
        state.finish_seen = true;
        let complete = state.finish_sent;
        let waker = state.reader.take();
        drop(state);
        wake(waker);
        Ok(complete)
    }

    /// The peer lets us send more.
    pub(super) fn grant(&self, bytes: u32) -> Result<(), &'static str> {
        let mut state = self.state();
        state.credit = state.credit.checked_add(bytes).ok_or("more credit than can be counted")?;
        let waker = state.writer.take();
        drop(state);
        wake(waker);
        Ok(())
    }

    /// The peer has reset the stream.
    pub(super) fn reset(&self, failure: Failure) {
        self.end(End::Reset(failure));
    }

    /// This side has reset the stream.
    pub(super) fn close(&self) {
        self.end(End::Dropped);
    }

    fn end(&self, end: End) {
        let mut state = self.state();
        if state.end.is_some() {
            return;
        }
        state.outgoing.clear();
        let readable = match end {
            End::Reset(_) => state.finish_seen,
            End::Lost(_) => true,
            End::Dropped => false,
        };
        if !readable {
            state.incoming.clear();
        }
        state.end = Some(end);
        let wakers = [state.writer.take(), state.reader.take()];
        drop(state);
        wakers.into_iter().for_each(wake);
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl State {
    /// The error of a stream that has ended.
    pub(super) fn error(&self) -> Option<io::Error> {
        Some(match self.end.as_ref()? {
            End::Reset(failure) => io::Error::new(io::ErrorKind::ConnectionReset, failure.clone()),
            End::Lost(failure) => io::Error::new(io::ErrorKind::ConnectionAborted, failure.clone()),
            End::Dropped => io::ErrorKind::NotConnected.into(),
        })
    }

    /// Takes bytes of the caller without a copy, as many as room and credit allow, and says how many.
    pub(super) fn share(&mut self, bytes: &mut Bytes) -> usize {
        let count = SEND.saturating_sub(self.outgoing.len()).min(self.credit as usize).min(bytes.len());
        if count > 0 {
            self.outgoing.push(bytes.split_to(count));
            self.credit -= u32::try_from(count).expect("at most the credit is taken");
        }
        count
    }

    /// Takes bytes of the caller, as many as room and credit allow, and says how many.
    pub(super) fn copy(&mut self, pieces: &[IoSlice<'_>]) -> usize {
        let space = SEND.saturating_sub(self.outgoing.len()).min(self.credit as usize);
        let mut left = space;
        for piece in pieces {
            let count = piece.len().min(left);
            self.outgoing.copy(&piece[..count]);
            left -= count;
        }
        let count = space - left;
        self.credit -= u32::try_from(count).expect("at most the credit is taken");
        count
    }

    /// Notes that `count` bytes were read, and says how much credit to grant now: in portions of a quarter of the span,
    /// often enough that the peer never stalls, seldom enough to be cheap. The span doubles when all of it was read within
    /// two round trips: then it is what holds the peer back. Up to [`NEAR`] it also does when it is read [`FAST`].
    pub(super) fn consume(
        &mut self,
        count: usize,
        rtt: Option<Duration>,
        now: impl FnOnce() -> Instant,
        widen: impl FnOnce(u32) -> u32,
    ) -> u32 {
        self.consumed += u32::try_from(count).expect("at most the credit is buffered");
        if self.consumed < self.span / 4 || self.finish_seen || self.end.is_some() {
            return 0;
        }
        let mut portion = std::mem::take(&mut self.consumed);
        let now = now();
        let (read, since) = (self.measured.0 + portion, *self.measured.1.get_or_insert(now));
        self.measured.0 = read;
        if read >= self.span {
            let near = if self.span < NEAR { FAST } else { Duration::ZERO };
            if now - since < rtt.map_or(near, |rtt| near.max(2 * rtt)) {
                let by = widen(self.span);
                self.span += by;
                portion += by;
            }
            self.measured = (0, Some(now));
        }
        self.window += portion;
        portion
    }

    /// Ready when the writer has taken all.
    pub(super) fn poll_sent(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.finish_sent {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = self.error() {
            return Poll::Ready(Err(error));
        }
        if self.outgoing.is_empty() && !self.finishing {
            return Poll::Ready(Ok(()));
        }
        self.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Option<Duration> = Some(Duration::from_secs(3600));

    /// Reads all that the peer may send, 20 times, each in `time`.
    fn drain(streams: &Streams, cell: &Cell, rtt: Option<Duration>, time: Duration) -> u32 {
        let mut now = Instant::now();
        for _ in 0..20 {
            let mut state = cell.state();
            let span = state.span;
            for _ in 0..8 {
                now += time / 8;
                state.consume(span as usize / 8, rtt, || now, |span| streams.widen(cell.id, span));
            }
        }
        cell.state().span
    }

    #[test]
    fn credit_grows_with_a_long_path_and_stays_bounded() {
        let streams = Streams::default();
        let near = streams.open(2, 100).unwrap();
        assert_eq!(
            drain(&streams, &near, Some(Duration::ZERO), 2 * FAST),
            INITIAL_CREDIT,
            "a short path needs no more"
        );
        for (rtt, time, span) in [(None, 2 * FAST, INITIAL_CREDIT), (Some(Duration::ZERO), FAST / 2, NEAR)] {
            let cell = streams.open(100, 100).unwrap();
            assert_eq!(drain(&streams, &cell, rtt, time), span, "only a fast reader needs more");
            streams.remove(100);
        }
        let mut spans: Vec<u32> = Vec::new();
        for id in (4..40).step_by(2) {
            let cell = streams.open(id, 100).unwrap();
            spans.push(drain(&streams, &cell, LONG, FAST));
        }
        assert_eq!(spans[0], WIDEST);
        assert_eq!(spans.iter().map(|span| span - INITIAL_CREDIT).sum::<u32>(), EXTRA);
        for id in (4..40).step_by(2) {
            streams.remove(id);
        }
        assert_eq!(drain(&streams, &near, LONG, FAST), WIDEST, "what others gave back can be used again");
    }
}
