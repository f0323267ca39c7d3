//! The way out: takes frames from the outbox in batches, and writes them.
//!
//! One task writes; a caller that is alone on the line may write its own frame instead ([`Core::kick`]). Both do it
//! under the lock of the [`Pipe`] and neither waits in there. A flush follows only when nothing is left to write.

use super::chunks::{Chunks, SHARE_FROM};
use super::core::Core;
use super::outbox::Rest;
use super::traffic;
use crate::Io;
use bytes::Bytes;
use longshore_wire::frame::{Header, Kind, MAX_DATA};
use std::future::poll_fn;
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncWrite, WriteHalf};
use tokio::time::Instant;

/// Bulk of one batch, in bytes: so much can be in front of a control frame in this process. As much as the link lately took
/// within [`AHEAD`], at first the least.
const BATCH: std::ops::RangeInclusive<usize> = 16 * 1024..=256 * 1024;
/// Time that a control frame may wait for the bulk in front of it.
const AHEAD: Duration = Duration::from_millis(2);
/// A data frame is not cut smaller than this to fit a batch.
const LEAST: usize = 4 * 1024;
/// Largest data frame while several streams take turns.
const TURN: usize = 16 * 1024;
/// So many bytes of control frames need no company: they are written without waiting for what others may add.
const COMPANY: usize = 1024;
/// Pieces of one vectored write.
const SLICES: usize = 16;

/// The link's writing half and what is being written.
pub(super) struct Pipe {
    io: Option<WriteHalf<Box<dyn Io>>>,
    vectored: bool,
    queue: Chunks,
    /// The link takes nothing now; only the writer task tries again.
    blocked: bool,
    unflushed: bool,
    /// Bytes that are written and not counted yet.
    uncounted: u64,
    /// Bulk of the next batch.
    batch: usize,
    /// When the batch that is being written began, and its bulk.
    begun: Option<(Instant, usize)>,
    failed: Option<io::Error>,
}

impl Pipe {
    pub(super) fn new(io: WriteHalf<Box<dyn Io>>) -> Self {
        let vectored = io.is_write_vectored();
        Self {
            vectored,
            queue: Chunks::new(if vectored { SHARE_FROM } else { usize::MAX }),
            io: Some(io),
            blocked: false,
            unflushed: false,
            uncounted: 0,
            batch: *BATCH.start(),
            begun: None,
            failed: None,
        }
    }

    /// From which size on pieces are not copied: never, where the link takes one piece at a time, since each would
    /// become a packet of its own.
    pub(super) fn share_from(&self) -> usize {
        if self.vectored { SHARE_FROM } else { usize::MAX }
    }

    /// Closes this half of the link.
    pub(super) fn close(&mut self) {
        self.io = None;
        self.queue.clear();
    }

    fn poll_write(&mut self, core: &Core, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(io) = self.io.as_mut() else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = self.queue.slices(&mut slices);
            self.blocked = true;
            let written = ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices[..filled]))?;
            self.blocked = false;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.queue.advance(written);
            self.uncounted += written as u64;
            core.clock.wrote();
        }
        let bulk = self.begun.map_or(0, |(_, bulk)| bulk as u64);
        let control = std::mem::take(&mut self.uncounted).saturating_sub(bulk);
        core.options.traffic.sent(traffic::Bytes { control, bulk });
        Poll::Ready(Ok(()))
    }

    /// Learns from a batch that is written how large the next should be.
    fn measure(&mut self) {
        let Some((begun, bulk)) = self.begun.take() else { return };
        let nanos = begun.elapsed().as_nanos().max(1);
        let fits = (bulk as u128 * AHEAD.as_nanos() / nanos).min(2 * self.batch as u128);
        // A short batch tells little of what a long one would take.
        if fits > self.batch as u128 && bulk < self.batch / 2 {
            return;
        }
        self.batch = usize::try_from(fits).unwrap_or(usize::MAX).clamp(*BATCH.start(), *BATCH.end());
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(io) = self.io.as_mut()
            && self.unflushed
        {
            self.blocked = true;
            ready!(Pin::new(io).poll_flush(cx))?;
            self.blocked = false;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().map_or(Poll::Ready(Ok(())), |io| Pin::new(io).poll_shutdown(cx))
    }
}

