//! Streams as their users see them, whatever carries them.

use super::framed::Framed;
use super::lane::LaneStream;
use bytes::Bytes;
use longshore_wire::Failure;
use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A flow-controlled byte stream within a session.
///
/// `poll_shutdown` says that no more bytes follow, and is ready once everything has been handed to the link. A stream
/// dropped before that is reset, so the peer never takes a part for the whole. Reading gives an error after a reset or
/// the end of the session; [`failure_of`] finds the reason in it.
pub struct Stream(Kind);

enum Kind {
    /// Frames of data on the link.
    Framed(Framed),
    /// A stream of the carrier's own.
    Lane(Box<LaneStream>),
}

impl From<Framed> for Stream {
    fn from(stream: Framed) -> Self {
        Self(Kind::Framed(stream))
    }
}

impl From<LaneStream> for Stream {
    fn from(stream: LaneStream) -> Self {
        Self(Kind::Lane(Box::new(stream)))
    }
}

impl Stream {
    /// Ends the stream at once in both directions; what is under way is dropped.
    pub fn reset(self, reason: Failure) {
        match self.0 {
            Kind::Framed(stream) => stream.reset(&reason),
            Kind::Lane(mut stream) => stream.reset(&reason),
        }
    }

    /// Why the peer has reset the stream, if it has.
    pub fn reset_reason(&self) -> Option<Failure> {
        match &self.0 {
            Kind::Framed(stream) => stream.reset_reason(),
            Kind::Lane(stream) => stream.reset_reason(),
        }
    }

    /// The next bytes as they came, without a copy where that is possible; `None` at the end. Cancel safe.
    ///
    /// # Errors
    /// As reading does.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        match &mut self.0 {
            Kind::Framed(stream) => stream.chunk().await,
            Kind::Lane(stream) => poll_fn(|cx| stream.poll_chunk(cx)).await,
        }
    }

    /// Sends bytes, without a copy where that is possible; returns when they are queued. Not cancel safe: a part may be
    /// queued.
    ///
    /// # Errors
    /// As writing does.
    pub async fn send(&mut self, mut bytes: Bytes) -> io::Result<()> {
        match &mut self.0 {
            Kind::Framed(stream) => stream.send(bytes).await,
            Kind::Lane(stream) => {
                while !bytes.is_empty() {
                    poll_fn(|cx| stream.poll_send(cx, &mut bytes)).await?;
                }
                Ok(())
            }
        }
    }
}

impl Stream {
    /// As [`send`](Self::send), but listens meanwhile: when the peer says something, finishes, or resets the stream before
    /// all is queued, that is what it returns. The rest of `bytes` is then what was not queued.
    ///
    /// # Errors
    /// As reading and writing do.
    pub async fn send_listening(&mut self, bytes: &mut Bytes) -> io::Result<Option<Heard>> {
        poll_fn(|cx| {
            let heard = match &mut self.0 {
                Kind::Framed(stream) => stream.poll_chunk(cx),
                Kind::Lane(stream) => stream.poll_chunk(cx),
            };
            if let Poll::Ready(heard) = heard {
                return Poll::Ready(heard.map(|said| Some(said.map_or(Heard::End, Heard::Bytes))));
            }
            while !bytes.is_empty() {
                let sent = match &mut self.0 {
                    Kind::Framed(stream) => stream.poll_send(cx, bytes),
                    Kind::Lane(stream) => stream.poll_send(cx, bytes),
                };
                match sent {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(None))
        })
        .await
    }
}

/// What a peer said while it was sent something.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Some bytes.
    Bytes(Bytes),
    /// That no more follow.
    End,
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Framed(stream) => Pin::new(stream).poll_read(cx, into),
            Kind::Lane(stream) => Pin::new(stream.as_mut()).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Kind::Framed(stream) => Pin::new(stream).poll_write(cx, bytes),
            Kind::Lane(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self.0, Kind::Framed(_))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Kind::Framed(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Kind::Lane(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, pieces),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Framed(stream) => Pin::new(stream).poll_flush(cx),
            Kind::Lane(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Framed(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Lane(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, peer) = match &self.0 {
            Kind::Framed(stream) => (stream.id(), stream.label()),
            Kind::Lane(stream) => (stream.id, stream.label()),
        };
        f.debug_struct("Stream").field("id", &id).field("peer", &peer).finish_non_exhaustive()
    }
}

/// The failure inside an error of a [`Stream`]: the peer's reset, or the end of the session.
pub fn failure_of(error: &io::Error) -> Option<&Failure> {
    error.get_ref()?.downcast_ref()
}
