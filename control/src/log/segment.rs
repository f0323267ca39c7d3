//! A segment: a file of a fixed size that is filled with frames from its beginning.
//!
//! ```text
//!  0  "lshr-log"               24  salt: random, part of every frame
//!  8  format (4 bytes)         32  bytes of the file
//! 12  0 (4 bytes)              40  CRC-32 of the bytes before
//! 16  number of the segment    4096  frames, then zeros
//! ```
//!
//! Segments are numbered from 1, each the one before and 1; the name is the number. The zeros are written and synced
//! before the file gets its name: so a sync never has to store where the file's blocks are, and what is not zero has been
//! written by the log. The first segments are small, so that small clusters have small logs.

use super::LogError;
use super::disk::{Disk, DiskFile};
use crate::identity::random_ulid;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Format of the segments. The first format was a redb file, which is `first_format`'s.
const FORMAT: u32 = 2;
const MAGIC: [u8; 8] = *b"lshr-log";
/// Where the frames begin: not in a sector of the header.
pub(super) const BEGIN: usize = 4096;
/// What is zeroed at a time. Each piece is synced by itself, so that no commit waits for all of it.
const PIECE: usize = 512 * 1024;
const END: &str = ".seg";
const UNFINISHED: &str = ".tmp";

/// How large segments are, in bytes: each twice the one before, up to the largest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Growth {
    pub(super) first: u64,
    pub(super) largest: u64,
}

impl Growth {
    pub(super) fn size(self, number: u64) -> u64 {
        let doublings = u32::try_from(number.saturating_sub(1)).unwrap_or(u32::MAX);
        2_u64
            .checked_pow(doublings)
            .and_then(|factor| self.first.checked_mul(factor))
            .unwrap_or(u64::MAX)
            .min(self.largest)
    }
}

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) salt: u64,
    /// Bytes of the file.
    pub(super) size: u64,
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn DiskFile>,
}

impl Segment {
    /// What went wrong with its file.
    pub(super) fn io(&self, doing: &'static str, cause: &dyn fmt::Display) -> LogError {
        io_fault(&self.path, doing, cause)
    }

    /// What is wrong with its frame at this offset.
    pub(super) fn damaged(&self, offset: usize, why: impl Into<String>) -> LogError {
        LogError::Damaged { path: self.path.clone(), what: format!("the Raft log at byte {offset}"), why: why.into() }
    }

    /// Reads all of it.
    pub(super) fn read(&self) -> Result<Vec<u8>, LogError> {
        let mut bytes = vec![0; usize::try_from(self.size).unwrap_or(usize::MAX)];
        self.file.read_at(0, &mut bytes).map_err(|error| self.io("reading", &error))?;
        Ok(bytes)
    }
}

fn io_fault(path: &Path, doing: &'static str, cause: &dyn fmt::Display) -> LogError {
    LogError::Io { path: path.to_owned(), doing, cause: cause.to_string() }
}

pub(super) fn name(number: u64) -> String {
    format!("{number:020}{END}")
}

/// The numbers of the segments in the folder, lowest first. Removes what was never finished.
pub(super) fn list(disk: &dyn Disk, folder: &Path) -> Result<Vec<u64>, LogError> {
    let mut numbers = Vec::new();
    for found in disk.names().map_err(|error| io_fault(folder, "reading", &error))? {
        if found.ends_with(UNFINISHED) {
            disk.remove(&found).map_err(|error| io_fault(&folder.join(&found), "removing", &error))?;
        } else if let Some(number) = found.strip_suffix(END).and_then(|number| number.parse().ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes a segment. A failure leaves nothing behind.
pub(super) fn prepare(disk: &dyn Disk, folder: &Path, number: u64, size: u64) -> Result<Segment, LogError> {
    let (name, salt) = (name(number), salt());
    let (path, unfinished) = (folder.join(&name), format!("{name}{UNFINISHED}"));
    let make = || -> io::Result<Box<dyn DiskFile>> {
        let file = disk.create(&unfinished)?;
        let mut piece = header(number, salt, size);
        piece.resize(PIECE, 0);
        let mut offset = 0;
        while offset < size {
            let length = usize::try_from(size - offset).unwrap_or(PIECE).min(PIECE);
            file.write_at(offset, &piece[..length])?;
            file.sync()?;
            piece[..BEGIN].fill(0);
            offset += length as u64;
        }
        disk.rename(&unfinished, &name)?;
        disk.sync()?;
        Ok(file)
    };
    match make() {
        Ok(file) => Ok(Segment { number, salt, size, path, file }),
        Err(error) => {
            let _ = disk.remove(&unfinished);
            match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Err(LogError::NoSpace { path, cause: error.to_string() })
                }
                _ => Err(io_fault(&path, "preparing", &error)),
            }
        }
    }
}

fn salt() -> u64 {
    let bits = random_ulid().to_le_bytes();
    u64::from_le_bytes(*bits.first_chunk().expect("a ULID has 16 bytes"))
}

fn header(number: u64, salt: u64, size: u64) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&FORMAT.to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    for value in [number, salt, size] {
        header.extend_from_slice(&value.to_le_bytes());
    }
    header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
    header
}

/// Opens a segment and checks its header.
pub(super) fn open(disk: &dyn Disk, folder: &Path, number: u64) -> Result<Segment, LogError> {
    const HEADER: usize = 44;
    let name = name(number);
    let path = folder.join(&name);
    let damaged = |why: String| LogError::Damaged { path: path.clone(), what: "its header".to_owned(), why };
    let io = |error: io::Error| io_fault(&path, "opening", &error);
    let file = disk.open(&name).map_err(io)?;
    let found = file.size().map_err(io)?;
    let mut bytes = [0; HEADER];
    if found < BEGIN as u64 {
        return Err(damaged(format!("the file has {found} bytes")));
    }
    file.read_at(0, &mut bytes).map_err(|error| io_fault(&path, "reading", &error))?;
    let long = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("within the header"));
    let word = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().expect("within the header"));
    if bytes[..8] != MAGIC || word(40) != crc32fast::hash(&bytes[..40]) {
        return Err(damaged("its checksum is wrong".to_owned()));
    }
    if word(8) > FORMAT {
        let why = format!("its format is {}, this release reads format {FORMAT}", word(8));
        return Err(LogError::Newer { path: path.clone(), what: "the segment".to_owned(), why });
    }
    let (named, salt, size) = (long(16), long(24), long(32));
    if named != number || size != found {
        return Err(damaged(format!("it says segment {named} of {size} bytes; the file has {found}")));
    }
    Ok(Segment { number, salt, size, path, file })
}
