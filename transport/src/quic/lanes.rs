//! The streams of a connection beside its control lane: each carries one transfer, so that a lost packet of one holds up
//! neither the others nor the control lane.
//!
//! | bytes | |
//! |---|---|
//! | 1 | [`BULK`] |
//! | 4 | length of the head, big-endian, at most [`MAX_HEAD`] |
//! | … | the head |
//! | … | what the stream carries, to its FIN |

use super::{BULK, CONTROL_PRIORITY, STREAM_WINDOW};
use bytes::Bytes;
use quinn::{Connection, ReadError, RecvStream, SendStream, VarInt, WriteError};
use std::any::Any;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;

/// Longest head, in bytes.
const MAX_HEAD: u32 = 64 * 1024;
/// Code of an abort whose reason is told on the control lane.
const TOLD: VarInt = VarInt::from_u32(1);

/// A connection whose peer has proven itself.
#[derive(Clone)]
pub(crate) struct Lanes {
    connection: Connection,
    _keep: Arc<dyn Any + Send + Sync>,
}

/// Why a stream goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The peer has ended it, and says why on the control lane.
    Told,
    /// The peer reads no more.
    Unwanted,
    /// The connection is over.
    Lost,
}

impl Lanes {
    pub(crate) fn new(connection: Connection, keep: Arc<dyn Any + Send + Sync>) -> Self {
        Self { connection, _keep: keep }
    }

    /// Lets the peer open so many streams.
    pub(crate) fn widen(&self, streams: usize) {
        // The control lane is one of those that the dialler has opened.
        let control = usize::from(self.connection.side().is_server());
        let count = |number: usize| VarInt::from_u64(number as u64).unwrap_or(VarInt::MAX);
        self.connection.set_max_concurrent_bi_streams(count(streams.saturating_add(control)));
        // Each stream has a window of its own. What all of them hold unread must never stop the control lane.
        let window = streams.saturating_add(2).saturating_mul(STREAM_WINDOW as usize);
        self.connection.set_receive_window(count(window));
        self.connection.set_send_window(window as u64);
    }

    /// Opens a stream; waits while the peer allows no further one.
    pub(crate) async fn open(&self, head: &[u8]) -> Result<Bulk, Broken> {
        let (mut send, recv) = self.connection.open_bi().await.map_err(|_| Broken::Lost)?;
        let length = u32::try_from(head.len()).map_err(|_| Broken::Unwanted)?;
        let opening = [&[BULK][..], &length.to_be_bytes(), head].concat();
        send.write_chunk(Bytes::from(opening)).await.map_err(write_broken)?;
        Ok(Bulk { send, recv, acknowledged: None })
    }

    /// The next stream of the peer, whose head is still to be read; `None` when the connection is over. Cancel safe.
    pub(crate) async fn accept(&self) -> Option<Bulk> {
        let (send, recv) = self.connection.accept_bi().await.ok()?;
        Some(Bulk { send, recv, acknowledged: None })
    }

    /// Ends the connection and all its streams. What has arrived can still be read.
    pub(crate) fn close(&self) {
        self.connection.close(VarInt::from_u32(0), b"");
    }
}

/// The control lane goes before all others.
pub(super) fn prefer(control: &SendStream) {
    // Refused only when the connection is over.
    let _ = control.set_priority(CONTROL_PRIORITY);
}

type Acknowledged = Pin<Box<dyn Future<Output = Result<(), Broken>> + Send + Sync>>;

/// One stream.
pub(crate) struct Bulk {
    send: SendStream,
    recv: RecvStream,
    /// Set by a finish: resolves when the peer has everything.
    acknowledged: Option<Acknowledged>,
}

impl Bulk {
    /// Its number; unique within the connection.
    pub(crate) fn id(&self) -> Option<u32> {
        u32::try_from(u64::from(VarInt::from(self.send.id()))).ok()
    }

    /// Reads the head.
    pub(crate) async fn head(&mut self) -> io::Result<Bytes> {
        let mut opening = [0; 5];
        self.recv.read_exact(&mut opening).await.map_err(io::Error::other)?;
        let [kind, length @ ..] = opening;
        let length = u32::from_be_bytes(length);
        if kind != BULK || length > MAX_HEAD {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a stream of kind {kind}, head {length} bytes"),
            ));
        }
        let mut head = vec![0; length as usize];
        self.recv.read_exact(&mut head).await.map_err(io::Error::other)?;
        Ok(head.into())
    }

    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<(), Broken>> {
        self.recv.poll_read_buf(cx, into).map_err(read_broken)
    }

    /// The next bytes as they came; `None` at the end.
    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        let chunk = pin!(self.recv.read_chunk(usize::MAX, true)).poll(cx);
        chunk.map_ok(|chunk| chunk.map(|chunk| chunk.bytes)).map_err(read_broken)
    }

    /// Takes bytes off `bytes` and sends them.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<Result<(), Broken>> {
        let sent = pin!(self.send.write_chunks(std::slice::from_mut(bytes))).poll(cx);
        sent.map_ok(drop).map_err(write_broken)
    }

    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Broken>> {
        Pin::new(&mut self.send).poll_write(cx, bytes).map_err(write_broken)
    }

    /// Says that no more follows; ready when the peer has everything.
    pub(crate) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.acknowledged.is_none() {
            // Refused only after an earlier end of the stream, which the wait below tells.
            let _ = self.send.finish();
            let stopped = self.send.stopped();
            self.acknowledged = Some(Box::pin(async move {
                match stopped.await {
                    Ok(None) => Ok(()),
                    Ok(Some(code)) => Err(stopped_broken(code)),
                    Err(_) => Err(Broken::Lost),
                }
            }));
        }
        let Some(acknowledged) = self.acknowledged.as_mut() else { return Poll::Ready(Ok(())) };
        let result = ready!(acknowledged.as_mut().poll(cx));
        self.acknowledged = Some(Box::pin(std::future::ready(result)));
        Poll::Ready(result)
    }

    /// Ends both directions at once; why is told on the control lane.
    pub(crate) fn abort(&mut self) {
        // Either is refused only when that direction has ended already.
        let _ = self.send.reset(TOLD);
        let _ = self.recv.stop(TOLD);
    }
}

fn read_broken(error: ReadError) -> Broken {
    match error {
        ReadError::Reset(_) => Broken::Told,
        ReadError::ConnectionLost(_) | ReadError::ClosedStream | ReadError::ZeroRttRejected => Broken::Lost,
        ReadError::IllegalOrderedRead => Broken::Unwanted,
    }
}

fn write_broken(error: WriteError) -> Broken {
    match error {
        WriteError::Stopped(code) => stopped_broken(code),
        WriteError::ConnectionLost(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => Broken::Lost,
    }
}

fn stopped_broken(code: VarInt) -> Broken {
    if code == TOLD { Broken::Told } else { Broken::Unwanted }
}
