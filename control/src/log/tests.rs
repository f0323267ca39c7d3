//! The log over crashes, damage and its own limits.

use super::store::LOG;
use super::*;
use bytes::Bytes;
use longshore_wire::NodeId;
use redb::backends::InMemoryBackend;
use redb::{ReadableTable as _, StorageBackend};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

fn entry(term: u64, index: u64, size: usize) -> Entry {
    let payload = Payload::Proposals(Bytes::from(vec![index.to_le_bytes()[0]; size]));
    Entry { position: Position { term, leader: NodeId::from(7), index }, payload }
}

pub(super) fn entries(term: u64, indexes: std::ops::Range<u64>) -> Vec<Entry> {
    indexes.map(|index| entry(term, index, 100)).collect()
}

async fn append(log: &Log, entries: Vec<Entry>) {
    append_to(log, entries).await.unwrap();
}

/// Appends and waits until that is synced.
pub(super) async fn append_to(log: &Log, entries: Vec<Entry>) -> Result<(), LogError> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    log.append(entries, Box::new(move |result| drop(sender.send(result)))).await?;
    receiver.await.unwrap()
}

pub(super) fn indexes(log: &Log) -> Vec<u64> {
    log.read(0, u64::MAX, usize::MAX).unwrap().iter().map(|entry| entry.position.index).collect()
}

/// Copies the file as it is now, while the log is open: what a killed process leaves.
fn crashed_copy(path: &Path) -> std::path::PathBuf {
    let copy = path.with_extension("copy");
    std::fs::copy(path, &copy).unwrap();
    copy
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.redb");
    let log = Log::open(&path).unwrap();
    let ballot = Ballot { term: 3, node: NodeId::from(9), committed: true };
    append(&log, entries(1, 0..20)).await;
    log.truncate(15).await.unwrap();
    append(&log, entries(2, 15..18)).await;
    log.purge(entry(1, 4, 0).position).await.unwrap();
    log.set_committed(Some(entry(2, 16, 0).position));
    log.save_ballot(ballot).await.unwrap();

    let reopened = Log::open(&crashed_copy(&path)).unwrap();
    assert_eq!(indexes(&reopened), (5..18).collect::<Vec<_>>());
    assert_eq!(reopened.ends(), (Some(entry(1, 4, 0).position), Some(entry(2, 17, 0).position)));
    assert_eq!(reopened.ballot(), Some(ballot));
    assert_eq!(reopened.committed(), Some(entry(2, 16, 0).position));
    assert_eq!(reopened.read(14, 16, usize::MAX).unwrap(), [entry(1, 14, 100), entry(2, 15, 100)]);
}

#[tokio::test]
async fn the_last_commit_index_is_kept_at_a_clean_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.redb");
    let log = Log::open(&path).unwrap();
    append(&log, entries(1, 0..3)).await;
    log.set_committed(Some(entry(1, 2, 0).position));
    drop(log);
    assert_eq!(Log::open(&path).unwrap().committed(), Some(entry(1, 2, 0).position));
}

#[tokio::test]
async fn reads_join_memory_and_disk_within_a_budget() {
    const LARGE: usize = 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(&folder.path().join("log.redb")).unwrap();
    for index in 0..40 {
        append(&log, vec![entry(1, index, LARGE)]).await;
    }
    assert_eq!(indexes(&log), (0..40).collect::<Vec<_>>(), "the oldest are no longer in memory");
    let some = log.read(3, 40, 2 * LARGE + 1024).unwrap();
    assert_eq!(some.iter().map(|entry| entry.position.index).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(log.read(39, 40, 1).unwrap().len(), 1, "the first one always");
}

#[tokio::test]
async fn damage_is_found_at_the_start_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.redb");
    let log = Log::open(&path).unwrap();
    append(&log, entries(1, 0..5)).await;
    drop(log);
    let flip = |number: u64| {
        let database = redb::Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(LOG).unwrap();
            let mut record = table.get(number).unwrap().unwrap().value().to_vec();
            let last = record.len() - 1;
            record[last] ^= 1;
            table.insert(number, record.as_slice()).unwrap();
        }
        transaction.commit().unwrap();
    };
    flip(3);
    let error = Log::open(&path).unwrap_err().to_string();
    assert!(error.contains("log entry 3 is damaged: its checksum is"), "{error}");
    assert!(error.contains("log.redb"), "{error}");
    flip(3);
    assert!(Log::open(&path).is_ok());
}

#[tokio::test]
async fn a_missing_entry_is_found_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.redb");
    append(&Log::open(&path).unwrap(), entries(1, 0..5)).await;
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(LOG).unwrap().remove(2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Log::open(&path).unwrap_err().to_string();
    assert!(error.contains("where entry 2 must stand"), "{error}");
}

#[tokio::test]
async fn a_gap_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(&folder.path().join("log.redb")).unwrap();
    append(&log, entries(1, 0..2)).await;
    let refused = log.append(entries(1, 3..4), Box::new(|_| ())).await;
    assert!(matches!(refused, Err(LogError::Gap { last: 1, got: 3, .. })), "{refused:?}");
}

#[test]
fn golden_record() {
    let record = seal_record(&entry(1, 2, 0).position);
    assert_eq!(record[0], 1, "the format");
    assert_eq!(open_record::<Position>(&record), Ok(entry(1, 2, 0).position));
    let newer = [&[2], &record[1..]].concat();
    assert_eq!(open_record::<Position>(&newer), Err("its format is 2, this release reads format 1".to_owned()));
    assert!(open_record::<Position>(&record[..4]).is_err());
}

/// A disk whose sync can be made to fail.
#[derive(Debug, Default)]
struct Disk {
    memory: InMemoryBackend,
    broken: Arc<AtomicBool>,
    syncs_refused: Arc<AtomicU32>,
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            self.syncs_refused.fetch_add(1, Ordering::SeqCst);
            return Err(io::Error::other("the disk is gone"));
        }
        self.memory.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.memory.write(offset, data)
    }
}

#[tokio::test]
async fn a_failed_sync_acknowledges_nothing_and_is_never_tried_again() {
    let disk = Disk::default();
    let (broken, refused) = (Arc::clone(&disk.broken), Arc::clone(&disk.syncs_refused));
    let database = redb::Database::builder().create_with_backend(disk).unwrap();
    let log = Log::over(Path::new("log.redb"), database).unwrap();
    append(&log, entries(1, 0..1)).await;

    broken.store(true, Ordering::SeqCst);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    log.append(entries(1, 1..2), Box::new(move |result| drop(sender.send(result)))).await.unwrap();
    let fault = receiver.await.unwrap().unwrap_err();
    assert!(fault.to_string().contains("the disk is gone"), "{fault}");
    assert!(log.failed().is_cancelled());
    assert_eq!(log.fault(), Some(fault.clone()));

    broken.store(false, Ordering::SeqCst);
    let tried = refused.load(Ordering::SeqCst);
    let ballot = Ballot { term: 9, node: NodeId::from(1), committed: false };
    assert_eq!(log.save_ballot(ballot).await, Err(fault.clone()), "a disk that works again proves nothing");
    assert_eq!(log.append(entries(1, 2..3), Box::new(|_| ())).await, Err(fault));
    assert_eq!(refused.load(Ordering::SeqCst), tried);
    assert_eq!(log.ballot(), None);
}
