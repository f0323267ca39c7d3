//! The key-value store: keys in byte order, revisions, a quota. Reads and writes of one copy; nothing about freshness.

use imbl::OrdMap;
use longshore_wire::kv::{Expect, KvEntry, KvReply, KvRequest, MAX_KEY, MAX_LIST, MAX_VALUE};
use longshore_wire::{Code, Failure};
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
}

impl Default for Store {
    fn default() -> Self {
        Self { entries: OrdMap::new(), revision: 0, bytes: 0, quota: KV_QUOTA }
    }
}

#[derive(Clone)]
struct Slot {
    value: Arc<[u8]>,
    revision: u64,
    created: u64,
}

impl Store {
    /// Carries out a write.
    pub(crate) fn apply(&mut self, request: &KvRequest) -> Result<KvReply, Failure> {
        match request {
            KvRequest::Put { key, value } => self.put(key, value),
            KvRequest::Delete { key } => self.delete(key),
            KvRequest::Cas { key, value, expect } => {
                self.check_expected(key, *expect)?;
                self.put(key, value)
            }
            KvRequest::Get { .. } | KvRequest::List { .. } => {
                Err(Failure::new(Code::Invalid, "a read does not belong into the log; read the state instead"))
            }
        }
    }

    fn put(&mut self, key: &str, value: &[u8]) -> Result<KvReply, Failure> {
        check_key(key)?;
        if value.len() > MAX_VALUE {
            let message = format!("the value of '{key}' is {} bytes long; the limit is {MAX_VALUE}", value.len());
            return Err(Failure::new(Code::TooLarge, message));
        }
        let old = self.entries.get(key);
        let freed = old.map_or(0, |slot| weight(key, &slot.value));
        let created = old.map(|slot| slot.created);
        let bytes = self.bytes - freed + weight(key, value);
        if bytes > self.quota && bytes > self.bytes {
            let message = format!(
                "the key-value store is full: it would hold {bytes} bytes, the quota is {}; delete keys that nobody needs",
                self.quota
            );
            return Err(Failure::new(Code::TooLarge, message));
        }
        self.bytes = bytes;
        self.revision += 1;
        let slot = Slot { value: value.into(), revision: self.revision, created: created.unwrap_or(self.revision) };
        self.entries.insert(key.into(), slot);
        Ok(KvReply::Written { revision: self.revision, created: created.is_none() })
    }

    fn delete(&mut self, key: &str) -> Result<KvReply, Failure> {
        check_key(key)?;
        let removed = self.entries.remove(key);
        if let Some(slot) = &removed {
            self.bytes -= weight(key, &slot.value);
            self.revision += 1;
        }
        Ok(KvReply::Deleted { revision: self.revision, existed: removed.is_some() })
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
        let slot = Slot { value: entry.value.into(), revision: entry.revision, created: entry.created_revision };
        self.entries.insert(entry.key.into(), slot);
    }

    /// Puts back the revision of a snapshot.
    pub(crate) fn restore_revision(&mut self, revision: u64) {
        self.revision = revision;
    }
}

impl Slot {
    fn entry(&self, key: &str) -> KvEntry {
        KvEntry {
            key: key.to_owned(),
            value: self.value.to_vec(),
            revision: self.revision,
            created_revision: self.created,
        }
    }
}

fn weight(key: &str, value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

fn check_key(key: &str) -> Result<(), Failure> {
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
