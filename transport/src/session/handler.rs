//! Who takes what arrives on a session, where it arrives.

use super::{Request, Stream};
use bytes::Bytes;

/// Takes what arrives, on the reader's own task.
///
/// It must not block or wait: while it works, nothing else of this session is read. Long work is spawned by it. What it
/// sends on this or any other session leaves when the bytes at hand are worked through. A panic ends the session.
/// A handler that holds a [`Session`](super::Session) keeps that session alive.
pub trait Handler: Send + Sync + 'static {
    /// The peer asks; it must be answered, passed on, or dropped, which is an answer too.
    fn request(&self, request: Request);

    /// A message without reply.
    fn notify(&self, body: Bytes);

    /// The peer has opened a stream. Reset it to decline.
    fn open(&self, head: Bytes, stream: Stream);
}
