//! What has arrived and is not sorted yet: bytes of the link, cut into frames.
//!
//! An idle session holds no buffer: small portions are read into a scratch buffer of the thread and worked through there.
//! Only the start of a frame that is not whole yet is kept. Bulk is read into buffers of its own, whose parts are handed
//! on without a copy.

use bytes::{Buf, Bytes, BytesMut};
use longshore_wire::frame::{HEADER, Header};
use std::borrow::Cow;
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

/// Bytes of the thread's scratch buffer: the largest portion of small frames.
const SCRATCH: usize = 64 * 1024;
/// Bytes of a read while bulk arrives, at first and at most: below what the allocator gives back to the system each time.
const READ: std::ops::RangeInclusive<usize> = 96 * 1024..=120 * 1024;
/// So many small reads, and bulk is over.
const CALM: u32 = 4;
/// From this size on a payload keeps its part of the read buffer instead of being copied: below, a small message that
/// somebody holds would hold a whole buffer.
const KEEP_FROM: usize = 16 * 1024;

thread_local! {
    static SCRATCH_BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What is wrong with a frame, for both sides.
pub(super) type Violation = Cow<'static, str>;

/// The payload of a frame.
pub(super) enum Payload<'a> {
    /// In a buffer that will be used again.
    Borrowed(&'a [u8]),
    /// Large: in memory of its own.
    Owned(Bytes),
}

impl Payload<'_> {
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Self::Owned(bytes) => bytes,
        }
    }

    /// What follows the first `count` bytes.
    pub(super) fn after(self, count: usize) -> Self {
        match self {
            Self::Borrowed(bytes) => Self::Borrowed(&bytes[count..]),
            Self::Owned(mut bytes) => {
                bytes.advance(count);
                Self::Owned(bytes)
            }
        }
    }
}

impl std::ops::Deref for Payload<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// Where frames come from: a portion of bytes that is worked through.
pub(super) enum Portion<'a> {
    /// The scratch buffer's.
    Scratch(&'a [u8]),
    /// The session's own.
    Own(&'a mut BytesMut),
}

impl Portion<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Scratch(bytes) => bytes,
            Self::Own(buffer) => buffer,
        }
    }

    /// Gives the next whole frame to `take`; `false` when there is none.
    pub(super) fn next(
        &mut self,
        take: impl FnOnce(Header, Payload<'_>) -> Result<(), Violation>,
    ) -> Result<bool, Violation> {
        let Some(bytes) = self.bytes().first_chunk::<HEADER>() else { return Ok(false) };
        let header = Header::decode(*bytes).map_err(|error| error.to_string())?;
        let end = HEADER + header.length as usize;
        if self.bytes().len() < end {
            return Ok(false);
        }
        match self {
            Self::Scratch(bytes) => {
                let (frame, rest) = bytes.split_at(end);
                *bytes = rest;
                take(header, Payload::Borrowed(&frame[HEADER..]))?;
            }
            Self::Own(buffer) if end >= KEEP_FROM => {
                buffer.advance(HEADER);
                take(header, Payload::Owned(buffer.split_to(end - HEADER).freeze()))?;
            }
            Self::Own(buffer) => {
                let taken = take(header, Payload::Borrowed(&buffer[HEADER..end]));
                buffer.advance(end);
                taken?;
            }
        }
        Ok(true)
    }

    /// Drops all bytes.
    pub(super) fn clear(&mut self) {
        match self {
            Self::Scratch(bytes) => *bytes = &[],
            Self::Own(buffer) => buffer.clear(),
        }
    }
}

/// The reading side's memory.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// The start of a frame that is not whole yet; or bulk.
    buffer: BytesMut,
    /// Bytes of the next read of bulk; 0 while there is none.
    size: usize,
    calm: u32,
    /// An error that came behind bytes which are worked through first.
    failed: Option<io::Error>,
}

