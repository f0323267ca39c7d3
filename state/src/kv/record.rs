//! What one write left of a key, in one piece of memory: store, history and readers share it.
//!
//! ```text
//! revision │ created │ lease │ length of the key │ key │ value     (numbers: 8, 8, 8 and 4 bytes, little-endian)
//! ```
//!
//! A hundred thousand keys are as many allocations, not three times as many, and a copied node of the store's map counts one
//! reference for each. This layout never leaves the process.

use longshore_wire::kv::KvEntry;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

/// Bytes in front of the key.
const HEAD: usize = 28;

/// A key as one write left it: written, or deleted. A clone is cheap.
#[derive(Clone, PartialEq, Eq)]
pub struct KvRecord(Arc<[u8]>);

impl KvRecord {
    /// A key that is there. `created` is the revision that made it, and not 0.
    pub(super) fn written(revision: u64, created: u64, lease: Option<NonZeroU64>, key: &str, value: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(HEAD + key.len() + value.len());
        for number in [revision, created, lease.map_or(0, NonZeroU64::get)] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&u32::try_from(key.len()).expect("keys are short").to_le_bytes());
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(value);
        Self(bytes.into())
    }

    /// A key that is gone, and the lease with which it went.
    pub(super) fn deleted(revision: u64, lease: Option<NonZeroU64>, key: &str) -> Self {
        Self::written(revision, 0, lease, key, &[])
    }

    /// Its revision.
    pub fn revision(&self) -> u64 {
        self.number(0)
    }

    /// Revision of the write that created the key; 0 for a deletion.
    pub fn created_revision(&self) -> u64 {
        self.number(8)
    }

    /// The lease with which the key goes, or went.
    pub fn lease(&self) -> Option<u64> {
        Some(self.number(16)).filter(|lease| *lease != 0)
    }

    /// The key.
    pub fn key(&self) -> &str {
        std::str::from_utf8(self.key_bytes()).unwrap_or_default()
    }

    /// Its value; `None` when the key was deleted.
    pub fn value(&self) -> Option<&[u8]> {
        (self.created_revision() != 0).then(|| self.value_bytes())
    }

    /// The key as a read would have shown it at this revision; `None` when it was deleted.
    pub fn entry(&self) -> Option<KvEntry> {
        Some(KvEntry {
            key: self.key().to_owned(),
            value: self.value()?.to_vec(),
            revision: self.revision(),
            created_revision: self.created_revision(),
            lease: self.lease(),
        })
    }

    /// Bytes of key and value.
    pub(super) fn weight(&self) -> usize {
        self.0.len() - HEAD
    }

    pub(super) fn key_bytes(&self) -> &[u8] {
        self.0.get(HEAD..self.value_at()).unwrap_or_default()
    }

    pub(super) fn value_bytes(&self) -> &[u8] {
        self.0.get(self.value_at()..).unwrap_or_default()
    }

    fn value_at(&self) -> usize {
        let length = self.0.get(24..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u32::from_le_bytes);
        HEAD + length as usize
    }

    fn number(&self, at: usize) -> u64 {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u64::from_le_bytes)
    }
}

impl fmt::Debug for KvRecord {
    /// Without the value: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.value().map(<[u8]>::len);
        f.debug_struct("KvRecord")
            .field("revision", &self.revision())
            .field("key", &self.key())
            .field("bytes", &bytes)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let lease = NonZeroU64::new(u64::MAX);
        for (key, value) in [("k", &b"v"[..]), ("schlüssel", &[]), ("", b"x"), (&"k".repeat(1024), &[7; 100_000])] {
            let record = KvRecord::written(u64::MAX - 1, 3, lease, key, value);
            let entry = record.entry().unwrap();
            assert_eq!((entry.key.as_str(), entry.value.as_slice()), (key, value));
            assert_eq!((entry.revision, entry.created_revision, entry.lease), (u64::MAX - 1, 3, Some(u64::MAX)));
            assert_eq!((record.key(), record.weight()), (key, key.len() + value.len()));
        }
        let gone = KvRecord::deleted(9, None, "k");
        assert_eq!((gone.revision(), gone.key(), gone.value(), gone.entry(), gone.lease()), (9, "k", None, None, None));
        assert_eq!(gone.created_revision(), 0);
    }
}
