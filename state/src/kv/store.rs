//! The keys in byte order, their revisions, and the quota. Every change of a key goes through here, once.

use super::history::{History, KvGap};
use super::lease::{Lease, Leases};
use super::record::KvRecord;
use imbl::OrdSet;
use longshore_wire::kv::{Expect, KvEntry, KvReply, KvRequest, MAX_KEY, MAX_LIST, MAX_VALUE};
use longshore_wire::{Code, Failure};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::num::NonZeroU64;
use std::ops::Bound;

/// Most bytes of keys and values together: the state lives in memory on every control node.
pub const KV_QUOTA: u64 = 1024 * 1024 * 1024;
/// A listing ends behind the entry that reaches so many bytes, so that it fits in one message with that entry.
const MAX_LIST_BYTES: usize = 512 * 1024;

/// The keys with their values.
#[derive(Clone)]
pub(crate) struct Store {
    entries: OrdSet<ByKey>,
    revision: u64,
    bytes: u64,
    quota: u64,
    history: History,
    pub(super) leases: Leases,
}

impl Default for Store {
    fn default() -> Self {
        let (history, leases) = (History::default(), Leases::default());
        Self { entries: OrdSet::new(), revision: 0, bytes: 0, quota: KV_QUOTA, history, leases }
    }
}

/// A record that is there, found by its key.
#[derive(Clone)]
struct ByKey(KvRecord);

impl Borrow<[u8]> for ByKey {
    fn borrow(&self) -> &[u8] {
        self.0.key_bytes()
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key_bytes().cmp(other.0.key_bytes())
    }
}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByKey {}

impl Store {
    /// Carries out a write.
    pub(crate) fn apply(&mut self, request: &KvRequest) -> Result<KvReply, Failure> {
        match request {
            KvRequest::Put { key, value } => self.put(key, value, None),
            KvRequest::Delete { key } => self.delete(key),
            KvRequest::Cas { key, value, expect } => {
                self.check_expected(key, *expect)?;
                self.put(key, value, None)
            }
            KvRequest::Get { .. } | KvRequest::List { .. } => {
                Err(Failure::new(Code::Invalid, "a read does not belong into the log; read the state instead"))
            }
        }
    }

    pub(super) fn put(&mut self, key: &str, value: &[u8], lease: Option<u64>) -> Result<KvReply, Failure> {
        check_key(key)?;
        if value.len() > MAX_VALUE {
            let message = format!("the value of '{key}' is {} bytes long; the limit is {MAX_VALUE}", value.len());
            return Err(Failure::new(Code::TooLarge, message));
        }
        if let Some(lease) = lease {
            self.leases.check(lease, key)?;
        }
        let old = self.found(key);
        let bytes = self.bytes - old.map_or(0, |old| old.weight() as u64) + weight(key, value);
        if bytes > self.quota && bytes > self.bytes {
            let message = format!(
                "the key-value store is full: it would hold {bytes} bytes, the quota is {}; delete keys that nobody needs",
                self.quota
            );
            return Err(Failure::new(Code::TooLarge, message));
        }
        let (created, before) = old.map_or((None, None), |old| (Some(old.created_revision()), old.lease()));
        self.bytes = bytes;
        self.revision += 1;
        self.hold(key, before, lease);
        let (revision, lease) = (self.revision, lease.and_then(NonZeroU64::new));
        let record = KvRecord::written(revision, created.unwrap_or(revision), lease, key, value);
        self.history.push(record.clone());
        self.entries.insert(ByKey(record));
        Ok(KvReply::Written { revision, created: created.is_none() })
    }

