//! The key-value store as its users see it.

use serde::{Deserialize, Serialize};

/// Longest key, in bytes of UTF-8.
pub const MAX_KEY: usize = 1024;
/// Longest value, in bytes.
pub const MAX_VALUE: usize = 1024 * 1024;
/// Most entries in one listing.
pub const MAX_LIST: u32 = 1000;

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
