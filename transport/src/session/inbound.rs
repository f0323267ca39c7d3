//! What the peer wants of this side, in order of arrival, until somebody takes it.

use super::core::{Core, lock};
use super::requests::Request;
use super::stream::Stream;
use super::{First, Guard, Handler, SessionOptions};
use bytes::Bytes;
use longshore_wire::{Code, Failure};
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

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
    /// Answers that nobody takes it.
    fn refuse(self) {
        match self {
            Self::Request(request) => request.reply(Err(nobody())),
            Self::Open { stream, .. } => stream.reset(nobody()),
            Self::Notify(_) => {}
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Request(request) => request.body.len(),
            Self::Notify(body) => body.len(),
            Self::Open { head, .. } => head.len(),
        }
    }
}

/// How many arrivals can wait.
fn capacity(options: &SessionOptions) -> usize {
    NOTIFIES.saturating_add(options.max_requests).saturating_add(options.max_streams)
}

/// The queue between the reader and whoever holds the [`Inbound`]. Empty, it holds no memory.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Default)]
struct Waiting {
    arrivals: VecDeque<Incoming>,
    /// The reader adds no more.
    complete: bool,
    /// Nobody takes them any longer.
    unwanted: bool,
}

impl Queue {
    fn pop(&self) -> Option<Option<Incoming>> {
        let mut state = lock(&self.state);
        let incoming = state.arrivals.pop_front();
        if state.arrivals.is_empty() {
            state.arrivals = VecDeque::new();
        }
        if incoming.is_none() && !state.complete { None } else { Some(incoming) }
    }

    fn complete(&self) {
        lock(&self.state).complete = true;
        self.changed.notify_one();
    }
}

/// Arrivals from the peer.
///
/// Whoever does not take them makes the session refuse further requests and streams as `Busy` and drop further messages,
/// with a line in the log; pings and everything else go on. Dropped, all requests are refused.
pub struct Inbound {
    guard: Arc<Guard>,
    queue: Arc<Queue>,
}

impl Inbound {
    pub(super) fn new(guard: Arc<Guard>, queue: Arc<Queue>) -> Self {
        Self { guard, queue }
    }

    /// The next arrival; `None` when the session is over and all has been taken. Cancel safe.
    pub async fn next(&mut self) -> Option<Incoming> {
        loop {
            if let Some(incoming) = self.queue.pop() {
                let incoming = incoming?;
                self.guard.0.arrived.fetch_sub(incoming.bytes(), Relaxed);
                return Some(incoming);
            }
            self.queue.changed.notified().await;
        }
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        let arrivals = {
            let mut state = lock(&self.queue.state);
            state.unwanted = true;
            std::mem::take(&mut state.arrivals)
        };
        arrivals.into_iter().for_each(Incoming::refuse);
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound")
            .field("peer", &self.guard.0.label)
            .field("waiting", &lock(&self.queue.state).arrivals.len())
            .finish()
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
    /// Whether the queue is complete when this is gone.
    last: bool,
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        if let Taker::Queue(queue) | Taker::Sifted(_, queue) = &self.taker
            && self.last
        {
            queue.complete();
        }
    }
}

#[derive(Clone)]
enum Taker {
    /// Whoever holds the [`Inbound`].
    Queue(Arc<Queue>),
    /// The same, behind one who settles some requests at once.
    Sifted(Arc<dyn First>, Arc<Queue>),
    /// Called at once.
    Handler(Arc<dyn Handler>),
}

impl Arrivals {
    pub(super) fn queued(core: &Arc<Core>, queue: Arc<Queue>) -> Self {
        Self { core: Arc::clone(core), taker: Taker::Queue(queue), dropped: 0, last: true }
    }

    pub(super) fn sifted(core: &Arc<Core>, queue: Arc<Queue>, first: Arc<dyn First>) -> Self {
        Self { core: Arc::clone(core), taker: Taker::Sifted(first, queue), dropped: 0, last: true }
    }

    pub(super) fn handled(core: &Arc<Core>, handler: Arc<dyn Handler>) -> Self {
        Self { core: Arc::clone(core), taker: Taker::Handler(handler), dropped: 0, last: true }
    }

    /// A second way to the same taker, for those who put streams there; it ends no later than the first one's loop.
    pub(super) fn second(&self) -> Self {
        Self { core: Arc::clone(&self.core), taker: self.taker.clone(), dropped: 0, last: false }
    }

    /// A place for an arrival of so many bytes; otherwise what the peer is told.
    pub(super) fn place(&self, bytes: usize) -> Result<Place<'_>, Failure> {
        let (first, queue) = match &self.taker {
            Taker::Handler(handler) => return Ok(Place::Handler(handler.as_ref())),
            Taker::Queue(queue) => (None, queue),
            Taker::Sifted(first, queue) => (Some(first.as_ref()), queue),
        };
        let waiting = self.core.arrived.load(Relaxed);
        if waiting > 0 && waiting + bytes > BYTES {
            return Err(Failure::new(Code::Busy, "too many bytes wait to be taken in; ask again later"));
        }
        let state = lock(&queue.state);
        if state.unwanted {
            return Err(nobody());
        }
        if state.arrivals.len() >= capacity(&self.core.options) {
            return Err(Failure::new(Code::Busy, "too many requests wait to be taken in; ask again later"));
        }
        Ok(Place::Queue { core: &self.core, first, queue })
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
        /// Whoever sees requests first.
        first: Option<&'a dyn First>,
        /// Where there is room: the loops add one at a time or go over by one.
        queue: &'a Queue,
    },
    /// With a handler.
    Handler(&'a dyn Handler),
}

impl Place<'_> {
    pub(super) fn put(self, incoming: Incoming) {
        match self {
            Self::Queue { core, first, queue } => {
                let incoming = match (first, incoming) {
                    (Some(first), Incoming::Request(request)) => match first.take(request) {
                        Some(request) => Incoming::Request(request),
                        None => return,
                    },
                    (_, incoming) => incoming,
                };
                {
                    let mut state = lock(&queue.state);
                    if state.unwanted {
                        drop(state);
                        return incoming.refuse();
                    }
                    core.arrived.fetch_add(incoming.bytes(), Relaxed);
                    state.arrivals.push_back(incoming);
                }
                queue.changed.notify_one();
            }
            Self::Handler(handler) => match incoming {
                Incoming::Request(request) => handler.request(request),
                Incoming::Notify(body) => handler.notify(body),
                Incoming::Open { head, stream } => handler.open(head, stream),
            },
        }
    }
}