impl Input {
    /// Reads once, and has `sort` work through what is there; 0 at the end.
    pub(super) fn poll(
        &mut self,
        io: Pin<&mut impl AsyncRead>,
        cx: &mut Context<'_>,
        sort: impl FnOnce(&mut Portion<'_>),
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        if self.size == 0 && self.buffer.is_empty() {
            self.poll_small(io, cx, sort)
        } else {
            self.poll_bulk(io, cx, sort)
        }
    }

    fn poll_small(
        &mut self,
        io: Pin<&mut impl AsyncRead>,
        cx: &mut Context<'_>,
        sort: impl FnOnce(&mut Portion<'_>),
    ) -> Poll<io::Result<usize>> {
        let mut scratch = SCRATCH_BUFFER.take();
        scratch.resize(SCRATCH, 0);
        let mut space = ReadBuf::new(&mut scratch);
        let read = io.poll_read(cx, &mut space);
        let count = space.filled().len();
        if matches!(read, Poll::Ready(Ok(()))) && count > 0 {
            let mut portion = Portion::Scratch(&scratch[..count]);
            self.size = if count == SCRATCH { *READ.start() } else { 0 };
            sort(&mut portion);
            self.keep(portion.bytes());
        }
        SCRATCH_BUFFER.set(scratch);
        read.map_ok(|()| count)
    }

    /// Keeps the start of a frame, with room for all of it.
    fn keep(&mut self, rest: &[u8]) {
        if rest.is_empty() {
            return;
        }
        self.buffer = BytesMut::with_capacity(rest.len() + missing(rest).max(HEADER));
        self.buffer.extend_from_slice(rest);
    }

    fn poll_bulk(
        &mut self,
        io: Pin<&mut impl AsyncRead>,
        cx: &mut Context<'_>,
        sort: impl FnOnce(&mut Portion<'_>),
    ) -> Poll<io::Result<usize>> {
        let missing = missing(&self.buffer);
        let least = missing.max(self.size / 2).max(KEEP_FROM / 2);
        if self.buffer.capacity() - self.buffer.len() < least {
            self.buffer.reserve(missing.max(self.size).max(KEEP_FROM));
        }
        let space = self.buffer.capacity() - self.buffer.len();
        let count = ready!(self.poll_fill(io, cx, space))?;
        if count > 0 {
            sort(&mut Portion::Own(&mut self.buffer));
            self.adapt(count, space);
        }
        Poll::Ready(Ok(count))
    }

    /// Reads until there is no space left, or nothing more at hand: TLS gives one record of 16 KiB at a time.
    fn poll_fill(
        &mut self,
        mut io: Pin<&mut impl AsyncRead>,
        cx: &mut Context<'_>,
        space: usize,
    ) -> Poll<io::Result<usize>> {
        let mut count = 0;
        while count < space {
            match poll_read_buf(io.as_mut(), cx, &mut self.buffer) {
                Poll::Ready(Ok(more)) if more > 0 => count += more,
                Poll::Ready(Err(error)) if count > 0 => {
                    self.failed = Some(error);
                    break;
                }
                // The end comes again with the next read.
                _ if count > 0 => break,
                nothing => return nothing,
            }
        }
        Poll::Ready(Ok(count))
    }

    fn adapt(&mut self, count: usize, space: usize) {
        if count == space {
            self.size = (self.size * 2).clamp(*READ.start(), *READ.end());
            self.calm = 0;
        } else if count < SCRATCH && self.size > 0 {
            self.calm += 1;
            if self.calm == CALM {
                (self.size, self.calm) = (0, 0);
            }
        }
        if self.size == 0 && self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

/// Bytes that the frame in front still lacks; its length has been checked.
fn missing(bytes: &[u8]) -> usize {
    let header = bytes.first_chunk::<HEADER>().and_then(|bytes| Header::decode(*bytes).ok());
    header.map_or(0, |header| (HEADER + header.length as usize).saturating_sub(bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_wire::frame::Kind;

    fn frame(length: usize) -> Vec<u8> {
        let kind = Kind::Notify;
        let mut bytes = Header { kind, id: 0, length: length as u32 }.encode().to_vec();
        bytes.resize(HEADER + length, length as u8);
        bytes
    }

    /// Reads all there is, and gives the lengths of the frames.
    fn read(input: &mut Input, mut io: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        loop {
            let sort = |portion: &mut Portion<'_>| {
                let mut take = |header: Header, payload: Payload<'_>| {
                    assert!(payload.iter().all(|byte| *byte == header.length as u8));
                    lengths.push(payload.into_bytes().len());
                    Ok(())
                };
                while portion.next(&mut take).unwrap() {}
            };
            match input.poll(Pin::new(&mut io), &mut cx, sort) {
                Poll::Ready(Ok(0)) => return lengths,
                Poll::Ready(read) => drop(read.unwrap()),
                Poll::Pending => panic!("a slice is always ready"),
            }
        }
    }

    #[test]
    fn frames_come_out_whole_however_they_arrive() {
        let lengths = [0, 5, 70_000, 1, 200_000, 64, 1_500_000, 3, 16_000, 0];
        let bytes: Vec<u8> = lengths.iter().flat_map(|length| frame(*length)).collect();
        for piece in [7_001, 30_000, 500_000, usize::MAX] {
            let mut input = Input::default();
            let got: Vec<usize> =
                bytes.chunks(piece.min(bytes.len())).flat_map(|piece| read(&mut input, piece)).collect();
            assert_eq!(got, lengths);
        }
    }

    /// Gives what it has 16 KiB at a time, as TLS does, and then an error, once.
    struct Records<'a>(&'a [u8], Option<io::Error>);

    impl AsyncRead for Records<'_> {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let (record, rest) = self.0.split_at(self.0.len().min(16 * 1024).min(into.remaining()));
            into.put_slice(record);
            self.0 = rest;
            match self.1.take_if(|_| record.is_empty()) {
                Some(error) => Poll::Ready(Err(error)),
                None => Poll::Ready(Ok(())),
            }
        }
    }

    #[test]
    fn bulk_in_records_is_taken_many_at_a_time_and_before_the_error_behind_it() {
        let bytes = frame(64 * 1024).repeat(16);
        let mut io = Records(&bytes, Some(io::ErrorKind::ConnectionReset.into()));
        let (mut input, mut cx) = (Input::default(), Context::from_waker(std::task::Waker::noop()));
        let (mut frames, mut largest) = (0, 0);
        let error = loop {
            let sort = |portion: &mut Portion<'_>| {
                while portion.next(|_, _| Ok(())).unwrap() {
                    frames += 1;
                }
            };
            match input.poll(Pin::new(&mut io), &mut cx, sort) {
                Poll::Ready(Ok(count)) => largest = largest.max(count),
                Poll::Ready(Err(error)) => break error,
                Poll::Pending => panic!("it is always ready"),
            }
        };
        assert_eq!((frames, error.kind()), (16, io::ErrorKind::ConnectionReset));
        assert!(largest > 64 * 1024, "{largest} bytes at a time");
    }

    #[test]
    fn an_idle_input_holds_no_memory() {
        let mut input = Input::default();
        assert_eq!(read(&mut input, &frame(100)), [100]);
        assert_eq!(input.buffer.capacity(), 0);
        let (start, end) = (&frame(100)[..50], &frame(100)[50..]);
        assert!(read(&mut input, start).is_empty());
        assert_eq!(read(&mut input, end), [100]);
        assert_eq!(input.buffer.capacity(), 0);
        assert_eq!(read(&mut input, &frame(60_000).repeat(20)).len(), 20);
        for _ in 0..CALM {
            assert_eq!(read(&mut input, &frame(8)), [8]);
        }
        assert_eq!((input.size, input.buffer.capacity()), (0, 0), "bulk is over");
    }
}
