//! Streams as frames on the link: flow-controlled bytes in both directions, each with its own bounded buffers.
//!
//! ```text
//! poll_write ─▶ outgoing ─▶ writer ═▶ reader ─▶ incoming ─▶ poll_read
//!               ≤ SEND      (credit)            ≤ the credit      │
//!                  ◀═══════════════ Credit ═══════════════════════╯
//! ```

use super::calls::fits;
use super::cell::{Cell, End, State};
use super::core::{Core, SHORT_TEXT, shortened};
use super::outbox::Cause;
use super::stream::Stream;
use bytes::Bytes;
use longshore_wire::frame::Kind;
use longshore_wire::{Code, Failure, encode};
use std::future::poll_fn;
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;
use tokio::time::Instant;

impl Core {
    /// Opens a stream to the peer.
    pub(super) async fn open(self: &Arc<Self>, head: Bytes) -> Result<Stream, Failure> {
        fits("the head of a stream", head.len(), Kind::Open)?;
        if let Some(bundle) = &self.bundle {
            return self.open_lane(bundle, head).await;
        }
        let limit = self.options.max_streams;
        self.admitted(|outbox| {
            let id = self.new_id(outbox);
            let Some(cell) = self.streams.open(id, limit) else {
                let message = format!("{limit} streams to {} are open; no more are allowed", self.label);
                return Err(Failure::new(Code::Busy, message));
            };
            outbox.frame(Cause::Own, Kind::Open, id, &[], head);
            Ok(Framed::new(self, cell).into())
        })
        .await
    }

    /// Tells the peer that a stream ends at once.
    pub(super) fn send_reset(&self, cause: Cause, id: u32, reason: &Failure) {
        self.send(cause, Kind::Reset, id, encode(&shortened(reason, SHORT_TEXT)).into());
    }
}

/// A [`Stream`](super::Stream) whose data are frames on the link.
pub(super) struct Framed {
    core: Arc<Core>,
    cell: Arc<Cell>,
}

impl Framed {
    pub(super) fn new(core: &Arc<Core>, cell: Arc<Cell>) -> Self {
        Self { core: Arc::clone(core), cell }
    }

    /// Ends the stream at once in both directions; what is under way is dropped.
    pub(super) fn reset(self, reason: &Failure) {
        self.end(reason);
    }

    /// Why the peer has reset the stream, if it has.
    pub(super) fn reset_reason(&self) -> Option<Failure> {
        match &self.cell.state().end {
            Some(End::Reset(failure)) => Some(failure.clone()),
            _ => None,
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.cell.id
    }

    pub(super) fn label(&self) -> &str {
        &self.core.label
    }

    fn end(&self, reason: &Failure) {
        let over = {
            let state = self.cell.state();
            state.end.is_some() || (state.finish_sent && state.finish_seen)
        };
        self.cell.close();
        if !over {
            self.core.streams.remove(self.cell.id);
            self.core.send_reset(Cause::Own, self.cell.id, reason);
        }
    }

    /// Grants the peer credit for bytes that were read.
    fn consumed(&self, mut state: MutexGuard<'_, State>, count: usize) {
        let widen = |span| self.core.streams.widen(self.cell.id, span);
        let portion = state.consume(count, self.core.clock.shortest(), Instant::now, widen);
        drop(state);
        if portion > 0 {
            let credit = Bytes::copy_from_slice(&portion.to_be_bytes());
            self.core.send(Cause::Own, Kind::Credit, self.cell.id, credit);
        }
    }

    /// See [`Stream::chunk`].
    pub(super) async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    pub(super) fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let coop = ready!(poll_proceed(cx));
        let mut state = self.cell.state();
        let Some(bytes) = state.incoming.pop(usize::MAX) else {
            if state.finish_seen {
                return Poll::Ready(Ok(None));
            }
            if let Some(error) = state.error() {
                return Poll::Ready(Err(error));
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        coop.made_progress();
        self.consumed(state, bytes.len());
        Poll::Ready(Ok(Some(bytes)))
    }

    /// See [`Stream::send`].
    pub(super) async fn send(&mut self, mut bytes: Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            poll_fn(|cx| self.poll_send(cx, &mut bytes)).await?;
        }
        Ok(())
    }

    pub(super) fn poll_send(&self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>> {
        let some = !bytes.is_empty();
        self.poll_offer(cx, |state| state.share(bytes), some).map_ok(drop)
    }

    /// Has `take` put bytes into the stream, and waits while that takes none though there are `some`.
    fn poll_offer(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut State) -> usize,
        some: bool,
    ) -> Poll<io::Result<usize>> {
        let coop = ready!(poll_proceed(cx));
        let mut state = self.cell.state();
        if let Some(error) = state.error() {
            return Poll::Ready(Err(error));
        }
        if state.finishing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = take(&mut state);
        if count == 0 && some {
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

impl Drop for Framed {
    fn drop(&mut self) {
        let finished = {
            let mut state = self.cell.state();
            // Unread bytes may keep a peer that has more waiting for credit that would never come.
            state.deaf = state.finishing && (state.finish_seen || state.incoming.is_empty());
            state.deaf
        };
        if !finished {
            self.end(&Failure::unknown(Code::Unavailable, "the stream was dropped before its end"));
        }
    }
}

impl AsyncRead for Framed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let coop = ready!(poll_proceed(cx));
        let mut state = self.cell.state();
        let count = state.incoming.read(into);
        if count == 0 && into.remaining() > 0 && !state.finish_seen {
            if let Some(error) = state.error() {
                return Poll::Ready(Err(error));
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        coop.made_progress();
        self.consumed(state, count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Framed {
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
        self.poll_offer(cx, |state| state.copy(pieces), pieces.iter().any(|piece| !piece.is_empty()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cell.state().poll_sent(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.cell.state();
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
