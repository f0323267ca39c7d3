//! What the peer wants of this side, in order of arrival, until somebody takes it.

use super::core::Core;
use super::requests::Request;
use super::stream::Stream;
use super::{Guard, Handler, SessionOptions};
use bytes::Bytes;
use longshore_wire::{Code, Failure};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::mpsc;

/// Places for messages without reply, beside those for requests and streams.
const NOTIFIES: usize = 256;
/// Bytes of arrivals that may wait; more requests are refused, more messages dropped.
const BYTES: usize = 64 * 1024 * 1024;

/// One arrival.
#[derive(Debug)]
pub enum Incoming {
    /// Wants a reply.
    Request(Request),
    /// Wants none.
    Notify(Bytes),
    /// The peer has opened a stream.
    Open {
        /// What for.
        head: Bytes,
        /// The stream. Reset it to decline.
        stream: Stream,
    },
}

impl Incoming {
    fn bytes(&self) -> usize {
        match self {
            Self::Request(request) => request.body.len(),
            Self::Notify(body) => body.len(),
            Self::Open { head, .. } => head.len(),
        }
    }
}

/// How many arrivals can wait.
pub(super) fn capacity(options: &SessionOptions) -> usize {
    NOTIFIES.saturating_add(options.max_requests).saturating_add(options.max_streams).min(mpsc_limit())
}

/// The most that a tokio queue can be made for.
const fn mpsc_limit() -> usize {
    usize::MAX >> 4
}

/// Arrivals from the peer.
///
/// Whoever does not take them makes the session refuse further requests and streams as `Busy` and drop further messages,
/// with a line in the log; pings and everything else go on. Dropped, all requests are refused.
pub struct Inbound {
    guard: Arc<Guard>,
    queue: mpsc::Receiver<Incoming>,
}

impl Inbound {
    pub(super) fn new(guard: Arc<Guard>, queue: mpsc::Receiver<Incoming>) -> Self {
        Self { guard, queue }
    }

    /// The next arrival; `None` when the session is over and all has been taken. Cancel safe.
    pub async fn next(&mut self) -> Option<Incoming> {
        let incoming = self.queue.recv().await?;
        self.guard.0.arrived.fetch_sub(incoming.bytes(), Relaxed);
        Some(incoming)
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.queue.close();
        while let Ok(incoming) = self.queue.try_recv() {
            match incoming {
                Incoming::Request(request) => request.reply(Err(nobody())),
                Incoming::Open { stream, .. } => stream.reset(nobody()),
                Incoming::Notify(_) => tracing::debug!(peer = %self.guard.0.label, "a message was dropped unread"),
            }
        }
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound").field("peer", &self.guard.0.label).field("waiting", &self.queue.len()).finish()
    }
}

/// What a peer is told when nobody takes arrivals any longer.
fn nobody() -> Failure {
    Failure::new(Code::Unavailable, "this side of the session takes no requests any longer")
}

/// Where the reader puts arrivals. Never waits.
pub(super) struct Arrivals {
    core: Arc<Core>,
    taker: Taker,
    /// Messages that found the queue full.
    dropped: u64,
}

enum Taker {
    /// Whoever holds the [`Inbound`].
    Queue(mpsc::Sender<Incoming>),
    /// Called at once.
    Handler(Arc<dyn Handler>),
}

impl Arrivals {
    pub(super) fn queued(core: &Arc<Core>, queue: mpsc::Sender<Incoming>) -> Self {
        Self { core: Arc::clone(core), taker: Taker::Queue(queue), dropped: 0 }
    }

    pub(super) fn handled(core: &Arc<Core>, handler: Arc<dyn Handler>) -> Self {
        Self { core: Arc::clone(core), taker: Taker::Handler(handler), dropped: 0 }
    }

    /// A place for an arrival of so many bytes; otherwise what the peer is told.
    pub(super) fn place(&self, bytes: usize) -> Result<Place<'_>, Failure> {
        let queue = match &self.taker {
            Taker::Handler(handler) => return Ok(Place::Handler(handler.as_ref())),
            Taker::Queue(queue) => queue,
        };
        let waiting = self.core.arrived.load(Relaxed);
        if waiting > 0 && waiting + bytes > BYTES {
            return Err(Failure::new(Code::Busy, "too many bytes wait to be taken in; ask again later"));
        }
        match queue.try_reserve() {
            Ok(permit) => Ok(Place::Queue { core: &self.core, permit }),
            Err(mpsc::error::TrySendError::Full(())) => {
                Err(Failure::new(Code::Busy, "too many requests wait to be taken in; ask again later"))
            }
            Err(mpsc::error::TrySendError::Closed(())) => Err(nobody()),
        }
    }

    /// Puts a message without reply into the queue, or counts and logs that it could not.
    pub(super) fn notify(&mut self, body: Bytes) {
        let why = match self.place(body.len()) {
            Ok(place) => return place.put(Incoming::Notify(body)),
            Err(why) => why,
        };
        self.dropped += 1;
        if self.dropped.is_power_of_two() {
            tracing::warn!(peer = %self.core.label, dropped = self.dropped, %why, "messages were dropped");
        }
    }
}

/// A place for one arrival.
pub(super) enum Place<'a> {
    /// In the queue.
    Queue {
        /// Counts what waits.
        core: &'a Core,
        /// The right to put it there.
        permit: mpsc::Permit<'a, Incoming>,
    },
    /// With a handler.
    Handler(&'a dyn Handler),
}

impl Place<'_> {
    pub(super) fn put(self, incoming: Incoming) {
        match self {
            Self::Queue { core, permit } => {
                core.arrived.fetch_add(incoming.bytes(), Relaxed);
                permit.send(incoming);
            }
            Self::Handler(handler) => match incoming {
                Incoming::Request(request) => handler.request(request),
                Incoming::Notify(body) => handler.notify(body),
                Incoming::Open { head, stream } => handler.open(head, stream),
            },
        }
    }
}
