//! Snapshots: the whole state as a checked stream.

use crate::machine::State;
use std::io::{self, Read, Write};

/// Why a stream is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The stream ends or fails.
    #[error("the snapshot cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// Writes a snapshot.
///
/// # Errors
/// When `out` fails.
pub fn write(_state: &State, _meta: &[u8], _out: &mut impl Write) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Reads a snapshot.
///
/// # Errors
/// When the stream is not a whole, undamaged snapshot of a known format.
pub fn read(_input: &mut impl Read) -> Result<(State, Vec<u8>), SnapshotError> {
    Err(io::Error::from(io::ErrorKind::Unsupported).into())
}
