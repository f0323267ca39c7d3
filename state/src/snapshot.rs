//! Snapshots: the whole state as a checked stream.
//!
//! ```text
//! header   magic (8 bytes), format version (u32)
//! block 0  the caller's meta
//! block n  records, each a length (u32) and MessagePack
//! last     one record: how many records came before it
//!
//! block    length (u32), CRC-32 over format version, number of the block, length and payload (u32), payload
//! ```
//!
//! Numbers are big-endian. The same state always gives the same bytes. A reader gives a whole state or an error, never
//! a part; it never allocates more than it has read, plus one block.

mod block;
mod record;

use crate::machine::State;
use block::{BlockReader, BlockWriter};
use record::Record;
use std::io::{self, Read, Write};

/// First bytes of every snapshot.
pub const MAGIC: [u8; 8] = *b"LSHSNAP\n";
/// The format that is written. A release reads its own format and migrates those before: format 1 had one verifier per
/// credential, format 2 no leases.
pub const FORMAT: u32 = 3;
/// The oldest format that is read.
const OLDEST: u32 = 1;

/// Why a stream is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The source fails.
    #[error("the snapshot cannot be read: {0}")]
    Read(io::Error),
    /// The stream ends too early.
    #[error("the snapshot is cut short in block {block}; take another copy")]
    Truncated {
        /// Number of the block.
        block: u64,
    },
    /// The first bytes are others.
    #[error("this is not a Longshore snapshot: its first bytes are wrong")]
    Magic,
    /// The format is of another release.
    #[error(
        "the snapshot has format {found}; this release reads up to {FORMAT}, so use the release that wrote it, or a newer one"
    )]
    Format {
        /// What it says.
        found: u32,
    },
    /// A block does not match its checksum, or is too long to be one.
    #[error("the snapshot is damaged in block {block}; take another copy")]
    Damaged {
        /// Number of the block.
        block: u64,
    },
    /// A record is intact but unknown.
    #[error("the snapshot holds a record in block {block} that this release cannot read: {why}")]
    Record {
        /// Number of the block.
        block: u64,
        /// What the decoder says.
        why: String,
    },
    /// Records are missing or too many.
    #[error("the snapshot should hold {expected} records and holds {found}; take another copy")]
    Count {
        /// What the trailer says.
        expected: u64,
        /// What was read.
        found: u64,
    },
}

/// Writes a snapshot. `meta` is handed back by [`read`]; the state does not look into it.
///
/// # Errors
/// When `out` fails.
pub fn write(state: &State, meta: &[u8], out: &mut impl Write) -> io::Result<()> {
    out.write_all(&MAGIC)?;
    out.write_all(&FORMAT.to_be_bytes())?;
    let mut blocks = BlockWriter::new(out);
    blocks.write_block(meta)?;
    let mut records = 0;
    record::each(state, |record| {
        records += 1;
        blocks.push(&longshore_wire::encode(&record))
    })?;
    blocks.flush_block()?;
    blocks.push(&longshore_wire::encode(&Record::End { records }))?;
    blocks.flush_block()
}

/// Reads a snapshot: the state and the writer's meta. Reads nothing behind the snapshot's end.
///
/// # Errors
/// When the stream is not a whole, undamaged snapshot of a known format.
pub fn read(input: &mut impl Read) -> Result<(State, Vec<u8>), SnapshotError> {
    let format = read_header(input)?;
    let mut blocks = BlockReader::new(input, format);
    let meta = blocks.next_block()?;
    let mut state = State::default();
    let mut found = 0;
    loop {
        let payload = blocks.next_block()?;
        for bytes in block::records(&payload) {
            let bytes = bytes.map_err(|()| blocks.damaged())?;
            let record = longshore_wire::decode(bytes).map_err(|error| blocks.unknown_record(&error))?;
            match record {
                Record::End { records: expected } if expected == found => {
                    record::finish(&mut state);
                    return Ok((state, meta));
                }
                Record::End { records: expected } => return Err(SnapshotError::Count { expected, found }),
                record => record::restore(&mut state, record),
            }
            found += 1;
        }
    }
}

fn read_header(input: &mut impl Read) -> Result<u32, SnapshotError> {
    let mut header = [0; MAGIC.len() + 4];
    block::fill(input, &mut header, 0)?;
    let (magic, format) = header.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(SnapshotError::Magic);
    }
    match format.iter().fold(0, |number, byte| (number << 8) | u32::from(*byte)) {
        known @ OLDEST..=FORMAT => Ok(known),
        found => Err(SnapshotError::Format { found }),
    }
}

#[cfg(test)]
pub(crate) mod tests;
