//! Bodies of requests.

use crate::output::Progress;
use bytes::{Bytes, BytesMut};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead as _, ReadBuf};

/// Bytes read from a file at once.
const CHUNK: usize = 64 * 1024;

/// The body of a request.
pub(crate) type Body = BoxBody<Bytes, io::Error>;

/// Nothing.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// Bytes in memory.
pub(crate) fn bytes(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A file of `size` bytes, as it is read.
pub(crate) fn file(file: std::fs::File, size: u64, progress: Progress) -> Body {
    FileBody { file: tokio::fs::File::from_std(file), left: size, progress }.boxed()
}

struct FileBody {
    file: tokio::fs::File,
    left: u64,
    progress: Progress,
}

impl hyper::body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut chunk = BytesMut::zeroed(CHUNK);
        let mut buffer = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut self.file).poll_read(context, &mut buffer))?;
        let read = buffer.filled().len();
        chunk.truncate(read);
        if read == 0 || read as u64 > self.left {
            return Poll::Ready(Some(Err(io::Error::other("the file changed while it was read"))));
        }
        self.left -= read as u64;
        self.progress.add(read as u64);
        Poll::Ready(Some(Ok(Frame::data(chunk.freeze()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