    /// Lets a key go with another lease.
    fn hold(&mut self, key: &str, before: Option<u64>, after: Option<u64>) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.leases.detach(before, key);
        }
        if let Some(after) = after {
            self.leases.attach(after, key);
        }
    }

    pub(super) fn delete(&mut self, key: &str) -> Result<KvReply, Failure> {
        check_key(key)?;
        let existed = self.remove(key);
        Ok(KvReply::Deleted { revision: self.revision, existed })
    }

    /// Takes a key away; false when it is not there.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let Some(ByKey(old)) = self.entries.remove(key.as_bytes()) else { return false };
        self.bytes -= old.weight() as u64;
        self.revision += 1;
        self.hold(key, old.lease(), None);
        self.history.push(KvRecord::deleted(self.revision, old.lease().and_then(NonZeroU64::new), key));
        true
    }

    fn check_expected(&self, key: &str, expect: Expect) -> Result<(), Failure> {
        let found = self.found(key).map(KvRecord::revision);
        let message = match (expect, found) {
            (Expect::Absent, None) => return Ok(()),
            (Expect::Revision(wanted), Some(found)) if wanted == found => return Ok(()),
            (Expect::Absent, Some(found)) => {
                format!("'{key}' exists at revision {found}; it was expected to be absent")
            }
            (Expect::Revision(wanted), None) => format!("'{key}' is absent; it was expected at revision {wanted}"),
            (Expect::Revision(wanted), Some(found)) => {
                format!("'{key}' is at revision {found}; it was expected at {wanted}")
            }
        };
        Err(Failure::new(Code::Conflict, message))
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn found(&self, key: &str) -> Option<&KvRecord> {
        self.entries.get(key.as_bytes()).map(|ByKey(record)| record)
    }

    /// The changes behind a revision, as far as they are kept.
    pub(crate) fn changes(&self, after: u64) -> Result<impl Iterator<Item = &KvRecord>, KvGap> {
        self.history.after(after)
    }

    /// The last revision whose change is forgotten.
    pub(crate) fn compacted(&self) -> u64 {
        self.history.compacted()
    }

    /// Bytes of keys and values, and how many may be.
    pub(crate) fn usage(&self) -> (u64, u64) {
        (self.bytes, self.quota)
    }

    pub(crate) fn set_quota(&mut self, bytes: Option<u64>) {
        self.quota = bytes.unwrap_or(KV_QUOTA);
    }

    pub(crate) fn get(&self, key: &str) -> Option<KvEntry> {
        self.found(key)?.entry()
    }

    pub(crate) fn list(&self, prefix: &str, after: Option<&str>, limit: u32) -> (Vec<KvEntry>, bool) {
        let from: Bound<&[u8]> = match after {
            Some(after) if after >= prefix => Bound::Excluded(after.as_bytes()),
            _ => Bound::Included(prefix.as_bytes()),
        };
        let limit = usize::try_from(limit.min(MAX_LIST)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let mut entries = Vec::new();
        for ByKey(record) in self.entries.range::<_, [u8]>((from, Bound::Unbounded)) {
            if !record.key_bytes().starts_with(prefix.as_bytes()) {
                break;
            }
            if entries.len() == limit || bytes >= MAX_LIST_BYTES {
                return (entries, true);
            }
            bytes += record.weight();
            entries.extend(record.entry());
        }
        (entries, false)
    }

    /// All entries in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = KvEntry> {
        self.entries.iter().filter_map(|ByKey(record)| record.entry())
    }

    /// Puts back an entry of a snapshot.
    pub(crate) fn restore(&mut self, entry: KvEntry) {
        self.bytes += weight(&entry.key, &entry.value);
        self.hold(&entry.key, None, entry.lease);
        let lease = entry.lease.and_then(NonZeroU64::new);
        let KvEntry { key, value, revision, created_revision, .. } = entry;
        // What is there was created at some time, whatever the file says.
        self.entries.insert(ByKey(KvRecord::written(revision, created_revision.max(1), lease, &key, &value)));
    }

    /// Puts back the revision of a snapshot; the history begins behind it.
    pub(crate) fn restore_revision(&mut self, revision: u64) {
        self.revision = revision;
        self.history.begin(revision);
    }

    /// Puts back a lease of a snapshot, before its keys.
    pub(crate) fn restore_lease(&mut self, lease: Lease) {
        self.leases.restore(lease);
    }
}

fn weight(key: &str, value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

pub(super) fn check_key(key: &str) -> Result<(), Failure> {
    match key.len() {
        0 => Err(Failure::new(Code::Invalid, "a key must not be empty")),
        1..=MAX_KEY => Ok(()),
        long => Err(Failure::new(Code::TooLarge, format!("the key is {long} bytes long; the limit is {MAX_KEY}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &mut Store, key: &str, value: &[u8]) -> Result<KvReply, Failure> {
        store.apply(&KvRequest::Put { key: key.into(), value: value.into() })
    }

    #[test]
    fn the_quota_counts_keys_and_values_and_lets_space_be_freed() {
        let mut store = Store { quota: 10, ..Store::default() };
        put(&mut store, "abc", b"1234567").unwrap();
        let refused = put(&mut store, "b", b"").unwrap_err();
        assert_eq!(refused.code, Code::TooLarge);
        assert!(refused.message.contains("11 bytes") && refused.message.contains("quota is 10"), "{refused}");
        put(&mut store, "abc", b"123456").unwrap();
        put(&mut store, "b", b"").unwrap();
        store.apply(&KvRequest::Delete { key: "abc".into() }).unwrap();
        assert_eq!(store.bytes, 1);
    }

    #[test]
    fn an_overfull_store_still_accepts_smaller_values() {
        let mut store = Store::default();
        put(&mut store, "a", &[0; 100]).unwrap();
        store.quota = 10;
        put(&mut store, "a", &[0; 50]).unwrap();
        assert_eq!(put(&mut store, "a", &[0; 51]).unwrap_err().code, Code::TooLarge);
    }

    #[test]
    fn limits_of_keys_and_values() {
        let mut store = Store::default();
        assert_eq!(put(&mut store, "", b"").unwrap_err().code, Code::Invalid);
        assert_eq!(put(&mut store, &"k".repeat(MAX_KEY + 1), b"").unwrap_err().code, Code::TooLarge);
        put(&mut store, &"k".repeat(MAX_KEY), &vec![0; MAX_VALUE]).unwrap();
        assert_eq!(put(&mut store, "k", &vec![0; MAX_VALUE + 1]).unwrap_err().code, Code::TooLarge);
    }

    #[test]
    fn a_listing_pages_by_count_and_by_bytes() {
        let mut store = Store::default();
        for key in ["a/1", "a/2", "a/3", "b"] {
            put(&mut store, key, &vec![0; MAX_LIST_BYTES / 2]).unwrap();
        }
        let keys =
            |(entries, more): (Vec<KvEntry>, bool)| (entries.into_iter().map(|e| e.key).collect::<Vec<_>>(), more);
        assert_eq!(keys(store.list("a/", None, 10)), (vec!["a/1".into(), "a/2".into()], true));
        assert_eq!(keys(store.list("a/", Some("a/2"), 10)), (vec!["a/3".into()], false));
        assert_eq!(keys(store.list("a/", Some("a/"), 1)), (vec!["a/1".into()], true));
        assert_eq!(keys(store.list("", Some("a/3"), 1)), (vec!["b".into()], false));
        assert_eq!(keys(store.list("a/", Some("b"), 1)), (vec![], false));
        assert_eq!(keys(store.list("a/", None, 0)), (vec![], true));
    }
}
