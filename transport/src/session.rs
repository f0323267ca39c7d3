//! Requests, replies and streams over one proven link.
//!
//! ```text
//!  request, notify, open ─┐                                  ┌─▶ Call (a oneshot)
//!  Request::reply, pass ──┼─▶ Outbox ─▶ writer ═ link ═ reader ─▶ Inbound, or a Handler on the reader's own task
//!  Stream (write) ────────┘   control    │              │    └─▶ Stream (read)
//!                             then data  └── watchdog ──┘
//! ```
//!
//! What handlers cause while the reader works through one portion of arrivals, on whatever session, is written once per
//! session at its end, by the reader; the writer task has the rest. Idle, a session holds no buffer and no queue.
//!
//! It owns the link from the handshake to the end, and every queue on it; all are bounded. Control frames go before
//! bulk. The reader only sorts frames into queues and never waits for a consumer: a full queue is refused as `Busy`.
//! No bytes of the peer may make it panic, hang, or hold more memory than the options allow.

mod calls;
mod cell;
mod chunks;
mod clock;
mod core;
mod cork;
mod ending;
mod flow;
mod framed;
mod handler;
mod ids;
mod inbound;
mod input;
mod lane;
mod outbox;
mod pass;
mod phase;
mod reader;
mod requests;
mod stream;
mod traffic;
mod watchdog;
mod writer;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

pub use ending::Ending;
pub use handler::{First, Handler, Rescue};
pub use inbound::{Inbound, Incoming};
pub use pass::Onward;
pub use requests::Request;
pub use stream::{Heard, Stream, failure_of};
pub use traffic::Traffic;

use self::core::{Core, Farewell};
use self::inbound::{Arrivals, Queue};
use self::lane::Bundle;
use crate::{Peer, Proven};
use bytes::Bytes;
use longshore_wire::{ClusterUri, Code, Failure};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Limits and clocks of a session.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Time between two pings; both sides send them.
    pub ping_every: Duration,
    /// Time in which the answer to a ping is due. A late one is logged, and another ping takes its place.
    pub ping_deadline: Duration,
    /// The session ends when nothing has arrived, or nothing that waits could be written, for so long.
    pub lost_after: Duration,
    /// Requests of the peer that may be in work at once; more are refused as `Busy`.
    pub max_requests: usize,
    /// Streams that each side may have open at once; more are refused as `Busy`.
    pub max_streams: usize,
    /// Counts the bytes of all sessions that are started with clones of these options.
    pub traffic: Arc<Traffic>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            ping_every: Duration::from_secs(5),
            ping_deadline: Duration::from_millis(3750),
            lost_after: Duration::from_secs(10),
            max_requests: 1024,
            max_streams: 1024,
            traffic: Arc::default(),
        }
    }
}

/// A handle of one authenticated conversation.
///
/// The session ends gracefully when all its handles and its [`Inbound`] are dropped; requests and streams that are still
/// held do not keep it.
#[derive(Clone)]
pub struct Session {
    guard: Arc<Guard>,
}

/// Ends the session when nobody holds it any longer.
struct Guard(Arc<Core>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.end(Failure::new(Code::Unavailable, "the session is no longer used"), Farewell::Say);
    }
}