impl Core {
    /// Writes the waiting control frames without waiting; `false` when something is left for the writer.
    pub(super) fn write_now(&self) -> bool {
        let Some(mut pipe) = self.try_pipe() else { return false };
        if pipe.blocked || pipe.failed.is_some() || !pipe.queue.is_empty() || !self.take_control(&mut pipe) {
            return false;
        }
        // The writer task goes on where this stops, and is woken for that. Its waker is not left with the link now: a
        // WebSocket wakes who wrote last with whatever arrives.
        let cx = &mut Context::from_waker(Waker::noop());
        let written = match pipe.poll_write(self, cx) {
            Poll::Ready(Ok(())) => pipe.poll_flush(cx),
            other => other,
        };
        match written {
            Poll::Ready(Ok(())) => {
                pipe.queue.rest();
                self.rest() == Rest::Idle
            }
            Poll::Ready(Err(error)) => {
                pipe.failed = Some(error);
                false
            }
            Poll::Pending => false,
        }
    }

    fn take_control(&self, pipe: &mut Pipe) -> bool {
        let taken = self.outbox().take_control(&mut pipe.queue);
        if taken {
            self.room.notify_waiters();
        }
        taken
    }

    /// Fills the empty pipe: all control frames, then a batch of bulk, the streams in turn.
    fn fill(&self, pipe: &mut Pipe) {
        self.take_control(pipe);
        let budget = if self.outbox().has_bulk() { pipe.batch.min(self.flow().room()) } else { 0 };
        let mut bulk = 0;
        while budget > bulk {
            let Some((cell, alone)) = self.outbox().next_ready() else { break };
            let taken = cell.take(if alone { MAX_DATA.min((budget - bulk).max(LEAST)) } else { TURN });
            if let Some(bytes) = taken.bytes {
                bulk += bytes.len();
                frame(&mut pipe.queue, Kind::Data, cell.id, bytes);
            }
            if taken.finish {
                frame(&mut pipe.queue, Kind::Finish, cell.id, Bytes::new());
            }
            if taken.more {
                self.outbox().ready(cell);
            } else if taken.complete {
                self.streams.remove(cell.id);
            }
        }
        pipe.begun = (bulk > 0).then(|| (Instant::now(), bulk));
        if let Some((now, bulk)) = pipe.begun
            && let Some(stamp) = self.flow().wrote(bulk, now)
        {
            frame(&mut pipe.queue, Kind::Ping, 0, Bytes::copy_from_slice(&stamp.to_be_bytes()));
        }
    }

    /// Writes until nothing is left.
    fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<Rest>> {
        let mut pipe = self.pipe();
        if let Some(error) = pipe.failed.take() {
            return Poll::Ready(Err(error));
        }
        loop {
            ready!(pipe.poll_write(self, cx))?;
            pipe.measure();
            if pipe.unflushed && self.is_narrow() {
                ready!(pipe.poll_flush(cx))?;
            }
            self.fill(&mut pipe);
            if !pipe.queue.is_empty() {
                continue;
            }
            ready!(pipe.poll_flush(cx))?;
            pipe.queue.rest();
            let rest = self.rest();
            if rest != Rest::More {
                return Poll::Ready(Ok(rest));
            }
        }
    }
}

fn frame(queue: &mut Chunks, kind: Kind, id: u32, payload: Bytes) {
    let length = u32::try_from(payload.len()).expect("slices are at most a data frame long");
    queue.copy(&Header { kind, id, length }.encode());
    queue.push(payload);
}

/// The writer task: ends after the goodbye, or with the link's error.
pub(super) async fn run(core: Arc<Core>) -> io::Result<()> {
    loop {
        core.work.notified().await;
        if core.is_busy() && core.outbox().waiting() < COMPANY {
            // Lets those run who were woken together with the sender, so that their frames share one write.
            tokio::task::yield_now().await;
        }
        if poll_fn(|cx| core.poll_drain(cx)).await? == Rest::Last {
            return poll_fn(|cx| core.pipe().poll_shutdown(cx)).await;
        }
    }
}
