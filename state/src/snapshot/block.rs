//! Blocks: checked pieces of a snapshot. Knows lengths and checksums, nothing of what they hold.

use super::{FORMAT, SnapshotError};
use std::io::{self, ErrorKind, Read, Write};

/// A block is written once it holds so many bytes.
const TARGET: usize = 64 * 1024;
/// Longest block that is believed: above any single record (a value of 1 MiB, a manifest of 10,000 files).
const MAX_BLOCK: usize = 64 * 1024 * 1024;
/// Bytes of a length or a checksum.
const WORD: usize = 4;

pub(super) struct BlockWriter<'a, W> {
    out: &'a mut W,
    number: u64,
    pending: Vec<u8>,
}

impl<'a, W: Write> BlockWriter<'a, W> {
    pub(super) fn new(out: &'a mut W) -> Self {
        Self { out, number: 0, pending: Vec::with_capacity(TARGET) }
    }

    /// Adds a record to the present block.
    pub(super) fn push(&mut self, record: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(&length(record)?.to_be_bytes());
        self.pending.extend_from_slice(record);
        if self.pending.len() >= TARGET { self.flush_block() } else { Ok(()) }
    }

    /// Ends the present block, if anything is in it.
    pub(super) fn flush_block(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let payload = std::mem::take(&mut self.pending);
        self.write_block(&payload)?;
        self.pending = payload;
        self.pending.clear();
        Ok(())
    }

    /// Writes a block of its own.
    pub(super) fn write_block(&mut self, payload: &[u8]) -> io::Result<()> {
        let length = length(payload)?;
        self.out.write_all(&length.to_be_bytes())?;
        self.out.write_all(&checksum(FORMAT, self.number, length, payload).to_be_bytes())?;
        self.number += 1;
        self.out.write_all(payload)
    }
}

pub(super) struct BlockReader<'a, R> {
    input: &'a mut R,
    /// What the header says; part of every checksum.
    format: u32,
    /// Number of the block that comes next.
    number: u64,
}

impl<'a, R: Read> BlockReader<'a, R> {
    pub(super) fn new(input: &'a mut R, format: u32) -> Self {
        Self { input, format, number: 0 }
    }

    /// Reads and checks one block. The buffer grows with what really arrives, whatever the length says.
    pub(super) fn next_block(&mut self) -> Result<Vec<u8>, SnapshotError> {
        let block = self.number;
        let mut head = [[0; WORD]; 2];
        fill(self.input, head.as_flattened_mut(), block)?;
        let [length, sum] = head.map(u32::from_be_bytes);
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size > MAX_BLOCK {
            return Err(SnapshotError::Damaged { block });
        }
        let mut payload = Vec::with_capacity(size.min(2 * TARGET));
        self.input.by_ref().take(u64::from(length)).read_to_end(&mut payload).map_err(SnapshotError::Read)?;
        if payload.len() < size {
            return Err(SnapshotError::Truncated { block });
        }
        if checksum(self.format, block, length, &payload) != sum {
            return Err(SnapshotError::Damaged { block });
        }
        self.number += 1;
        Ok(payload)
    }

    /// The error for the block just read, when its payload makes no sense.
    pub(super) fn damaged(&self) -> SnapshotError {
        SnapshotError::Damaged { block: self.number.saturating_sub(1) }
    }

    /// The error for the block just read, when a record in it cannot be decoded.
    pub(super) fn unknown_record(&self, error: &longshore_wire::DecodeError) -> SnapshotError {
        SnapshotError::Record { block: self.number.saturating_sub(1), why: error.to_string() }
    }
}

/// The records of a block; an error once lengths and bytes do not fit.
pub(super) fn records(mut payload: &[u8]) -> impl Iterator<Item = Result<&[u8], ()>> {
    std::iter::from_fn(move || {
        if payload.is_empty() {
            return None;
        }
        let split = payload.split_first_chunk::<WORD>().and_then(|(length, rest)| {
            rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX))
        });
        // An error ends the iteration: nothing behind it can be believed.
        payload = split.map_or(&[], |(_, rest)| rest);
        Some(split.map(|(record, _)| record).ok_or(()))
    })
}

/// Fills a buffer or says that the stream ended in this block.
pub(super) fn fill(input: &mut impl Read, buffer: &mut [u8], block: u64) -> Result<(), SnapshotError> {
    input.read_exact(buffer).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => SnapshotError::Truncated { block },
        _ => SnapshotError::Read(error),
    })
}

fn length(bytes: &[u8]) -> io::Result<u32> {
    match u32::try_from(bytes.len()) {
        Ok(length) if bytes.len() <= MAX_BLOCK => Ok(length),
        _ => Err(io::Error::new(
            ErrorKind::InvalidData,
            format!("a record of {} bytes is too long for a snapshot", bytes.len()),
        )),
    }
}

/// The number is part of the sum, so that blocks cannot change places.
fn checksum(format: u32, number: u64, length: u32, payload: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&format.to_be_bytes());
    sum.update(&number.to_be_bytes());
    sum.update(&length.to_be_bytes());
    sum.update(payload);
    sum.finalize()
}
