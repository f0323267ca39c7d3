//! Streams: flow-controlled bytes in both directions, each with its own bounded buffers.
//!
//! ```text
//! poll_write ─▶ outgoing ─▶ writer ═▶ reader ─▶ incoming ─▶ poll_read
//!               ≤ SEND      (credit)            ≤ INITIAL_CREDIT  │
//!                  ◀═══════════════ Credit ═══════════════════════╯
//! ```
//!
//! Credit is spent when bytes are taken from the caller, so that what waits here can always be sent.

use super::chunks::{Chunks, SHARE_FROM};
use super::core::{Core, SHORT_TEXT, lock, shortened};
use super::outbox::Cause;
use super::requests::fits;
use bytes::Bytes;
use longshore_wire::frame::{INITIAL_CREDIT, Kind};
use longshore_wire::{Code, Failure, encode};
use std::collections::HashMap;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

/// Bytes that a stream holds for the writer: two batches, so that one is filled while the other is written.
const SEND: usize = 256 * 1024;
/// Credit is granted in portions of so many bytes: often enough that the peer never stalls, seldom enough to be cheap.
const PORTION: u32 = INITIAL_CREDIT / 4;

/// All open streams of a session.
#[derive(Default)]
pub(super) struct Streams(Mutex<Table>);

#[derive(Default)]
struct Table {
    cells: HashMap<u32, Arc<Cell>>,
    /// How many have even and odd ids: one of them is this side's, the other the peer's.
    sides: [usize; 2],
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
        if table.cells.remove(&id).is_some() {
            table.sides[id as usize % 2] -= 1;
        }
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
enum End {
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
    state: Mutex<State>,
}

struct State {
    outgoing: Chunks,
    /// Bytes that may still be sent.
    credit: u32,
    /// Whether the cell is among the outbox's ready ones.
    queued: bool,
    finishing: bool,
    finish_sent: bool,
    writer: Option<Waker>,
    incoming: Chunks,
    /// Bytes that the peer may still send.
    window: u32,
    /// Bytes read since credit was last granted.
    consumed: u32,
    finish_seen: bool,
    reader: Option<Waker>,
    /// The [`Stream`] is gone after its finish: the peer may finish in peace, but no longer send.
    deaf: bool,
    end: Option<End>,
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
            finish_seen: false,
            reader: None,
            deaf: false,
            end: None,
        };
        Self { id, state: Mutex::new(state) }
    }

    /// Takes the next slice for the writer, at most `max` bytes.
    pub(super) fn take(&self, max: usize) -> Taken {
        let mut state = lock(&self.state);
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
        let mut state = lock(&self.state);
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
        let mut state = lock(&self.state);
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
        let mut state = lock(&self.state);
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
        let mut state = lock(&self.state);
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
    fn error(&self) -> Option<io::Error> {
        Some(match self.end.as_ref()? {
            End::Reset(failure) => io::Error::new(io::ErrorKind::ConnectionReset, failure.clone()),
            End::Lost(failure) => io::Error::new(io::ErrorKind::ConnectionAborted, failure.clone()),
            End::Dropped => io::ErrorKind::NotConnected.into(),
        })
    }

    /// Takes bytes of the caller, as many as room and credit allow, and says how many.
    fn copy(&mut self, pieces: &[IoSlice<'_>]) -> usize {
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

    /// Ready when the writer has taken all.
    fn poll_sent(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
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

impl Core {
    /// Opens a stream to the peer.
    pub(super) async fn open(self: &Arc<Self>, head: Vec<u8>) -> Result<Stream, Failure> {
        fits("the head of a stream", head.len(), Kind::Open)?;
        let limit = self.options.max_streams;
        self.admitted(|outbox| {
            let id = self.new_id(outbox);
            let Some(cell) = self.streams.open(id, limit) else {
                let message = format!("{limit} streams to {} are open; no more are allowed", self.label);
                return Err(Failure::new(Code::Busy, message));
            };
            outbox.frame(Cause::Own, Kind::Open, id, &[], head.into());
            Ok(Stream::new(self, cell))
        })
        .await
    }

    /// Tells the peer that a stream ends at once.
    pub(super) fn send_reset(&self, cause: Cause, id: u32, reason: &Failure) {
        self.send(cause, Kind::Reset, id, encode(&shortened(reason, SHORT_TEXT)).into());
    }
}

/// A flow-controlled byte stream within a session.
///
/// `poll_shutdown` says that no more bytes follow, and is ready once everything has been handed to the link. A stream
/// dropped before that is reset, so the peer never takes a part for the whole. Reading gives an error after a reset or
/// the end of the session; [`failure_of`] finds the reason in it.
pub struct Stream {
    core: Arc<Core>,
    cell: Arc<Cell>,
}

impl Stream {
    pub(super) fn new(core: &Arc<Core>, cell: Arc<Cell>) -> Self {
        Self { core: Arc::clone(core), cell }
    }

    /// Ends the stream at once in both directions; what is under way is dropped.
    pub fn reset(self, reason: Failure) {
        self.end(&reason);
    }

    /// Why the peer has reset the stream, if it has.
    pub fn reset_reason(&self) -> Option<Failure> {
        match &lock(&self.cell.state).end {
            Some(End::Reset(failure)) => Some(failure.clone()),
            _ => None,
        }
    }

    fn end(&self, reason: &Failure) {
        let over = {
            let state = lock(&self.cell.state);
            state.end.is_some() || (state.finish_sent && state.finish_seen)
        };
        self.cell.close();
        if !over {
            self.core.streams.remove(self.cell.id);
            self.core.send_reset(Cause::Own, self.cell.id, reason);
        }
    }

    /// Puts the stream among those that have something to send.
    fn queue(&self, state: &mut State) -> bool {
        if std::mem::replace(&mut state.queued, true) {
            return false;
        }
        let mut outbox = self.core.outbox();
        outbox.ready(Arc::clone(&self.cell));
        outbox.signal()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let finished = {
            let mut state = lock(&self.cell.state);
            // Unread bytes may keep a peer that has more waiting for credit that would never come.
            state.deaf = state.finishing && (state.finish_seen || state.incoming.is_empty());
            state.deaf
        };
        if !finished {
            self.end(&Failure::unknown(Code::Unavailable, "the stream was dropped before its end"));
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let coop = ready!(poll_proceed(cx));
        let mut state = lock(&self.cell.state);
        let count = state.incoming.read(into);
        if count == 0 && into.remaining() > 0 && !state.finish_seen {
            if let Some(error) = state.error() {
                return Poll::Ready(Err(error));
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        coop.made_progress();
        state.consumed += u32::try_from(count).expect("at most the credit is buffered");
        if state.consumed < PORTION || state.finish_seen || state.end.is_some() {
            return Poll::Ready(Ok(()));
        }
        let portion = std::mem::take(&mut state.consumed);
        state.window += portion;
        drop(state);
        let credit = Bytes::copy_from_slice(&portion.to_be_bytes());
        self.core.send(Cause::Own, Kind::Credit, self.cell.id, credit);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let coop = ready!(poll_proceed(cx));
        let mut state = lock(&self.cell.state);
        if let Some(error) = state.error() {
            return Poll::Ready(Err(error));
        }
        if state.finishing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = state.copy(pieces);
        if count == 0 && pieces.iter().any(|piece| !piece.is_empty()) {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        coop.made_progress();
        let idle = count > 0 && self.queue(&mut state);
        drop(state);
        if idle {
            self.core.wake_writer();
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.cell.state).poll_sent(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.cell.state);
        let mut idle = false;
        if !state.finishing && state.end.is_none() {
            state.finishing = true;
            idle = self.queue(&mut state);
        }
        let sent = state.poll_sent(cx);
        drop(state);
        if idle {
            self.core.wake_writer();
        }
        sent
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.cell.id).field("peer", &self.core.label).finish_non_exhaustive()
    }
}

/// The failure inside an error of a [`Stream`]: the peer's reset, or the end of the session.
pub fn failure_of(error: &io::Error) -> Option<&Failure> {
    error.get_ref()?.downcast_ref()
}
