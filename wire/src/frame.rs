//! Frames of a session: a 9-byte header and a payload.
//!
//! ```text
//! 0      1              5              9
//! ├ kind ┼ id (u32 BE) ─┼ length (u32) ┼ payload …
//! ```
//!
//! The id is a request's or a stream's, scoped to the session; the dialler's are odd, the acceptor's even.

use crate::codec::{self, DecodeError};
use crate::{ClusterUri, Failure};
use serde::{Deserialize, Serialize};

/// Bytes of a header.
pub const HEADER: usize = 9;
/// Largest payload of a control-lane frame, in bytes: a KV value of 1 MiB and its envelope.
pub const MAX_CONTROL: usize = 2 * 1024 * 1024;
/// Largest payload of a stream-data frame, in bytes: small, so that a control frame never waits long behind one.
pub const MAX_DATA: usize = 64 * 1024;
/// Bytes that a stream's writer may send before the reader grants more.
pub const INITIAL_CREDIT: u32 = 512 * 1024;

/// What a frame is. Numbers are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Asks for a [`Pong`](Kind::Pong); the payload (8 bytes) comes back.
    Ping = 1,
    /// Answers a ping.
    Pong = 2,
    /// A request: [`RequestHead`] length (u16 BE), head, body.
    Request = 3,
    /// The body of a successful reply.
    Reply = 4,
    /// A [`Failure`] as reply.
    ReplyError = 5,
    /// The requester no longer wants the reply.
    Cancel = 6,
    /// A message without reply.
    Notify = 7,
    /// Opens a stream; the payload says what for.
    Open = 8,
    /// Bytes of a stream.
    Data = 9,
    /// Grants the peer's writer more bytes (u32 BE).
    Credit = 10,
    /// No more bytes follow from this side.
    Finish = 11,
    /// The stream ends at once in both directions; payload is a [`Failure`].
    Reset = 12,
    /// The session ends; payload is a [`Goodbye`].
    Goodbye = 13,
}

impl Kind {
    /// Whether frames of this kind carry bulk and are sent behind all others.
    pub const fn is_bulk(self) -> bool {
        matches!(self, Self::Data)
    }

    /// Largest payload of this kind, in bytes.
    #[inline]
    pub const fn max_payload(self) -> usize {
        match self {
            Self::Ping | Self::Pong => 8,
            Self::Cancel | Self::Finish => 0,
            Self::Credit => 4,
            Self::Data => MAX_DATA,
            Self::Goodbye | Self::Reset => 4096,
            Self::Open => 64 * 1024,
            Self::Request | Self::Reply | Self::ReplyError | Self::Notify => MAX_CONTROL,
        }
    }
}

impl TryFrom<u8> for Kind {
    type Error = FrameError;

    #[inline]
    fn try_from(number: u8) -> Result<Self, FrameError> {
        Ok(match number {
            1 => Self::Ping,
            2 => Self::Pong,
            3 => Self::Request,
            4 => Self::Reply,
            5 => Self::ReplyError,
            6 => Self::Cancel,
            7 => Self::Notify,
            8 => Self::Open,
            9 => Self::Data,
            10 => Self::Credit,
            11 => Self::Finish,
            12 => Self::Reset,
            13 => Self::Goodbye,
            other => return Err(FrameError::UnknownKind(other)),
        })
    }
}

/// Bytes that are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A kind that this version does not know.
    #[error("frame of unknown kind {0}")]
    UnknownKind(u8),
    /// Longer than the kind allows.
    #[error("frame {kind:?} of {length} bytes; the limit is {}", kind.max_payload())]
    TooLong {
        /// The frame's kind.
        kind: Kind,
        /// The length that it announces.
        length: u32,
    },
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub kind: Kind,
    /// Which request or stream it belongs to; 0 where there is none.
    pub id: u32,
    /// Bytes of payload that follow.
    pub length: u32,
}

impl Header {
    /// The header as bytes.
    #[inline]
    pub fn encode(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = self.kind as u8;
        bytes[1..5].copy_from_slice(&self.id.to_be_bytes());
        bytes[5..9].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// Reads a header, and checks its length before anything is allocated for it.
    ///
    /// # Errors
    /// When the kind is unknown or the length over the kind's limit.
    #[inline]
    pub fn decode(bytes: [u8; HEADER]) -> Result<Self, FrameError> {
        let [kind, i0, i1, i2, i3, l0, l1, l2, l3] = bytes;
        let kind = Kind::try_from(kind)?;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if length as usize > kind.max_payload() {
            return Err(FrameError::TooLong { kind, length });
        }
        Ok(Self { kind, id: u32::from_be_bytes([i0, i1, i2, i3]), length })
    }
}

/// What stands in front of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestHead {
    /// Milliseconds that the requester will wait, counted from the frame's arrival.
    pub timeout_ms: u32,
}

/// A map of one entry, and that entry's name, in MessagePack.
const TIMEOUT_MS: [u8; 12] = *b"\x81\xaatimeout_ms";
/// What stands before a number of 32 bits.
const U32: u8 = 0xce;

impl RequestHead {
    /// Bytes of an encoded head with its length in front.
    pub const FRONT: usize = 2 + TIMEOUT_MS.len() + 5;

    /// What stands in front of a request's body: the head's length, the head.
    #[inline]
    pub fn front(self) -> [u8; Self::FRONT] {
        let mut bytes = [0; Self::FRONT];
        bytes[1] = (Self::FRONT - 2) as u8;
        bytes[2..14].copy_from_slice(&TIMEOUT_MS);
        bytes[14] = U32;
        bytes[15..].copy_from_slice(&self.timeout_ms.to_be_bytes());
        bytes
    }

    /// Reads a head, without its length; quick for those that [`front`](Self::front) makes.
    ///
    /// # Errors
    /// When the bytes are no head.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes.strip_prefix(&TIMEOUT_MS) {
            Some(&[U32, a, b, c, d]) => Ok(Self { timeout_ms: u32::from_be_bytes([a, b, c, d]) }),
            _ => codec::decode(bytes),
        }
    }
}

/// Why a session ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// Why.
    pub reason: Failure,
    /// The dialler should not come back before so many milliseconds.
    pub retry_after_ms: Option<u64>,
    /// Where the dialler should go instead; empty for nowhere in particular.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub go_to: Vec<ClusterUri>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_what_messagepack_says() {
        for timeout_ms in [0, 1, 127, 128, 30_000, 70_000, u32::MAX] {
            let head = RequestHead { timeout_ms };
            let front = head.front();
            assert_eq!(usize::from(u16::from_be_bytes([front[0], front[1]])), front.len() - 2);
            assert_eq!(codec::decode::<RequestHead>(&front[2..]).unwrap(), head);
            assert_eq!(RequestHead::decode(&front[2..]).unwrap(), head);
            assert_eq!(RequestHead::decode(&codec::encode(&head)).unwrap(), head);
        }
        assert!(RequestHead::decode(&[0xc1]).is_err());
    }

    #[test]
    fn golden_header() {
        let header = Header { kind: Kind::Data, id: 0x0102_0304, length: 0x0001_0000 };
        assert_eq!(header.encode(), [9, 1, 2, 3, 4, 0, 1, 0, 0]);
        assert_eq!(Header::decode(header.encode()), Ok(header));
    }

    #[test]
    fn lengths_are_checked_before_allocation() {
        assert_eq!(Header::decode([99, 0, 0, 0, 0, 0, 0, 0, 0]), Err(FrameError::UnknownKind(99)));
        let long = Header::decode([9, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(long, Err(FrameError::TooLong { kind: Kind::Data, length: u32::MAX }));
    }
}
