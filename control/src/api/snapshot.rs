//! `/v1/snapshot`: the whole state as one file.

use super::{Answer, Api};
use crate::saved;
use axum::body::Body;
use axum::http::header;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use std::io::{self, BufWriter, Write};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

/// Bytes of one piece.
const PIECE: usize = 256 * 1024;
/// Pieces that wait for the reader.
const QUEUE: usize = 4;
/// A reader that takes nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that was acknowledged before the request is in it. The state is written as it is at that moment, while
/// the node goes on.
pub(super) async fn save(api: Api) -> Answer {
    api.group.read_index().await?;
    let (state, applied) = api.group.image();
    let (pieces, body) = mpsc::channel(QUEUE);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut out = BufWriter::with_capacity(PIECE, Pieces { pieces: pieces.clone(), runtime: runtime.clone() });
        if let Err(error) = saved::write(&state, applied, &mut out).and_then(|()| out.flush()) {
            tracing::warn!(%error, "a snapshot was not taken away to its end");
            // The reader must not take what it has for the whole.
            let _ = runtime.block_on(timeout(PATIENCE, pieces.send(Err(error))));
        }
    });
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, Body::from_stream(ReceiverStream::new(body))).into_response())
}

/// Hands pieces to the body, from a thread that may block.
struct Pieces {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    runtime: Handle,
}

impl Write for Pieces {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let sending = self.pieces.send(Ok(Bytes::copy_from_slice(piece)));
        match self.runtime.block_on(async { timeout(PATIENCE, sending).await }) {
            Ok(Ok(())) => Ok(piece.len()),
            Ok(Err(_)) => Err(io::Error::other("the reader has gone")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the reader takes nothing any more")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
