//! How a snapshot travels, at both ends.
//!
//! ```text
//! sender                                   receiver
//! open: head, size, stamp ───────────────▶ the part of this snapshot, if there is one; any other is removed
//!                         ◀─────────────── how many bytes are there
//! chunks from there on, each checked ────▶ appended
//!                         ◀─────────────── installed, or why not
//! ```
//!
//! A receiver takes one snapshot at a time: a newer stream ends the one before, whose sender has usually gone. Must never
//! install what has not been read and checked as a whole.

use super::message::{self, Installed, SnapshotHead};
use super::types::Snapshot;
use crate::machine::{Partial, PartialId, SnapshotFile, Snapshots};
use longshore_transport::Stream;
use longshore_wire::{Code, Failure, NodeId};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Mutex as Turns, MutexGuard};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Bytes of a snapshot read and sent at a time.
const CHUNK: usize = 256 * 1024;
/// Largest chunk that is taken.
const MAX_CHUNK: usize = 1024 * 1024;
/// Longest silence of the other side within a transfer.
const SILENCE: Duration = Duration::from_secs(60);
/// Time for the receiver to read, check and install a snapshot of up to 1 GiB.
const INSTALL: Duration = Duration::from_secs(300);
/// Largest answer to a snapshot, in bytes.
const ANSWER: u64 = 64 * 1024;

/// Sends all of a snapshot, as version 1 has it, and returns the receiver's answer.
pub(super) async fn send_whole(stream: &mut Stream, snapshot: &Snapshot) -> io::Result<Vec<u8>> {
    let mut offset = 0;
    while offset < snapshot.snapshot.size {
        let chunk = read(&snapshot.snapshot, offset).await?;
        in_time(SILENCE, stream.write_all(&chunk)).await?;
        offset += length(&chunk);
    }
    answer(stream).await
}

/// Sends what the receiver lacks of a snapshot, and returns its answer.
pub(super) async fn send_rest(stream: &mut Stream, snapshot: &Snapshot) -> io::Result<Vec<u8>> {
    let mut have = [0; 8];
    in_time(SILENCE, stream.read_exact(&mut have)).await?;
    let (mut offset, size) = (u64::from_be_bytes(have), snapshot.snapshot.size);
    if offset > 0 {
        tracing::info!(offset, size, "the transfer of a snapshot goes on where it broke off");
    }
    while offset < size {
        let chunk = read(&snapshot.snapshot, offset).await?;
        let length32 = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        let head = [length32.to_be_bytes(), crc32fast::hash(&chunk).to_be_bytes()].concat();
        in_time(SILENCE, stream.write_all(&head)).await?;
        in_time(SILENCE, stream.write_all(&chunk)).await?;
        offset += length(&chunk);
    }
    answer(stream).await
}

async fn read(file: &SnapshotFile, offset: u64) -> io::Result<Vec<u8>> {
    let file = file.clone();
    let read = tokio::task::spawn_blocking(move || file.read_at(offset, CHUNK)).await;
    let chunk = read.map_err(io::Error::other)?.map_err(io::Error::other)?;
    match chunk.is_empty() {
        true => Err(io::ErrorKind::UnexpectedEof.into()),
        false => Ok(chunk),
    }
}

async fn answer(stream: &mut Stream) -> io::Result<Vec<u8>> {
    stream.shutdown().await?;
    let mut answer = Vec::new();
    in_time(INSTALL, stream.take(ANSWER).read_to_end(&mut answer)).await?;
    Ok(answer)
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn length(chunk: &[u8]) -> u64 {
    u64::try_from(chunk.len()).unwrap_or(u64::MAX)
}

/// Lets one snapshot at a time in; the newest wins.
#[derive(Debug, Default)]
pub(super) struct Gate {
    newest: Mutex<CancellationToken>,
    turns: Turns<()>,
    /// Bytes that have arrived since the start.
    received: AtomicU64,
}

/// The right to receive. Cancelled when somebody else wants to.
pub(super) struct Turn<'a> {
    received: &'a AtomicU64,
    cancelled: CancellationToken,
    _turn: MutexGuard<'a, ()>,
}

impl Gate {
    /// Bytes of snapshots that have arrived since the start.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Ends the transfer under way, if there is one, and waits for its end.
    ///
    /// # Errors
    /// `Busy` when it is being installed, or a still newer one has come.
    pub(super) async fn enter(&self) -> Result<Turn<'_>, Failure> {
        let cancelled = CancellationToken::new();
        std::mem::replace(&mut *self.newest.lock().unwrap_or_else(PoisonError::into_inner), cancelled.clone()).cancel();
        let turn = tokio::select! {
            turn = timeout(SILENCE, self.turns.lock()) => turn.ok(),
            () = cancelled.cancelled() => None,
        };
        let busy = || Failure::new(Code::Busy, "another snapshot is being installed here");
        turn.map(|turn| Turn { received: &self.received, cancelled, _turn: turn }).ok_or_else(busy)
    }
}

