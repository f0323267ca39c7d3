//! What the loops and the handles of a session share, and how the session ends.
//!
//! Locks are short and none is held across an await. Their order: pipe → stream → outbox → tables and flow; a lock is never
//! taken while one further right is held.

use super::SessionOptions;
use super::calls::Calls;
use super::cell::Streams;
use super::clock::Clock;
use super::cork;
use super::ending::Ending;
use super::flow::Flow;
use super::lane::Bundle;
use super::outbox::{Cause, Outbox, Rest};
use super::phase::{Phase, Progress};
use super::requests::Served;
use super::writer::Pipe;
use crate::{Io, Peer};
use bytes::Bytes;
use longshore_wire::frame::Kind;
use longshore_wire::{Code, Failure, Outcome};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use tokio::io::WriteHalf;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Longest text of a failure in a reset or a goodbye, in bytes: the frame holds 4096.
pub(super) const SHORT_TEXT: usize = 3 * 1024;
/// Longest text of a failure in a reply, in bytes.
pub(super) const LONG_TEXT: usize = 64 * 1024;

/// Whether the peer is told that the session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// With a goodbye, behind all control frames.
    Say,
    /// No: the link is cut.
    Cut,
}

/// One session.
pub(super) struct Core {
    /// Itself.
    pub(super) me: Weak<Self>,
    pub(super) peer: Peer,
    /// The peer as it is called in messages.
    pub(super) label: String,
    /// Whether this side has dialled: then its ids are odd.
    pub(super) dialled: bool,
    pub(super) options: SessionOptions,
    pub(super) clock: Clock,
    pub(super) calls: Calls,
    pub(super) served: Served,
    pub(super) streams: Streams,
    /// The carrier's own streams, where it has some: then `streams` is empty.
    pub(super) bundle: Option<Bundle>,
    /// Bytes of arrivals that nobody has taken yet.
    pub(super) arrived: AtomicUsize,
    /// Woken when the control queue has been taken off.
    pub(super) room: Notify,
    /// Woken when the writer has something to do.
    pub(super) work: Notify,
    outbox: Mutex<Outbox>,
    /// Made with the first bulk: most sessions never have any.
    flow: OnceLock<Box<Mutex<Flow>>>,
    pipe: Mutex<Pipe>,
    ending: OnceLock<Ending>,
    progress: Progress,
}

