//! Requests, replies and streams over one proven link.

use crate::{Peer, Proven};
use bytes::Bytes;
use longshore_wire::{Code, Failure};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Limits and clocks of a session.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Time between two pings.
    pub ping_every: Duration,
    /// Time in which a pong is due.
    pub ping_deadline: Duration,
    /// The session ends when nothing has arrived, or nothing could be written, for so long.
    pub lost_after: Duration,
    /// Requests of the peer that may be in work at once; more are refused as `Busy`.
    pub max_requests: usize,
    /// Streams that may be open at once, both sides' together; more are refused as `Busy`.
    pub max_streams: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            ping_every: Duration::from_secs(5),
            ping_deadline: Duration::from_millis(3750),
            lost_after: Duration::from_secs(10),
            max_requests: 1024,
            max_streams: 256,
        }
    }
}

/// A handle of one authenticated conversation.
#[derive(Debug, Clone)]
pub struct Session {
    peer: Peer,
}

fn not_yet() -> Failure {
    Failure::new(Code::Unsupported, "sessions are not built yet")
}

impl Session {
    /// Starts the conversation over a proven link. Must be called within a tokio runtime.
    pub fn start(proven: Proven, _options: SessionOptions) -> (Self, Inbound) {
        (Self { peer: proven.peer }, Inbound { _private: () })
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Asks the peer and waits for its answer. Dropping the future tells the peer that nobody waits.
    ///
    /// # Errors
    /// The peer's own failure; `Timeout`; `Unavailable` when the session has ended; `TooLarge`.
    pub async fn request(&self, _body: Vec<u8>, _timeout: Duration) -> Result<Bytes, Failure> {
        Err(not_yet())
    }

    /// Sends a message without reply.
    ///
    /// # Errors
    /// When the session has ended, or the message is too large.
    pub async fn notify(&self, _body: Vec<u8>) -> Result<(), Failure> {
        Err(not_yet())
    }

    /// Opens a stream; `head` tells the peer what for.
    ///
    /// # Errors
    /// When the session has ended, too many streams are open, or the head is too large.
    pub async fn open(&self, _head: Vec<u8>) -> Result<Stream, Failure> {
        Err(not_yet())
    }

    /// Says goodbye with this reason, then ends.
    pub fn close(&self, _reason: Failure) {}

    /// Cuts the link at once.
    pub fn abort(&self) {}

    /// Resolves when the session has ended, with the reason.
    pub async fn closed(&self) -> Failure {
        not_yet()
    }

    /// Whether the session has ended or is about to.
    pub fn is_closed(&self) -> bool {
        true
    }

    /// Smoothed round-trip time of the pings.
    pub fn rtt(&self) -> Option<Duration> {
        None
    }
}

/// What arrives from the peer.
#[derive(Debug)]
pub struct Inbound {
    _private: (),
}

impl Inbound {
    /// The next arrival; `None` when the session is over. Cancel safe.
    pub async fn next(&mut self) -> Option<Incoming> {
        None
    }
}

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
        /// The stream.
        stream: Stream,
    },
}

/// A request of the peer.
#[derive(Debug)]
pub struct Request {
    /// What it asks.
    pub body: Bytes,
    /// Until when it waits.
    pub deadline: Instant,
}

impl Request {
    /// Answers.
    pub fn reply(self, _reply: Result<Vec<u8>, Failure>) {}

    /// Cancelled when the peer no longer waits or the session has ended.
    pub fn cancelled(&self) -> CancellationToken {
        CancellationToken::new()
    }
}

/// A flow-controlled byte stream within a session. `poll_shutdown` says that no more bytes follow.
#[derive(Debug)]
pub struct Stream {
    _private: (),
}

impl Stream {
    /// Ends the stream at once in both directions.
    pub fn reset(self, _reason: Failure) {}

    /// Why the peer has reset the stream, if it has.
    pub fn reset_reason(&self) -> Option<Failure> {
        None
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::Error::other(not_yet())))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::Error::other(not_yet())))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The failure inside an error of a [`Stream`].
pub fn failure_of(error: &io::Error) -> Option<&Failure> {
    error.get_ref()?.downcast_ref()
}
