//! A frame: what is written and synced in one go. And how a torn one is told from a damaged one.
//!
//! ```text
//!  0  length of the body                  16  salt of the segment
//!  4  CRC-32 of the body                  24  "fram"
//!  8  number of the frame                 28  CRC-32 of the bytes before
//! 32  body … "end." and 0xff up to a multiple of 32
//! ```
//!
//! Numbers are little endian. A frame is written only after the one before has been synced, into bytes that are zero. So
//! a power cut can tear the last frame only, and what is torn shows zeros: a disk writes whole sectors, in any order, and
//! a process that is killed leaves a beginning. The head never straddles two sectors. What is wrong in any other way, or
//! has anything behind it, had been synced: that is damage. What cannot be told: in the last frame, a whole sector that
//! the disk has lost after it said that it was synced, or one that held nothing but zeros and whose frame is damaged
//! elsewhere; both look torn.
//!
//! The salt is not known to clients, so that no value of theirs can look like a frame.

/// Bytes in front of the body, and what frames begin at a multiple of.
pub(super) const HEAD: usize = 32;
/// What a disk writes as a whole, if no more.
const SECTOR: usize = 512;
const MARK: [u8; 4] = *b"fram";
const END: [u8; 4] = *b"end.";
const FILL: u8 = 0xff;

/// What stands in a segment where a frame may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look<'a> {
    /// A frame, and where the next one may be.
    Frame { number: u64, body: &'a [u8], end: usize },
    /// Nothing, up to the end of the segment.
    Nothing,
    /// What a power cut leaves of a frame that was not synced yet.
    Torn,
    /// What was synced, and is not as it was written; why.
    Damaged(String),
}

/// Bytes of a frame with such a body.
pub(super) fn size(body: usize) -> usize {
    (HEAD + body + END.len()).next_multiple_of(HEAD)
}

/// Makes a frame of a buffer that holds the body behind [`HEAD`] bytes.
pub(super) fn seal(buffer: &mut Vec<u8>, number: u64, salt: u64) {
    let body = &buffer[HEAD..];
    let size = size(body.len());
    let length = u32::try_from(body.len()).expect("a batch has far less than 4 GiB");
    let crc = crc32fast::hash(body);
    buffer[..4].copy_from_slice(&length.to_le_bytes());
    buffer[4..8].copy_from_slice(&crc.to_le_bytes());
    buffer[8..16].copy_from_slice(&number.to_le_bytes());
    buffer[16..24].copy_from_slice(&salt.to_le_bytes());
    buffer[24..28].copy_from_slice(&MARK);
    let crc = crc32fast::hash(&buffer[..28]);
    buffer[28..HEAD].copy_from_slice(&crc.to_le_bytes());
    buffer.extend_from_slice(&END);
    buffer.resize(size, FILL);
}

struct Head {
    length: usize,
    crc: u32,
    number: u64,
}

/// The head of a frame of this segment, if one stands at the beginning of the bytes.
fn head(bytes: &[u8], salt: u64) -> Option<Head> {
    let head = bytes.get(..HEAD)?;
    let word = |at: usize| u32::from_le_bytes(*head[at..].first_chunk().expect("within the head"));
    let long = |at: usize| u64::from_le_bytes(*head[at..].first_chunk().expect("within the head"));
    let intact = long(16) == salt && head[24..28] == MARK && word(28) == crc32fast::hash(&head[..28]);
    intact.then(|| Head { length: word(0) as usize, crc: word(4), number: long(8) })
}

fn zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Looks at the frame that begins here; `next` is the number that it must have, if that is known.
pub(super) fn look(segment: &[u8], at: usize, salt: u64, next: Option<u64>) -> Look<'_> {
    let rest = &segment[at..];
    let Some(found) = head(rest, salt) else { return headless(segment, at, salt) };
    let Head { length, crc, number } = found;
    if let Some(next) = next
        && next != number
    {
        return Look::Damaged(format!("frame {number} stands where frame {next} must stand"));
    }
    let size = size(length);
    let Some(frame) = rest.get(..size) else {
        return Look::Damaged(format!("frame {number} does not fit into its segment"));
    };
    let (body, tail) = frame[HEAD..].split_at(length);
    let found = crc32fast::hash(body);
    if found == crc && tail.starts_with(&END) {
        return Look::Frame { number, body, end: at + size };
    }
    let damage = || Look::Damaged(format!("the checksum of frame {number} is {found:08x} instead of {crc:08x}"));
    match zero(&rest[size..]) && torn(frame, at, length) {
        true => Look::Torn,
        false => damage(),
    }
}

/// Whether the last byte of the end mark, or one of the frame's sectors, has never been written.
fn torn(frame: &[u8], at: usize, length: usize) -> bool {
    let first = (SECTOR - at % SECTOR).min(frame.len());
    let (first, others) = frame.split_at(first);
    frame[HEAD + length + END.len() - 1] == 0 || zero(first) || others.chunks(SECTOR).any(zero)
}

/// Judges a place where no head stands.
fn headless(segment: &[u8], at: usize, salt: u64) -> Look<'_> {
    let (here, behind) = segment[at..].split_at(HEAD.min(segment.len() - at));
    let written = behind.iter().position(|byte| *byte != 0);
    let Some(written) = written else {
        // A head is cut off when it has nothing behind it: a body ends with something.
        return if zero(here) { Look::Nothing } else { Look::Torn };
    };
    if let Some(later) = (0..behind.len()).step_by(HEAD).find_map(|place| head(&behind[place..], salt)) {
        return Look::Damaged(format!("frame {} stands behind bytes that are no frame", later.number));
    }
    let same_sector = at / SECTOR == (at + HEAD + written) / SECTOR;
    match zero(here) && !same_sector {
        true => Look::Torn,
        false => Look::Damaged("there is no frame, but there was one".to_owned()),
    }
}