impl Core {
    pub(super) fn new(
        peer: Peer,
        dialled: bool,
        options: SessionOptions,
        io: WriteHalf<Box<dyn Io>>,
        bundle: Option<Bundle>,
    ) -> Arc<Self> {
        let pipe = Pipe::new(io);
        let label = match peer.remote {
            Some(remote) => format!("{} {} at {remote}", peer.role, peer.node),
            None => format!("{} {} ({})", peer.role, peer.node, peer.carrier),
        };
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            peer,
            label,
            dialled,
            options,
            clock: Clock::new(),
            calls: Calls::default(),
            served: Served::default(),
            streams: Streams::default(),
            bundle,
            arrived: AtomicUsize::new(0),
            room: Notify::new(),
            work: Notify::new(),
            outbox: Mutex::new(Outbox::new(dialled, pipe.share_from())),
            flow: OnceLock::new(),
            pipe: Mutex::new(pipe),
            ending: OnceLock::new(),
            progress: Progress::new(),
        })
    }

    #[inline]
    pub(super) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        lock(&self.outbox)
    }

    pub(super) fn flow(&self) -> MutexGuard<'_, Flow> {
        lock(self.flow.get_or_init(|| Box::new(Mutex::new(Flow::new()))))
    }

    /// Whether bulk should leave at once, instead of being gathered on the way.
    pub(super) fn is_narrow(&self) -> bool {
        self.flow.get().is_none_or(|flow| lock(flow).is_narrow())
    }

    /// A pong has come: to the watchdog's ping, or to one that runs along with bulk.
    pub(super) fn pong(&self, payload: &[u8], now: Instant) {
        let Ok(stamp) = payload.try_into().map(u64::from_be_bytes) else { return };
        if !Flow::is_mark(stamp) {
            return self.clock.pong(stamp);
        }
        let Some(flow) = self.flow.get() else { return };
        lock(flow).answered(stamp, now);
        let idle = {
            let mut outbox = self.outbox();
            outbox.has_bulk() && outbox.signal()
        };
        if idle {
            self.wake_writer();
        }
    }

    /// Whether the writer has come to rest; bulk that waits for an answer of the peer keeps it from nothing.
    pub(super) fn rest(&self) -> Rest {
        let mut outbox = self.outbox();
        let held = outbox.has_bulk() && self.flow().room() == 0;
        outbox.rest(held)
    }

    pub(super) fn pipe(&self) -> MutexGuard<'_, Pipe> {
        lock(&self.pipe)
    }

    /// The pipe, unless somebody is writing.
    pub(super) fn try_pipe(&self) -> Option<MutexGuard<'_, Pipe>> {
        self.pipe.try_lock().ok()
    }

    /// Requests under way in either direction: more than one means that frames come in swarms.
    pub(super) fn is_busy(&self) -> bool {
        self.calls.count() + self.served.count() > 1
    }

    /// Queues a control frame that need not wait for room.
    pub(super) fn send(&self, cause: Cause, kind: Kind, id: u32, body: Bytes) {
        let idle = {
            let mut outbox = self.outbox();
            if outbox.is_closed() {
                return;
            }
            outbox.frame(cause, kind, id, &[], body);
            outbox.signal()
        };
        if idle {
            self.kick();
        }
    }

    /// Gets written what has just been queued. Within a reader's portion it waits for the end of that. Alone on the
    /// line, the caller writes it here and now, which saves the way through another task; in a swarm the writer gathers
    /// what others add.
    pub(super) fn kick(&self) {
        if cork::note(self) {
            return;
        }
        if self.is_busy() {
            return self.wake_writer();
        }
        self.write_or_wake();
    }

    /// Writes here and now; what the link does not take is left to the writer.
    pub(super) fn write_or_wake(&self) {
        self.clock.wrote();
        if !self.write_now() {
            self.work.notify_one();
        }
    }

    /// Lets the writer task run.
    pub(super) fn wake_writer(&self) {
        self.clock.wrote();
        self.work.notify_one();
    }

    /// Ends the session; the first reason counts. A later cut still cuts.
    pub(super) fn end(&self, reason: Failure, farewell: Farewell) {
        self.end_with(Ending::plain(reason), farewell);
    }

    /// Ends the session as [`end`](Self::end), with directions for the dialler.
    pub(super) fn end_with(&self, ending: Ending, farewell: Farewell) {
        let unsent = {
            let mut outbox = self.outbox();
            if !outbox.is_closed() {
                if farewell == Farewell::Say {
                    outbox.frame(Cause::Own, Kind::Goodbye, 0, &[], ending.goodbye().into());
                }
                outbox.close();
                outbox.signal();
                let _ = self.ending.set(ending);
            }
            outbox.batch()
        };
        self.progress.reach(match farewell {
            Farewell::Say => Phase::Closing,
            Farewell::Cut => Phase::Cut,
        });
        self.calls.end(|batch| self.lost(if batch < unsent { Outcome::Unknown } else { Outcome::NotDone }));
        self.served.end();
        self.streams.end(&self.lost(Outcome::Unknown));
        if let Some(bundle) = &self.bundle {
            bundle.end(&self.lost(Outcome::Unknown));
        }
        self.room.notify_waiters();
        self.work.notify_one();
    }

    /// Ends the session because the peer breaks its rules; both sides learn how.
    pub(super) fn violated(&self, what: &str) {
        tracing::warn!(peer = %self.label, what, "protocol violation");
        let message = format!("protocol violation by {}: {what}", self.label);
        self.end(Failure::new(Code::Invalid, message), Farewell::Say);
    }

    /// What those are told who wanted something of a session that has ended.
    pub(super) fn lost(&self, outcome: Outcome) -> Failure {
        let reason = self.ending.get().map_or("it was given up", |ending| &ending.reason.message);
        let message = format!("the session with {} has ended: {reason}", self.label);
        Failure { code: Code::Unavailable, message, outcome }
    }

    /// Whether the end has been declared.
    pub(super) fn is_closing(&self) -> bool {
        self.progress.is(Phase::Closing)
    }

    /// Whether the link must be cut.
    pub(super) fn is_cut(&self) -> bool {
        self.progress.is(Phase::Cut)
    }

    /// Resolves when the session has come so far towards its end.
    pub(super) async fn reached(&self, phase: Phase) {
        self.progress.reached(phase).await;
    }

    /// The last step: the link is closed, nobody works for the session any longer.
    pub(super) fn finish(&self) {
        self.end(Failure::new(Code::Internal, "the loops of the session were stopped"), Farewell::Cut);
        self.pipe().close();
        if let Some(bundle) = &self.bundle {
            bundle.close();
        }
        self.outbox().clear();
        if self.progress.reach(Phase::Over) {
            tracing::debug!(peer = %self.label, ending = ?self.ending.get(), "the session has ended");
        }
    }

    /// How it has ended, or is about to.
    pub(super) fn ending(&self) -> Option<&Ending> {
        self.ending.get()
    }

    /// Resolves after [`finish`](Self::finish), with the reason.
    pub(super) async fn ended(&self) -> Ending {
        self.reached(Phase::Over).await;
        self.ending.get().cloned().unwrap_or_else(|| Ending::plain(self.lost(Outcome::Unknown)))
    }
}

/// Locks; a panic of another holder leaves nothing half done that would matter more than going on.
#[inline]
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A failure whose text is at most `limit` bytes long.
pub(super) fn shortened(failure: &Failure, limit: usize) -> Failure {
    let mut message = failure.message.clone();
    message.truncate(message.floor_char_boundary(limit));
    Failure { message, ..failure.clone() }
}

/// How many entries a table has, readable without its lock.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicUsize);

impl Count {
    pub(super) fn set(&self, count: usize) {
        self.0.store(count, Relaxed);
    }

    pub(super) fn get(&self) -> usize {
        self.0.load(Relaxed)
    }
}
