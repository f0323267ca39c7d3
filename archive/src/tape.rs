//! The tar format, block by block (POSIX.1-1988 ustar, the one dialect that archives use).
//!
//! Not the tar library's own iterator: that one follows pax and GNU extension headers, which may claim any size, and
//! takes the end of input for the end of the archive. Here every entry is handed over raw.

use crate::ArchiveError;
use crate::digest::{Hashed, Hashes, Whole};
use std::io::BufRead;
use tar::Header;

pub(crate) const BLOCK: usize = 512;

/// Reads an archive from its front to its end, at most `limit` bytes of it.
pub(crate) struct Tape<R> {
    input: Hashed<R>,
    limit: u64,
}

impl<R: BufRead> Tape<R> {
    pub(crate) fn new(input: R, hashes: Hashes, limit: u64) -> Self {
        Self { input: Hashed::new(input, hashes), limit }
    }

    /// The next entry's header; `None` at the end mark, once it is known that only zeros follow.
    pub(crate) fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let at = self.input.count();
        let mut header = Header::new_old();
        self.fill(header.as_mut_bytes())?;
        if is_zero(header.as_bytes()) {
            self.end()?;
            return Ok(None);
        }
        let corrupt = |why: &str| ArchiveError::Corrupt { at, why: why.to_owned() };
        let stated = header.cksum().map_err(|_| corrupt("the header has no checksum"))?;
        if stated != checksum(header.as_bytes()) {
            return Err(corrupt("the header's checksum is wrong"));
        }
        header.entry_size().map_err(|_| corrupt("the header has no size"))?;
        Ok(Some(header))
    }

    /// Reads an entry's content of `size` bytes, and the padding behind it, piece by piece into `take`.
    pub(crate) fn content(
        &mut self,
        size: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let mut left = size;
        while left > 0 {
            let room = self.limit - self.input.count();
            if room == 0 {
                return Err(self.too_large());
            }
            let at_hand = self.input.look().map_err(unreadable)?;
            let most = usize::try_from(left.min(room)).unwrap_or(usize::MAX);
            let piece = &at_hand[..at_hand.len().min(most)];
            let count = piece.len();
            if count == 0 {
                return Err(ArchiveError::Truncated(self.input.count()));
            }
            take(piece)?;
            self.input.take(count);
            left -= count as u64;
        }
        let padding =
            usize::try_from(size.next_multiple_of(BLOCK as u64) - size).expect("padding is less than a block");
        self.fill(&mut [0; BLOCK][..padding])
    }

    /// The digests of the whole archive and its length.
    pub(crate) fn finish(self) -> Whole {
        self.input.finish()
    }

    /// Behind the first zero block: a second one, then zeros to the end of input.
    fn end(&mut self) -> Result<(), ArchiveError> {
        let mut block = [0; BLOCK];
        let at = self.input.count();
        self.fill(&mut block)?;
        let mut found = BLOCK;
        let mut start = at;
        while found > 0 {
            if !is_zero(&block[..found]) {
                return Err(ArchiveError::TrailingGarbage(start));
            }
            start = self.input.count();
            if start >= self.limit {
                return Err(self.too_large());
            }
            found = self.read(&mut block)?;
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        if self.input.count() + buffer.len() as u64 > self.limit {
            return Err(self.too_large());
        }
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..])? {
                0 => return Err(ArchiveError::Truncated(self.input.count())),
                count => filled += count,
            }
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let at_hand = self.input.look().map_err(unreadable)?;
        let count = at_hand.len().min(buffer.len());
        buffer[..count].copy_from_slice(&at_hand[..count]);
        self.input.take(count);
        Ok(count)
    }

    fn too_large(&self) -> ArchiveError {
        ArchiveError::TooLarge { what: "the archive".to_owned(), limit: self.limit }
    }
}

fn unreadable(source: std::io::Error) -> ArchiveError {
    ArchiveError::io("archive", source)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The sum of all bytes, with blanks in place of the checksum itself.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let blanks = 148..156;
    block
        .iter()
        .enumerate()
        .map(|(at, byte)| if blanks.contains(&at) { u32::from(b' ') } else { u32::from(*byte) })
        .sum()
}
