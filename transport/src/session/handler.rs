//! Who takes what arrives on a session, where it arrives.

use super::{Request, Stream};
use bytes::Bytes;
use longshore_wire::{Failure, RequestId};

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

/// Settles some requests where they arrive; the others go into the session's [`Inbound`](super::Inbound).
///
/// It runs on the reader's own task, under the same rules as a [`Handler`].
pub trait First: Send + Sync + 'static {
    /// Answers a request or passes it on, or gives it back to be queued.
    fn take(&self, request: Request) -> Option<Request>;
}

/// Takes requests back that were passed on to a session which has ended.
pub trait Rescue: Send + Sync + 'static {
    /// The session has ended before it brought an answer, or its peer is not the owner; `failure` says whether the request
    /// may have been carried out, `boot` is as it was given. Must not block or wait.
    fn lost(&self, request: Request, boot: Option<RequestId>, failure: Failure);
}
