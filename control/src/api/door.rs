//! The way in: accepts connections, opens TLS where it is wanted, and gives up on peers that take nothing.
//!
//! A handshake never holds up the next connection, and is bounded in number and time. A reader that does not read is cut
//! off by its own connection: what is under way to it waits no longer than [`STALL`].

use longshore_transport::{Io, ServerTls, set_tcp};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};

/// Time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes that may be under way; more wait in the backlog.
const HANDSHAKES: usize = 256;
/// Pause after the system refused a connection, as it does when there are too many open files.
const REFUSED: Duration = Duration::from_millis(200);
/// A peer that takes no byte for so long is given up.
const STALL: Duration = Duration::from_secs(30);

/// A connection to the API.
pub(super) type Connection = Patient<Box<dyn Io>>;

/// Where connections come in.
#[derive(Debug)]
pub(super) enum Door {
    /// A Unix socket.
    Unix(UnixListener),
    /// TCP.
    Tcp(TcpListener),
    /// TLS over TCP.
    Tls {
        /// The socket.
        listener: TcpListener,
        /// The certificate.
        tls: ServerTls,
        /// Under way.
        handshakes: JoinSet<Option<Box<dyn Io>>>,
    },
}

impl Door {
    async fn enter(&mut self) -> io::Result<Option<Box<dyn Io>>> {
        match self {
            Self::Unix(listener) => Ok(Some(Box::new(listener.accept().await?.0))),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                set_tcp(&stream)?;
                Ok(Some(Box::new(stream)))
            }
            Self::Tls { listener, tls, handshakes } => {
                let room = handshakes.len() < HANDSHAKES;
                tokio::select! {
                    Some(opened) = handshakes.join_next() => Ok(opened.ok().flatten()),
                    accepted = listener.accept(), if room => {
                        let ((stream, remote), tls) = (accepted?, tls.clone());
                        set_tcp(&stream)?;
                        handshakes.spawn(async move {
                            match timeout(HANDSHAKE, tls.open(stream)).await {
                                Ok(Ok(stream)) => Some(stream),
                                Ok(Err(error)) => {
                                    tracing::debug!(%remote, %error, "a caller of the API opens no TLS");
                                    None
                                }
                                Err(_) => None,
                            }
                        });
                        Ok(None)
                    }
                }
            }
        }
    }
}

impl axum::serve::Listener for Door {
    type Io = Connection;
    type Addr = ();

    async fn accept(&mut self) -> (Connection, ()) {
        loop {
            match self.enter().await {
                Ok(Some(stream)) => return (Patient { stream, patience: STALL, stalled: None }, ()),
                Ok(None) => (),
                Err(error) => {
                    tracing::warn!(%error, "a connection to the API could not be accepted");
                    sleep(REFUSED).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream whose writes fail when the peer takes nothing for too long.
pub(super) struct Patient<S> {
    stream: S,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncWrite + Unpin> Patient<S> {
    fn written<T>(&mut self, polled: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stalled.as_mut().poll(context));
        tracing::warn!("a caller of the API takes nothing any more and is cut off");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the caller takes nothing any more")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(polled, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.written(polled, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.written(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.written(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test]
    async fn a_reader_that_does_not_read_is_cut_off() {
        let (stream, _peer) = tokio::io::duplex(8);
        let mut stream = Patient { stream, patience: Duration::from_millis(10), stalled: None };
        stream.write_all(&[1; 8]).await.unwrap();
        let error = timeout(Duration::from_secs(60), stream.write_all(&[1; 8])).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