impl Session {
    /// Starts the conversation over a proven link.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(proven: Proven, options: SessionOptions) -> (Self, Inbound) {
        let queue = Arc::new(Queue::default());
        let session = Self::begin(proven, options, |core| Arrivals::queued(core, Arc::clone(&queue)));
        let inbound = Inbound::new(Arc::clone(&session.guard), queue);
        (session, inbound)
    }

    /// As [`start`](Self::start); `first` settles what it can where it arrives.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start_with(proven: Proven, options: SessionOptions, first: Arc<dyn First>) -> (Self, Inbound) {
        let queue = Arc::new(Queue::default());
        let session = Self::begin(proven, options, |core| Arrivals::sifted(core, Arc::clone(&queue), first));
        let inbound = Inbound::new(Arc::clone(&session.guard), queue);
        (session, inbound)
    }

    /// Starts the conversation over a proven link; `handler` takes what arrives, where it arrives.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn serve(proven: Proven, options: SessionOptions, handler: Arc<dyn Handler>) -> Self {
        Self::begin(proven, options, |core| Arrivals::handled(core, handler))
    }

    fn begin(proven: Proven, options: SessionOptions, arrivals: impl FnOnce(&Arc<Core>) -> Arrivals) -> Self {
        let Proven { link, peer, dialled } = proven;
        let (reading, writing) = tokio::io::split(link.io);
        let bundle = link.lanes.map(|lanes| Bundle::new(lanes, options.max_streams));
        let core = Core::new(peer, dialled, options, writing, bundle);
        watchdog::start(&core, reading, arrivals(&core));
        Self { guard: Arc::new(Guard(core)) }
    }

    fn core(&self) -> &Arc<Core> {
        &self.guard.0
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.core().peer
    }

    /// Asks the peer and waits for its answer. Dropping the future tells the peer that nobody waits any longer.
    ///
    /// # Errors
    /// The peer's own failure; `Timeout`, `Unavailable` when the session has ended, `TooLarge`. The outcome is
    /// `NotDone` only when the request certainly never left, or the peer says so.
    pub async fn request(&self, body: impl Into<Bytes>, timeout: Duration) -> Result<Bytes, Failure> {
        self.core().request(body.into(), timeout).await
    }

    /// Sends a message without reply; returns when it is queued.
    ///
    /// # Errors
    /// `Unavailable` when the session has ended, `TooLarge`.
    pub async fn notify(&self, body: impl Into<Bytes>) -> Result<(), Failure> {
        self.core().notify(body.into()).await
    }

    /// Opens a stream; `head` tells the peer what for. A peer that declines resets the stream.
    ///
    /// # Errors
    /// `Unavailable` when the session has ended, `Busy` when too many streams are open, `TooLarge` for the head.
    pub async fn open(&self, head: impl Into<Bytes>) -> Result<Stream, Failure> {
        self.core().open(head.into()).await
    }

    /// Sends what is queued but for bulk, says goodbye with this reason, and ends.
    pub fn close(&self, reason: Failure) {
        self.core().end(reason, Farewell::Say);
    }

    /// As [`close`](Self::close), and tells the dialler when to come back, or where to go instead.
    pub fn steer(&self, reason: Failure, retry_after: Option<Duration>, go_to: Vec<ClusterUri>) {
        self.core().end_with(Ending { reason, retry_after, go_to }, Farewell::Say);
    }

    /// Cuts the link at once.
    pub fn abort(&self) {
        self.core().end(Failure::new(Code::Unavailable, "the session was aborted on this side"), Farewell::Cut);
    }

    /// Resolves when the session has ended and its link is closed, with the reason of whoever ended it.
    pub async fn closed(&self) -> Failure {
        self.ended().await.reason
    }

    /// As [`closed`](Self::closed), with what the dialler should do now.
    pub async fn ended(&self) -> Ending {
        self.core().ended().await
    }

    /// Why the session has ended, or is about to; `None` while it lives.
    pub fn reason(&self) -> Option<&Failure> {
        self.core().ending().map(|ending| &ending.reason)
    }

    /// Requests of this side, passed-on ones included, that wait for the peer's answer.
    pub fn calls(&self) -> usize {
        self.core().calls.count()
    }

    /// Requests of the peer that wait for an answer of this side.
    pub fn served(&self) -> usize {
        self.core().served.count()
    }

    /// Whether the session has ended or is about to: nothing more can be sent.
    pub fn is_closed(&self) -> bool {
        self.core().is_closing()
    }

    /// Smoothed round-trip time of the pings; `None` before the first answer.
    pub fn rtt(&self) -> Option<Duration> {
        self.core().clock.rtt()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("peer", &self.core().label).field("closed", &self.is_closed()).finish()
    }
}