impl Turn<'_> {
    /// Takes what is missing of a snapshot; gives the file once it is whole and checked. What has arrived stays for the
    /// next attempt.
    ///
    /// # Errors
    /// `Corrupt` when what arrives is not what was sent; else what broke it off.
    pub(super) async fn receive(
        &self,
        snapshots: &Snapshots,
        shipment: &Shipment,
        stream: &mut Stream,
    ) -> Result<SnapshotFile, Failure> {
        let receiving = async {
            let mut part = snapshots.part(&shipment.id).map_err(fault)?;
            match shipment.manner {
                Manner::Whole => self.take_whole(&mut part, shipment.id.size, stream).await?,
                Manner::Chunks => self.take_rest(&mut part, shipment.id.size, stream).await?,
            }
            let meta = shipment.head.meta.clone();
            tokio::task::spawn_blocking(move || part.finish(&meta)).await.map_err(fault)?.map_err(|error| {
                let code = if error.is_damage() { Code::Corrupt } else { Code::Internal };
                Failure::new(code, format!("{error}; what has arrived of it is thrown away"))
            })
        };
        tokio::select! {
            received = receiving => received,
            () = self.cancelled.cancelled() => {
                Err(Failure::new(Code::Unavailable, "a newer transfer of a snapshot has taken over"))
            }
        }
    }

    async fn take_whole(&self, part: &mut Partial, size: u64, stream: &mut Stream) -> Result<(), Failure> {
        part.clear().map_err(fault)?;
        let mut chunk = vec![0; CHUNK];
        while part.have() < size {
            let wanted = usize::try_from(size - part.have()).unwrap_or(CHUNK).min(CHUNK);
            let count = in_time(SILENCE, stream.read(&mut chunk[..wanted])).await.map_err(fault)?;
            if count == 0 {
                let left = size - part.have();
                return Err(Failure::new(Code::Corrupt, format!("the snapshot ends {left} bytes early")));
            }
            self.keep(part, &chunk[..count])?;
        }
        Ok(())
    }

    async fn take_rest(&self, part: &mut Partial, size: u64, stream: &mut Stream) -> Result<(), Failure> {
        in_time(SILENCE, stream.write_all(&part.have().to_be_bytes())).await.map_err(fault)?;
        while part.have() < size {
            let (mut length, mut sum) = ([0; 4], [0; 4]);
            in_time(SILENCE, stream.read_exact(&mut length)).await.map_err(fault)?;
            in_time(SILENCE, stream.read_exact(&mut sum)).await.map_err(fault)?;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            let left = usize::try_from(size - part.have()).unwrap_or(usize::MAX);
            if length == 0 || length > MAX_CHUNK.min(left) {
                return Err(corrupt(part, format!("a chunk of {length} bytes")));
            }
            let mut chunk = vec![0; length];
            in_time(SILENCE, stream.read_exact(&mut chunk)).await.map_err(fault)?;
            let (wanted, found) = (u32::from_be_bytes(sum), crc32fast::hash(&chunk));
            if wanted != found {
                return Err(corrupt(part, format!("a chunk's checksum is {found:08x} instead of {wanted:08x}")));
            }
            self.keep(part, &chunk)?;
        }
        Ok(())
    }

    fn keep(&self, part: &mut Partial, bytes: &[u8]) -> Result<(), Failure> {
        self.received.fetch_add(length(bytes), Ordering::Relaxed);
        part.write(bytes).map_err(fault)
    }
}

/// A snapshot on its way.
pub(super) struct Shipment {
    pub(super) id: PartialId,
    pub(super) head: SnapshotHead,
    pub(super) manner: Manner,
}

/// How its bytes come.
pub(super) enum Manner {
    /// From the first to the last.
    Whole,
    /// In checked chunks, from where an earlier attempt broke off.
    Chunks,
}

impl Shipment {
    /// # Errors
    /// `Unsupported` for a head that cannot be read.
    pub(super) fn new(sender: NodeId, head: &[u8], size: u64, stamp: Option<u64>) -> Result<Self, Failure> {
        let head: SnapshotHead = message::unpack(head)?;
        let id = PartialId { sender, applied: head.meta.applied, size, stamp: stamp.unwrap_or(0) };
        Ok(Self { id, head, manner: if stamp.is_some() { Manner::Chunks } else { Manner::Whole } })
    }
}

fn corrupt(part: &Partial, why: String) -> Failure {
    Failure::new(Code::Corrupt, format!("the transfer of a snapshot is damaged behind byte {}: {why}", part.have()))
}

fn fault(error: impl fmt::Display) -> Failure {
    Failure::unknown(Code::Internal, error.to_string())
}

/// Tells the sender what became of it.
pub(super) async fn conclude(from: NodeId, mut stream: Stream, installed: &Installed) {
    // Of a full disk the log speaks once.
    if let Err(failure) = installed
        && failure.code != Code::NoSpace
    {
        tracing::warn!(peer = %from, %failure, "a snapshot was not installed");
    }
    let answer = message::pack(installed);
    if stream.write_all(&answer).await.is_err() || stream.shutdown().await.is_err() {
        tracing::debug!(peer = %from, "the sender of a snapshot has gone");
    }
}
