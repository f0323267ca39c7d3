//! A WebSocket (RFC 6455) of binary messages as a byte stream.
//!
//! Message borders mean nothing: bytes written are gathered until a flush, or until a message is full, and come out at the
//! other end in order. It answers pings, takes a close frame as the end of the stream, and holds at most one message in
//! each direction. A WebSocket has no half-close: after a shutdown the peer's bytes are still read until its close frame.

mod opening;

pub(crate) use opening::{WsError, accept, connect};

use crate::link::Io;
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Sink as _, Stream as _};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};

/// Largest message sent: a full data frame of a session and the small frames before it go out as one.
const MAX_SENT: usize = 128 * 1024;
/// Largest message taken; proxies may join messages, but an unproven peer must not make us hold much.
const MAX_TAKEN: usize = 256 * 1024;
/// What is written in pieces of so many bytes is bulk.
const BULK: usize = 16 * 1024;
/// Bytes asked of the carrier at once. The library keeps so much for each idle socket and clears it before each read; more
/// makes bulk no faster.
const READ_SIZE: usize = 8 * 1024;

/// Our settings of the library. Its own write buffer is off: [`WsIo`] gathers already.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_SIZE)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * MAX_TAKEN)
        .max_message_size(Some(MAX_TAKEN))
        .max_frame_size(Some(MAX_TAKEN))
}

/// The byte stream over a WebSocket.
pub(crate) struct WsIo<S> {
    socket: WebSocketStream<S>,
    /// What came and is not read yet.
    incoming: Bytes,
    /// An error that came behind bytes which were given first.
    failed: Option<io::Error>,
    /// What was written and is no message yet.
    outgoing: BytesMut,
    /// The peer's close frame came.
    ended: bool,
    /// Our close frame is out.
    closed: bool,
}

impl<S: Io> WsIo<S> {
    fn new(socket: WebSocketStream<S>) -> Self {
        let (incoming, outgoing) = (Bytes::new(), BytesMut::new());
        Self { socket, incoming, failed: None, outgoing, ended: false, closed: false }
    }

    /// Waits for the next bytes; `false` at the end of the stream. Only the reading side of the socket is polled here, so
    /// that a writer in another task keeps its own waker.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while !self.ended {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) if bytes.is_empty() => {}
                Some(Ok(Message::Binary(bytes))) => {
                    self.incoming = bytes;
                    return Poll::Ready(Ok(true));
                }
                // The library answers pings by itself with the next poll.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => {
                    let why = "a WebSocket text message; only binary ones are spoken here";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
                }
                Some(Ok(Message::Close(_))) => {
                    self.ended = true;
                    // One more poll sends the answer. Whether it arrives changes nothing: the peer is leaving.
                    let _ = Pin::new(&mut self.socket).poll_next(cx);
                }
                Some(Err(error)) => return Poll::Ready(Err(into_io(error))),
                None => self.ended = true,
            }
        }
        Poll::Ready(Ok(false))
    }

    /// Makes room for what is written next. Bulk gets a whole message's, which the next message takes over; with the first
    /// small one it is given back, so that an idle connection holds none.
    fn make_room(&mut self, length: usize) {
        if length >= BULK {
            self.outgoing.reserve(MAX_SENT - self.outgoing.len());
        } else if self.outgoing.is_empty() {
            self.outgoing = BytesMut::with_capacity(length);
        }
    }

    /// Makes a message of what was written. Waits until the one before has left.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.outgoing.is_empty() {
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(into_io)?;
        let message = Message::Binary(self.outgoing.split().freeze());
        Poll::Ready(Pin::new(&mut self.socket).start_send(message).map_err(into_io))
    }
}

impl<S: Io> AsyncRead for WsIo<S> {
    /// Gives all that has arrived, over the borders of messages: a reader that took one message at a time would answer
    /// each by itself, and a swarm of small ones would never travel together again.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        if self.incoming.is_empty() && !ready!(self.poll_message(cx))? {
            return Poll::Ready(Ok(()));
        }
        loop {
            let length = self.incoming.len().min(buf.remaining());
            buf.put_slice(&self.incoming[..length]);
            self.incoming.advance(length);
            if buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            match self.poll_message(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Err(error)) => {
                    self.failed = Some(error);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(false)) | Poll::Pending => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<S: Io> AsyncWrite for WsIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Gathers all pieces that fit.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.outgoing.len() >= MAX_SENT {
            ready!(self.poll_send(cx))?;
        }
        let room = MAX_SENT - self.outgoing.len();
        self.make_room(pieces.iter().map(|piece| piece.len()).sum::<usize>().min(room));
        let mut left = room;
        for piece in pieces {
            let count = piece.len().min(left);
            self.outgoing.extend_from_slice(&piece[..count]);
            left -= count;
        }
        Poll::Ready(Ok(room - left))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx).map_err(into_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            ready!(self.poll_send(cx))?;
            ready!(Pin::new(&mut self.socket).poll_close(cx)).map_err(into_io)?;
            self.closed = true;
        }
        Pin::new(self.socket.get_mut()).poll_shutdown(cx)
    }
}

/// What a user of a byte stream expects to see.
fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(ProtocolError::SendAfterClosing) => {
            io::Error::new(io::ErrorKind::BrokenPipe, "the peer has closed the WebSocket")
        }
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended without a WebSocket close frame")
        }
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}
