//! The keys in byte order, their revisions, and the quota. Every change of a key goes through here, once.

use super::history::{History, KvChange, KvGap};
use super::lease::{Lease, Leases};
use imbl::OrdMap;
use longshore_wire::kv::{Expect, KvEntry, KvReply, KvRequest, MAX_KEY, MAX_LIST, MAX_VALUE};
use longshore_wire::{Code, Failure};
use std::num::NonZeroU64;
use std::ops::Bound;
use std::sync::Arc;

/// Most bytes of keys and values together: the state lives in memory on every control node.
pub const KV_QUOTA: u64 = 1024 * 1024 * 1024;
/// A listing ends behind the entry that reaches so many bytes, so that it fits in one message with that entry.
const MAX_LIST_BYTES: usize = 512 * 1024;

/// The keys with their values.
#[derive(Clone)]
pub(crate) struct Store {
    entries: OrdMap<Arc<str>, Slot>,
    revision: u64,
    bytes: u64,
    quota: u64,
    history: History,
    pub(super) leases: Leases,
}

impl Default for Store {
    fn default() -> Self {
        let (history, leases) = (History::default(), Leases::default());
        Self { entries: OrdMap::new(), revision: 0, bytes: 0, quota: KV_QUOTA, history, leases }
    }
}

#[derive(Clone)]
struct Slot {
    value: Arc<[u8]>,
    revision: u64,
    created: u64,
    lease: Option<NonZeroU64>,
}

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
        let old = self.entries.get_key_value(key);
        let freed = old.map_or(0, |(_, slot)| weight(key, &slot.value));
        let bytes = self.bytes - freed + weight(key, value);
        if bytes > self.quota && bytes > self.bytes {
            let message = format!(
                "the key-value store is full: it would hold {bytes} bytes, the quota is {}; delete keys that nobody needs",
                self.quota
            );
            return Err(Failure::new(Code::TooLarge, message));
        }
        let (shared, created, before) = match old {
            Some((key, slot)) => (Arc::clone(key), Some(slot.created), slot.lease),
            None => (Arc::from(key), None, None),
        };
        self.bytes = bytes;
        self.revision += 1;
        self.hold(&shared, before, lease.and_then(NonZeroU64::new));
        let (revision, lease) = (self.revision, lease.and_then(NonZeroU64::new));
        let slot = Slot { value: value.into(), revision, created: created.unwrap_or(revision), lease };
        self.history.push(slot.change(Arc::clone(&shared)));
        self.entries.insert(shared, slot);
        Ok(KvReply::Written { revision, created: created.is_none() })
    }

    /// Lets a key go with another lease.
    fn hold(&mut self, key: &Arc<str>, before: Option<NonZeroU64>, after: Option<NonZeroU64>) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.leases.detach(before.get(), key);
        }
        if let Some(after) = after {
            self.leases.attach(after.get(), key);
        }
    }

    pub(super) fn delete(&mut self, key: &str) -> Result<KvReply, Failure> {
        check_key(key)?;
        let existed = self.remove(key);
        Ok(KvReply::Deleted { revision: self.revision, existed })
    }

    /// Takes a key away; false when it is not there.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let Some((key, slot)) = self.entries.remove_with_key(key) else { return false };
        self.bytes -= weight(&key, &slot.value);
        self.revision += 1;
        self.hold(&key, slot.lease, None);
        let lease = slot.lease.map(NonZeroU64::get);
        self.history.push(KvChange { revision: self.revision, key, value: None, created_revision: 0, lease });
        true
    }

    fn check_expected(&self, key: &str, expect: Expect) -> Result<(), Failure> {
        let found = self.entries.get(key).map(|slot| slot.revision);
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

    /// Revision and value of a key.
    pub(super) fn found(&self, key: &str) -> Option<(u64, &[u8])> {
        self.entries.get(key).map(|slot| (slot.revision, slot.value.as_ref()))
    }

    /// The changes behind a revision, as far as they are kept.
    pub(crate) fn changes(&self, after: u64) -> Result<impl Iterator<Item = &KvChange>, KvGap> {
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
        self.entries.get(key).map(|slot| slot.entry(key))
    }

    pub(crate) fn list(&self, prefix: &str, after: Option<&str>, limit: u32) -> (Vec<KvEntry>, bool) {
        let from: Bound<&str> = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let limit = usize::try_from(limit.min(MAX_LIST)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let mut entries = Vec::new();
        for (key, slot) in self.entries.range::<_, str>((from, Bound::Unbounded)) {
            if !key.starts_with(prefix) {
                break;
            }
            if entries.len() == limit || bytes >= MAX_LIST_BYTES {
                return (entries, true);
            }
            bytes += key.len() + slot.value.len();
            entries.push(slot.entry(key));
        }
        (entries, false)
    }

    /// All entries in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = KvEntry> {
        self.entries.iter().map(|(key, slot)| slot.entry(key))
    }

    /// Puts back an entry of a snapshot.
    pub(crate) fn restore(&mut self, entry: KvEntry) {
        self.bytes += weight(&entry.key, &entry.value);
        let (key, lease): (Arc<str>, _) = (entry.key.into(), entry.lease.and_then(NonZeroU64::new));
        self.hold(&key, None, lease);
        let slot = Slot { value: entry.value.into(), revision: entry.revision, created: entry.created_revision, lease };
        self.entries.insert(key, slot);
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

impl Slot {
    fn entry(&self, key: &str) -> KvEntry {
        KvEntry {
            key: key.to_owned(),
            value: self.value.to_vec(),
            revision: self.revision,
            created_revision: self.created,
            lease: self.lease.map(NonZeroU64::get),
        }
    }

    fn change(&self, key: Arc<str>) -> KvChange {
        let (value, lease) = (Some(Arc::clone(&self.value)), self.lease.map(NonZeroU64::get));
        KvChange { revision: self.revision, key, value, created_revision: self.created, lease }
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
