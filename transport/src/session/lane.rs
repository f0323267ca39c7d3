//! Streams over a carrier that has streams of its own: each is one of the carrier's, and has the carrier's flow control.
//!
//! The control lane carries only their resets, with the reason. It knows nothing of frames of data.

use super::core::{Core, Farewell, lock};
use super::ids::IdMap;
use super::inbound::{Arrivals, Incoming};
use super::outbox::Cause;
use super::stream::Stream;
use crate::quic::{Broken, Bulk, Lanes};
use bytes::Bytes;
use longshore_wire::{Code, Failure, Outcome};
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinSet;
use tokio::time::Sleep;

/// Time for the peer to allow one more stream, and for a head to arrive.
const OPENING: Duration = Duration::from_secs(5);
/// Time for the reason of a reset to arrive behind the reset itself.
const REASON: Duration = Duration::from_secs(2);

/// The carrier's streams of one session.
pub(super) struct Bundle {
    lanes: Lanes,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    cells: IdMap<Arc<Cell>>,
    /// How many have even and odd numbers: the dialler's and the acceptor's.
    sides: [usize; 2],
    /// The session is over.
    ended: bool,
}

/// What a stream shares with the session's reader.
#[derive(Default)]
struct Cell(Mutex<State>);

#[derive(Default)]
struct State {
    end: Option<End>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// How a stream ended before both sides had finished.
#[derive(Debug, Clone)]
enum End {
    /// The peer reset it.
    Reset(Failure),
    /// The session is over; what has arrived can still be read.
    Lost(Failure),
}

impl End {
    fn error(&self) -> io::Error {
        match self {
            Self::Reset(failure) => io::Error::new(io::ErrorKind::ConnectionReset, failure.clone()),
            Self::Lost(failure) => io::Error::new(io::ErrorKind::ConnectionAborted, failure.clone()),
        }
    }
}

impl Bundle {
    /// Takes the carrier's streams into use; the peer may open so many.
    pub(super) fn new(lanes: Lanes, max_streams: usize) -> Self {
        lanes.widen(max_streams);
        Self { lanes, table: Mutex::default() }
    }

    fn enter(&self, id: u32, limit: usize) -> Option<Arc<Cell>> {
        let mut table = lock(&self.table);
        let side = id as usize % 2;
        if table.ended || table.sides[side] >= limit {
            return None;
        }
        table.sides[side] += 1;
        Some(Arc::clone(table.cells.entry(id).or_default()))
    }

    fn leave(&self, id: u32) {
        let mut table = lock(&self.table);
        if table.cells.remove(&id).is_some() {
            table.sides[id as usize % 2] -= 1;
        }
    }

    /// The peer has reset a stream. It may be one that nobody holds any longer, or whose head is still under way.
    pub(super) fn reset(&self, id: u32, failure: Failure) {
        let cell = lock(&self.table).cells.get(&id).cloned();
        if let Some(cell) = cell {
            cell.end(End::Reset(failure));
        }
    }

    /// Ends all, since the session does.
    pub(super) fn end(&self, failure: &Failure) {
        let cells: Vec<_> = {
            let mut table = lock(&self.table);
            table.ended = true;
            table.cells.values().cloned().collect()
        };
        cells.into_iter().for_each(|cell| cell.end(End::Lost(failure.clone())));
    }

