//! One bidirectional QUIC stream as a byte stream.
//!
//! With the last handle of a connection QUIC drops what is under way, where TCP would still deliver it. So a shutdown
//! waits until the peer has everything, and a dropped lane lingers for a while.

use super::into_io;
use quinn::{ReadError, RecvStream, SendStream, StoppedError, VarInt, WriteError};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send>>;

/// Time in which what a dropped lane has written may still arrive.
const LINGER: Duration = Duration::from_secs(3);

/// Those that linger.
static LINGERING: LazyLock<TaskTracker> = LazyLock::new(TaskTracker::new);

/// The stream, and what must live as long as it does.
pub(super) struct Lane<T: Send + 'static> {
    send: SendStream,
    recv: RecvStream,
    /// Set by a shutdown: resolves when the peer has everything.
    stopped: Option<Stopped>,
    keep: Option<T>,
}

impl<T: Send + 'static> Lane<T> {
    pub(super) fn new(send: SendStream, recv: RecvStream, keep: T) -> Self {
        Self { send, recv, stopped: None, keep: Some(keep) }
    }
}

impl<T: Send + Unpin + 'static> AsyncRead for Lane<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.recv.poll_read_buf(cx, buf).map_err(read_error)
    }
}

impl<T: Send + Unpin + 'static> AsyncWrite for Lane<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send).poll_write(cx, buf).map_err(write_error)
    }

    /// Nothing is gathered here: what was written leaves by itself.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stopped.is_none() {
            // Refused only after an earlier end of the stream, which the wait below tells.
            let _ = self.send.finish();
            let stopped = self.send.stopped();
            self.stopped = Some(Box::pin(stopped));
        }
        let Some(stopped) = self.stopped.as_mut() else { return Poll::Ready(Ok(())) };
        match ready!(stopped.as_mut().poll(cx)) {
            Ok(_) => {
                // A second shutdown has nothing to wait for.
                self.stopped = Some(Box::pin(std::future::ready(Ok(None))));
                Poll::Ready(Ok(()))
            }
            Err(StoppedError::ConnectionLost(error)) => Poll::Ready(Err(into_io(error))),
            Err(error @ StoppedError::ZeroRttRejected) => Poll::Ready(Err(error.into())),
        }
    }
}

impl<T: Send + 'static> Drop for Lane<T> {
    fn drop(&mut self) {
        // Refused only when the stream has ended already.
        let _ = self.send.finish();
        let (stopped, keep) = (self.send.stopped(), self.keep.take());
        // Without a runtime nothing is under way any longer.
        if let Ok(runtime) = Handle::try_current() {
            let lingering = async move {
                // It has arrived, the connection is lost, or the peer takes too long: the lane is gone in any case.
                let _ = tokio::time::timeout(LINGER, stopped).await;
                drop(keep);
            };
            LINGERING.spawn_on(lingering, &runtime);
        }
    }
}

fn read_error(error: ReadError) -> io::Error {
    match error {
        ReadError::ConnectionLost(error) => into_io(error),
        other => other.into(),
    }
}

fn write_error(error: WriteError) -> io::Error {
    match error {
        WriteError::ConnectionLost(error) => into_io(error),
        WriteError::Stopped(_) => io::Error::new(io::ErrorKind::BrokenPipe, "the peer has closed the connection"),
        other => other.into(),
    }
}
