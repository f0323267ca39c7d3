//! The key-value store as its users see it.

use crate::{Code, Failure};
use serde::{Deserialize, Serialize};

/// Longest key, in bytes of UTF-8.
pub const MAX_KEY: usize = 1024;
/// Longest value, in bytes.
pub const MAX_VALUE: usize = 1024 * 1024;
/// Most entries in one listing.
pub const MAX_LIST: u32 = 1000;
/// Most comparisons in one transaction, and most operations in each of its branches.
pub const MAX_TXN: usize = 128;
/// Most bytes of keys and values in one transaction, and in its answer.
pub const MAX_TXN_BYTES: usize = 1024 * 1024;

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// Sees every write acknowledged before the read began.
    #[default]
    Linearizable,
    /// What this node has applied; may be behind.
    Local,
}

/// What a compare-and-set expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// No such key.
    Absent,
    /// The key, last written at this revision.
    Revision(u64),
}

impl Expect {
    /// Reads what a write over HTTP expects (RFC 9110 §13.1): `If-Match: 17`, in quotes or not, or `If-None-Match: *`;
    /// neither = anything goes.
    ///
    /// # Errors
    /// What is wrong with them, as [`Code::Invalid`].
    pub fn from_headers(matching: Option<&str>, none_matching: Option<&str>) -> Result<Option<Self>, Failure> {
        let wrong = |message: &str| Err(Failure::new(Code::Invalid, message));
        match (matching.map(str::trim), none_matching.map(str::trim)) {
            (None, None) => Ok(None),
            (Some(revision), None) => revision_of(revision).map(|revision| Some(Self::Revision(revision))),
            (None, Some("*")) => Ok(Some(Self::Absent)),
            (None, Some(_)) => wrong("If-None-Match: only * is understood (write when the key is absent)"),
            (Some(_), Some(_)) => wrong("If-Match and If-None-Match exclude each other; send one of them"),
        }
    }
}

fn revision_of(text: &str) -> Result<u64, Failure> {
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let digits = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit());
    let wrong = || Failure::new(Code::Invalid, format!("If-Match: '{text}' is not a revision (a whole number)"));
    if digits { bare.parse().map_err(|_| wrong()) } else { Err(wrong()) }
}

impl From<Expect> for Condition {
    fn from(expect: Expect) -> Self {
        match expect {
            Expect::Absent => Self::Absent,
            Expect::Revision(revision) => Self::Revision(revision),
        }
    }
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvRequest {
    /// Reads a key.
    Get {
        /// The key.
        key: String,
        /// How fresh.
        consistency: Consistency,
    },
    /// Writes a key, whatever it held.
    Put {
        /// The key.
        key: String,
        /// Its new value.
        #[serde(with = "serde_bytes")]
        value: Vec<u8>,
    },
    /// Removes a key; not an error when it is absent.
    Delete {
        /// The key.
        key: String,
    },
    /// Writes a key only when it is as expected; else [`crate::Code::Conflict`].
    Cas {
        /// The key.
        key: String,
        /// Its new value.
        #[serde(with = "serde_bytes")]
        value: Vec<u8>,
        /// What it must be now.
        expect: Expect,
    },
    /// Lists keys by prefix, in byte order.
    List {
        /// What the keys start with; empty for all.
        prefix: String,
        /// Starts behind this key.
        after: Option<String>,
        /// At most so many entries ([`MAX_LIST`] at most).
        limit: u32,
        /// How fresh.
        consistency: Consistency,
    },
}

/// One key with its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvEntry {
    /// The key.
    pub key: String,
    /// Its value.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
    /// Revision of the last write to it. Revisions count all writes of the cluster.
    pub revision: u64,
    /// Revision of the write that created it.
    pub created_revision: u64,
    /// The lease with which it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<u64>,
}

/// What a comparison asks of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// No such key.
    Absent,
    /// The key, whatever it holds.
    Exists,
    /// The key, last written at this revision.
    Revision(u64),
    /// The key with this value.
    Value(#[serde(with = "serde_bytes")] Vec<u8>),
}

/// One comparison of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// The key.
    pub key: String,
    /// What must hold.
    pub condition: Condition,
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TxnOp {
    /// Writes a key. Answer: [`KvReply::Written`].
    Put {
        /// The key.
        key: String,
        /// Its new value.
        #[serde(with = "serde_bytes")]
        value: Vec<u8>,
        /// The lease with which it goes; none detaches it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease: Option<u64>,
    },
    /// Removes a key; not an error when it is absent. Answer: [`KvReply::Deleted`].
    Delete {
        /// The key.
        key: String,
    },
    /// Reads a key, as the operations before it left it. Answer: [`KvReply::Entry`].
    Get {
        /// The key.
        key: String,
    },
}

/// A transaction: if all comparisons hold, the operations of `then` are carried out, else those of `otherwise`; all of a
/// branch or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Txn {
    /// What must hold; nothing holds always.
    pub compare: Vec<Compare>,
    /// What to do if it does.
    pub then: Vec<TxnOp>,
    /// What to do if it does not.
    pub otherwise: Vec<TxnOp>,
}

/// The answer to a [`Txn`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnReply {
    /// Revision of the store afterwards.
    pub revision: u64,
    /// The first comparison that did not hold, in words; then `otherwise` was carried out.
    pub unmet: Option<String>,
    /// One answer for each operation of the branch, in order.
    pub results: Vec<KvReply>,
}

/// The answer to a [`KvRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvReply {
    /// To `Get`: the entry, or `None` when the key is absent.
    Entry(Option<KvEntry>),
    /// To `Put` and `Cas`.
    Written {
        /// Revision of this write.
        revision: u64,
        /// Whether the key was absent before.
        created: bool,
    },
    /// To `Delete`.
    Deleted {
        /// Revision after the deletion.
        revision: u64,
        /// Whether the key was there.
        existed: bool,
    },
    /// To `List`.
    Entries {
        /// The entries.
        entries: Vec<KvEntry>,
        /// Whether more follow behind the last one.
        more: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preconditions() {
        assert_eq!(Expect::from_headers(None, None), Ok(None));
        assert_eq!(Expect::from_headers(Some(" 17"), None), Ok(Some(Expect::Revision(17))));
        assert_eq!(Expect::from_headers(Some("\"17\""), None), Ok(Some(Expect::Revision(17))));
        assert_eq!(Expect::from_headers(None, Some("*")), Ok(Some(Expect::Absent)));
        for wrong in ["", "*", "+1", "-1", "1, 2", "\"", "99999999999999999999"] {
            assert_eq!(Expect::from_headers(Some(wrong), None).unwrap_err().code, Code::Invalid, "{wrong}");
        }
        assert!(Expect::from_headers(None, Some("1")).is_err());
        assert!(Expect::from_headers(Some("1"), Some("*")).is_err());
    }
}