    /// Closes the carrier.
    pub(super) fn close(&self) {
        self.lanes.close();
    }
}

impl Cell {
    fn end(&self, end: End) {
        let wakers = {
            let mut state = lock(&self.0);
            state.end.get_or_insert(end);
            [state.reader.take(), state.writer.take()]
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Core {
    /// Opens a stream of the carrier to the peer.
    pub(super) async fn open_lane(self: &Arc<Self>, bundle: &Bundle, head: Bytes) -> Result<Stream, Failure> {
        let limit = self.options.max_streams;
        let busy = || {
            let message = format!("{limit} streams to {} are open; no more are allowed", self.label);
            Failure::new(Code::Busy, message)
        };
        if lock(&bundle.table).sides[usize::from(!self.dialled)] >= limit {
            return Err(busy());
        }
        let bulk = match tokio::time::timeout(OPENING, bundle.lanes.open(&head)).await {
            Ok(Ok(bulk)) if !self.is_closing() => bulk,
            Ok(_) => return Err(self.lost(Outcome::NotDone)),
            Err(_) => {
                let message = format!("{} allows no further stream at present", self.label);
                return Err(Failure::new(Code::Busy, message));
            }
        };
        let id =
            bulk.id().ok_or_else(|| Failure::new(Code::Unavailable, "the connection has no stream numbers left"))?;
        match bundle.enter(id, limit) {
            Some(cell) => Ok(LaneStream::new(self, cell, id, bulk).into()),
            None => Err(busy()),
        }
    }
}

/// Takes the peer's streams, until the connection is over.
pub(super) async fn run(core: Arc<Core>, arrivals: Arrivals) {
    let Some(bundle) = &core.bundle else { return };
    // As many as the peer may have open.
    let mut opening = JoinSet::new();
    loop {
        tokio::select! {
            bulk = bundle.lanes.accept() => match bulk {
                Some(bulk) => drop(opening.spawn(tokio::time::timeout(OPENING, opened(bulk)))),
                None => return,
            },
            Some(joined) = opening.join_next() => match joined {
                Ok(Ok(Ok((bulk, head)))) => take(&core, bundle, &arrivals, bulk, head),
                Ok(Ok(Err(error))) if error.kind() == io::ErrorKind::InvalidData => core.violated(&error.to_string()),
                // Given up, or too slow: it is gone with this.
                Ok(_) => {}
                Err(error) => {
                    let message = format!("opening a stream of {} failed: {error}", core.label);
                    core.end(Failure::new(Code::Internal, message), Farewell::Cut);
                }
            },
        }
    }
}

async fn opened(mut bulk: Bulk) -> io::Result<(Bulk, Bytes)> {
    let head = bulk.head().await?;
    Ok((bulk, head))
}

fn take(core: &Arc<Core>, bundle: &Bundle, arrivals: &Arrivals, mut bulk: Bulk, head: Bytes) {
    let limit = core.options.max_streams;
    let Some(id) = bulk.id() else { return };
    let why = match arrivals.place(head.len()) {
        Err(why) => why,
        Ok(place) => match bundle.enter(id, limit) {
            Some(cell) => {
                let stream = LaneStream::new(core, cell, id, bulk).into();
                return place.put(Incoming::Open { head, stream });
            }
            None => Failure::new(Code::Busy, format!("{limit} streams are open; close some first")),
        },
    };
    core.send_reset(Cause::Reflex, id, &why);
    bulk.abort();
}

/// A [`Stream`] that is one of the carrier's.
pub(super) struct LaneStream {
    core: Arc<Core>,
    cell: Arc<Cell>,
    pub(super) id: u32,
    bulk: Bulk,
    finishing: bool,
    finish_seen: bool,
    /// Runs while the reason of a reset is awaited.
    patience: Option<Pin<Box<Sleep>>>,
}

impl LaneStream {
    fn new(core: &Arc<Core>, cell: Arc<Cell>, id: u32, bulk: Bulk) -> Self {
        let core = Arc::clone(core);
        Self { core, cell, id, bulk, finishing: false, finish_seen: false, patience: None }
    }

    pub(super) fn label(&self) -> &str {
        &self.core.label
    }

    pub(super) fn reset_reason(&self) -> Option<Failure> {
        match &lock(&self.cell.0).end {
            Some(End::Reset(failure)) => Some(failure.clone()),
            _ => None,
        }
    }

    pub(super) fn reset(&mut self, reason: &Failure) {
        let over = lock(&self.cell.0).end.is_some() || (self.finishing && self.finish_seen);
        // Nothing is left for the drop to say.
        self.finishing = true;
        if !over {
            self.core.send_reset(Cause::Own, self.id, reason);
            self.bulk.abort();
        }
    }

    /// The error that the peer or the end of the session has left.
    fn ended(&self) -> Option<End> {
        lock(&self.cell.0).end.clone()
    }

    /// The error of a stream that was reset before all of it was read.
    fn cut_off(&self) -> Option<io::Error> {
        match self.ended() {
            Some(end @ End::Reset(_)) if !self.finish_seen => Some(end.error()),
            _ => None,
        }
    }

    /// Waits for something to read, or for the end.
    fn wait_read(&self, cx: &Context<'_>) -> Poll<io::Error> {
        let mut state = lock(&self.cell.0);
        if let Some(end) = &state.end {
            return Poll::Ready(end.error());
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until something can be written, or for the end.
    fn wait_write(&self, cx: &Context<'_>) -> Poll<io::Error> {
        let mut state = lock(&self.cell.0);
        if let Some(end) = &state.end {
            return Poll::Ready(end.error());
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Why nothing can be written, if so.
    fn refused(&self) -> Option<io::Error> {
        let finishing = self.finishing.then(|| io::ErrorKind::BrokenPipe.into());
        self.ended().map(|end| end.error()).or(finishing)
    }

    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if let Some(error) = self.cut_off() {
            return Poll::Ready(Err(error));
        }
        match self.bulk.poll_chunk(cx) {
            Poll::Ready(Ok(chunk)) => {
                self.finish_seen |= chunk.is_none();
                Poll::Ready(Ok(chunk))
            }
            Poll::Ready(Err(broken)) => self.poll_error(cx, broken).map(Err),
            Poll::Pending => self.wait_read(cx).map(Err),
        }
    }

    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>> {
        if let Some(error) = self.refused() {
            return Poll::Ready(Err(error));
        }
        match self.bulk.poll_send(cx, bytes) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(broken)) => self.poll_error(cx, broken).map(Err),
            Poll::Pending => self.wait_write(cx).map(Err),
        }
    }

    /// What the user is told of a broken stream; waits for the reason while it may be under way.
    fn poll_error(&mut self, cx: &mut Context<'_>, broken: Broken) -> Poll<io::Error> {
        let failure = Failure::new(Code::Unavailable, "nobody reads this stream any longer");
        if broken == Broken::Unwanted {
            return Poll::Ready(End::Reset(failure).error());
        }
        {
            let mut state = lock(&self.cell.0);
            if let Some(end) = &state.end {
                return Poll::Ready(end.error());
            }
            state.reader = Some(cx.waker().clone());
            state.writer = Some(cx.waker().clone());
        }
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(REASON)));
        ready!(patience.as_mut().poll(cx));
        let failure = Failure::unknown(Code::Unavailable, "the peer broke this stream off and did not say why");
        Poll::Ready(End::Reset(failure).error())
    }
}

impl Drop for LaneStream {
    fn drop(&mut self) {
        if !self.finishing {
            self.reset(&Failure::unknown(Code::Unavailable, "the stream was dropped before its end"));
        }
        if let Some(bundle) = &self.core.bundle {
            bundle.leave(self.id);
        }
    }
}

impl AsyncRead for LaneStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.cut_off() {
            return Poll::Ready(Err(error));
        }
        let before = into.filled().len();
        match self.bulk.poll_read(cx, into) {
            Poll::Ready(Ok(())) => {
                self.finish_seen |= into.filled().len() == before && into.remaining() > 0;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(broken)) => self.poll_error(cx, broken).map(Err),
            Poll::Pending => self.wait_read(cx).map(Err),
        }
    }
}

impl AsyncWrite for LaneStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.refused() {
            return Poll::Ready(Err(error));
        }
        match self.bulk.poll_write(cx, bytes) {
            Poll::Ready(Ok(count)) => Poll::Ready(Ok(count)),
            Poll::Ready(Err(broken)) => self.poll_error(cx, broken).map(Err),
            Poll::Pending => self.wait_write(cx).map(Err),
        }
    }

    /// What was written leaves by itself.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finishing
            && let Some(end) = self.ended()
        {
            return Poll::Ready(Err(end.error()));
        }
        self.finishing = true;
        match ready!(self.bulk.poll_finish(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(broken) => self.poll_error(cx, broken).map(Err),
        }
    }
}

#[cfg(test)]
mod tests;
