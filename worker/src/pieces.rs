//! An archive's way from its stream to the thread that unpacks it: pieces as they came, through a short channel.
//!
//! It says whether all of the announced bytes came, and whether they have the announced second digest, which is made here: as
//! they come they are still in the processor's cache. It knows nothing else of what is in them.

use bytes::Bytes;
use longshore_transport::Stream;
use longshore_wire::Blake3;
use std::io::{self, BufRead, Read};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longest silence of a sender, or of the disk, before a transfer is given up.
const STALL: Duration = Duration::from_secs(30);
/// Bytes that are gathered before they are passed on: the other thread is woken for so many at a time.
const BATCH: usize = 256 * 1024;
/// Batches on their way between the two: with what a stream holds a few MiB.
const WAITING: usize = 4;

/// Where the bytes come from.
pub(crate) trait Source: Send {
    /// The next ones; `None` at the end.
    fn piece(&mut self) -> impl Future<Output = io::Result<Option<Bytes>>> + Send;
}

impl Source for Stream {
    fn piece(&mut self) -> impl Future<Output = io::Result<Option<Bytes>>> + Send {
        self.chunk()
    }
}

enum Piece {
    Bytes(Vec<Bytes>),
    /// All has come and is what was announced: without this, what has come is a part or damaged.
    End,
}

/// The way in.
pub(crate) struct Channel(mpsc::Sender<Piece>);

/// The way out: reads block. It fails at a place where the way in was given up.
pub(crate) struct Feed {
    pieces: mpsc::Receiver<Piece>,
    at_hand: Bytes,
    /// What follows that.
    next: std::vec::IntoIter<Bytes>,
    ended: bool,
}

/// A way for one archive.
pub(crate) fn channel() -> (Channel, Feed) {
    let (sender, pieces) = mpsc::channel(WAITING);
    (Channel(sender), Feed { pieces, at_hand: Bytes::new(), next: Vec::new().into_iter(), ended: false })
}

/// Passes on exactly `size` bytes, and the end only behind those that have this BLAKE3, where one is given. Says what was wrong with the source. When the other side takes no more, that side
/// knows why, and this is no error.
pub(crate) async fn feed(source: &mut impl Source, size: u64, blake3: Option<Blake3>, to: Channel) -> io::Result<()> {
    let mut hashing = blake3.map(|expected| (expected, Box::new(blake3::Hasher::new())));
    let (mut total, mut gathered, mut batch) = (0, 0, Vec::new());
    while let Some(bytes) = timely(source).await? {
        total += bytes.len() as u64;
        if total > size {
            return Err(announced("more", size));
        }
        if let Some((_, hash)) = &mut hashing {
            hash.update(&bytes);
        }
        gathered += bytes.len();
        batch.push(bytes);
        if gathered < BATCH && total < size {
            continue;
        }
        match timeout(STALL, to.0.send(Piece::Bytes(std::mem::take(&mut batch)))).await {
            Ok(Ok(())) => gathered = 0,
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(late("the disk has taken nothing")),
        }
    }
    if total < size {
        return Err(announced(total, size));
    }
    if let Some((expected, hash)) = hashing {
        let actual = Blake3(*hash.finalize().as_bytes());
        if actual != expected {
            let what = format!("its BLAKE3 is {actual}, expected {expected}; it was damaged or exchanged under way");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
    }
    // The place of a piece that was taken; without a taker the word is not needed.
    let _ = timeout(STALL, to.0.send(Piece::End)).await;
    Ok(())
}

/// Takes all there is, so that a sender of what is already here is not cut off in the middle.
pub(crate) async fn drain(source: &mut impl Source) -> io::Result<()> {
    while timely(source).await?.is_some() {}
    Ok(())
}

async fn timely(source: &mut impl Source) -> io::Result<Option<Bytes>> {
    timeout(STALL, source.piece()).await.unwrap_or_else(|_| Err(late("nothing came")))
}

fn late(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} for {} s", STALL.as_secs()))
}

fn announced(came: impl std::fmt::Display, size: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{came} bytes came, {size} were announced"))
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at_hand.is_empty() && !self.ended {
            if let Some(bytes) = self.next.next() {
                self.at_hand = bytes;
                continue;
            }
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(batch)) => self.next = batch.into_iter(),
                Some(Piece::End) => self.ended = true,
                None => return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the transfer was given up")),
            }
        }
        Ok(&self.at_hand)
    }

    fn consume(&mut self, count: usize) {
        bytes::Buf::advance(&mut self.at_hand, count);
    }
}

impl Read for Feed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
impl Source for &[u8] {
    async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        let (piece, rest) = self.split_at(self.len().min(1000));
        *self = rest;
        Ok((!piece.is_empty()).then(|| Bytes::copy_from_slice(piece)))
    }
}
