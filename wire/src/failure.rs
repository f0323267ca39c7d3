//! How a failure is told: what it is, in words, and whether the thing asked for has happened.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Whether a request was carried out. Never guessed: when nobody can know, it is [`Outcome::Unknown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// It was not, and will not be.
    NotDone,
    /// It may have been, or may yet be.
    Unknown,
}

/// Kind of a failure. The names are stable: scripts and the HTTP API see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request itself is wrong.
    Invalid,
    /// The thing named does not exist.
    NotFound,
    /// The state is not the one expected: a failed compare-and-set, a name already taken.
    Conflict,
    /// Over a limit.
    TooLarge,
    /// This node or version cannot do that.
    Unsupported,
    /// The worker's state forbids it now.
    NotReady,
    /// The worker has no live session.
    NotConnected,
    /// The order comes from an owner that has been replaced.
    StaleEpoch,
    /// This control node does not own the worker's partition.
    NotOwner,
    /// No leader, or no majority answers.
    NoQuorum,
    /// A peer or a resource cannot be reached now.
    Unavailable,
    /// A queue or a limit is full; try later.
    Busy,
    /// The deadline passed.
    Timeout,
    /// Who is asking is not proven.
    Unauthenticated,
    /// Who is asking may not do that.
    Forbidden,
    /// A content does not match its digest, or a file is damaged.
    Corrupt,
    /// The disks of the control nodes are full.
    NoSpace,
    /// A fault of this program or its machine; the message says which.
    Internal,
    /// A code of a newer version.
    #[serde(other)]
    Other,
}

impl Code {
    /// The code's stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::Unsupported => "unsupported",
            Self::NotReady => "not_ready",
            Self::NotConnected => "not_connected",
            Self::StaleEpoch => "stale_epoch",
            Self::NotOwner => "not_owner",
            Self::NoQuorum => "no_quorum",
            Self::Unavailable => "unavailable",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Corrupt => "corrupt",
            Self::NoSpace => "no_space",
            Self::Internal => "internal",
            Self::Other => "other",
        }
    }
}

impl Code {
    /// The HTTP status (RFC 9110, RFC 4918) with which both the API and the app socket tell this code.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Corrupt => 422,
            Self::Internal | Self::Other => 500,
            Self::Unsupported => 501,
            Self::NotReady
            | Self::NotConnected
            | Self::StaleEpoch
            | Self::NotOwner
            | Self::NoQuorum
            | Self::Unavailable
            | Self::Busy => 503,
            Self::Timeout => 504,
            Self::NoSpace => 507,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A failure as it crosses the wire: a code for programs, one sentence for the operator, and the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure.
    pub code: Code,
    /// One plain sentence: what happened, where, what to do next.
    pub message: String,
    /// Whether the request was carried out.
    pub outcome: Outcome,
}

impl Failure {
    /// A failure after which the request is certainly not carried out.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), outcome: Outcome::NotDone }
    }

    /// A failure after which nobody can say whether the request was carried out.
    pub fn unknown(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), outcome: Outcome::Unknown }
    }
}
