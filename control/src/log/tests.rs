//! The log over a clean end, a crash, and its own limits.

mod bench;
mod crash;
mod damage;
mod disk;
mod first_format;
mod space;

use super::segment::Growth;
use super::*;
use bytes::Bytes;
use disk::TestDisk;
use longshore_wire::NodeId;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Segments of a few dozen entries.
const SMALL: Growth = Growth { first: 8192, largest: 16384 };

fn entry(term: u64, index: u64, size: usize) -> Entry {
    let payload = Payload::Proposals(Bytes::from(vec![filler(index); size]));
    Entry { position: position(term, index), payload }
}

fn filler(index: u64) -> u8 {
    u8::try_from(index % 250 + 1).unwrap()
}

fn position(term: u64, index: u64) -> Position {
    Position { term, leader: NodeId::from(7), index }
}

fn entries(term: u64, indexes: std::ops::Range<u64>) -> Vec<Entry> {
    indexes.map(|index| entry(term, index, 100)).collect()
}

async fn append(log: &Log, entries: Vec<Entry>) {
    append_to(log, entries).await.unwrap();
}

/// Appends and waits until that is synced.
async fn append_to(log: &Log, entries: Vec<Entry>) -> Result<(), LogError> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    log.append(entries, Box::new(move |result| drop(sender.send(result)))).await?;
    receiver.await.unwrap()
}

fn indexes(log: &Log) -> Vec<u64> {
    log.read(0, u64::MAX, usize::MAX).unwrap().iter().map(|entry| entry.position.index).collect()
}

fn open(disk: &TestDisk) -> Result<Log, LogError> {
    let disk: Arc<dyn super::disk::Disk> = Arc::new(disk.clone());
    if disk.names().is_ok_and(|names| names.is_empty()) {
        segment::prepare(&*disk, Path::new("log"), 1, SMALL.size(1))?;
    }
    Log::over(Path::new("log"), disk, SMALL)
}

/// Copies the folder as it is now, while the log is open: what a killed process leaves.
fn crashed_copy(path: &Path) -> PathBuf {
    let copy = path.with_extension("copy");
    std::fs::create_dir(&copy).unwrap();
    for item in std::fs::read_dir(path).unwrap() {
        let item = item.unwrap();
        // The helper thread may just have given it its name.
        if !item.file_name().to_string_lossy().ends_with(".tmp") {
            std::fs::copy(item.path(), copy.join(item.file_name())).unwrap();
        }
    }
    copy
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = Log::open(&path).unwrap();
    let ballot = Ballot { term: 3, node: NodeId::from(9), committed: true };
    let members = Members { voters: vec![[NodeId::from(1)].into()], nodes: [NodeId::from(1)].into() };
    append(&log, entries(1, 0..20)).await;
    log.truncate(15).await.unwrap();
    append(&log, entries(2, 15..18)).await;
    append(&log, vec![Entry { position: position(2, 18), payload: Payload::Members(members) }]).await;
    append(&log, vec![Entry { position: position(2, 19), payload: Payload::Blank }]).await;
    log.purge(position(1, 4)).await.unwrap();
    log.set_committed(Some(position(2, 16)));
    log.save_ballot(ballot).await.unwrap();

    let reopened = Log::open(&crashed_copy(&path)).unwrap();
    assert_eq!(indexes(&reopened), (5..20).collect::<Vec<_>>());
    assert_eq!(reopened.ends(), (Some(position(1, 4)), Some(position(2, 19))));
    assert_eq!(reopened.ballot(), Some(ballot));
    assert_eq!(reopened.committed(), Some(position(2, 16)));
    assert_eq!(reopened.read(14, 16, usize::MAX).unwrap(), [entry(1, 14, 100), entry(2, 15, 100)]);
    let all = |log: &Log| log.read(0, u64::MAX, usize::MAX).unwrap();
    assert_eq!(all(&reopened), all(&log));
}

#[tokio::test]
async fn the_last_commit_index_is_kept_at_a_clean_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = Log::open(&path).unwrap();
    append(&log, entries(1, 0..3)).await;
    log.set_committed(Some(position(1, 2)));
    drop(log);
    assert_eq!(Log::open(&path).unwrap().committed(), Some(position(1, 2)));
}

#[tokio::test]
async fn reads_join_memory_and_disk_within_a_budget() {
    const LARGE: usize = 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(&folder.path().join("log")).unwrap();
    for index in 0..40 {
        append(&log, vec![entry(1, index, LARGE)]).await;
    }
    assert_eq!(indexes(&log), (0..40).collect::<Vec<_>>(), "the oldest are no longer in memory");
    let some = log.read(3, 40, 2 * LARGE + 1024).unwrap();
    assert_eq!(some.iter().map(|entry| entry.position.index).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(log.read(39, 40, 1).unwrap().len(), 1, "the first one always");
    assert_eq!(log.read(0, 2, usize::MAX).unwrap(), [entry(1, 0, LARGE), entry(1, 1, LARGE)]);
    assert_eq!(log.read(0, 40, 39 * LARGE + LARGE / 2).unwrap().len(), 39, "disk and memory share the budget");
}

/// Entries that share a frame with others, that were written again there, or of which a part is purged.
#[tokio::test]
async fn what_is_read_from_a_frame_is_what_counts() {
    let disk = TestDisk::default();
    let log = open(&disk).unwrap();
    append(&log, entries(1, 0..10)).await;
    log.truncate(6).await.unwrap();
    append(&log, entries(2, 6..12)).await;
    log.purge(position(1, 2)).await.unwrap();
    drop(log);
    let log = open(&disk).unwrap();
    let tail = |log: &Log| log.read(0, 100, usize::MAX).unwrap();
    let before = tail(&log);
    assert_eq!(before, [entries(1, 3..6), entries(2, 6..12)].concat());
    // Too much for the memory, so that the others have to be read.
    append(&log, vec![entry(2, 12, 5 * 1024 * 1024)]).await;
    append(&log, entries(2, 13..14)).await;
    assert_eq!(log.read(0, 12, usize::MAX).unwrap(), before);
    assert_eq!(log.read(5, 7, usize::MAX).unwrap(), [entry(1, 5, 100), entry(2, 6, 100)]);
    assert_eq!(log.read(5, 14, 1).unwrap(), [entry(1, 5, 100)]);
}

#[tokio::test]
async fn a_purge_removes_segments_and_keeps_the_vote() {
    let disk = TestDisk::default();
    let log = open(&disk).unwrap();
    let ballot = Ballot { term: 3, node: NodeId::from(9), committed: true };
    log.save_ballot(ballot).await.unwrap();
    log.set_committed(Some(position(1, 1)));
    for index in 0..300 {
        append(&log, entries(1, index..index + 1)).await;
    }
    let before = disk.names().len();
    assert!(before > 4, "{before}");
    log.purge(position(1, 295)).await.unwrap();
    drop(log);
    assert!(disk.names().len() <= 3, "{:?}", disk.names());
    let log = open(&disk).unwrap();
    assert_eq!((log.ballot(), log.committed()), (Some(ballot), Some(position(1, 1))));
    assert_eq!(indexes(&log), (296..300).collect::<Vec<_>>());
    assert_eq!(log.ends(), (Some(position(1, 295)), Some(position(1, 299))));
    log.purge(position(9, 1000)).await.unwrap();
    drop(log);
    let log = open(&disk).unwrap();
    assert_eq!(log.ends(), (Some(position(9, 1000)), Some(position(9, 1000))));
    append(&log, entries(9, 1001..1002)).await;
}

#[tokio::test]
async fn a_log_may_begin_anywhere() {
    let disk = TestDisk::default();
    let log = open(&disk).unwrap();
    append(&log, entries(1, 5..8)).await;
    assert_eq!(indexes(&log), [5, 6, 7]);
    drop(log);
    assert_eq!(indexes(&open(&disk).unwrap()), [5, 6, 7]);
}

#[tokio::test]
async fn a_gap_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(&folder.path().join("log")).unwrap();
    append(&log, entries(1, 0..2)).await;
    let refused = log.append(entries(1, 3..4), Box::new(|_| ())).await;
    assert!(matches!(refused, Err(LogError::Gap { last: 1, got: 3, .. })), "{refused:?}");
}

#[test]
fn golden_record() {
    let record = seal_record(&position(1, 2));
    assert_eq!(record[0], 1, "the format");
    assert_eq!(open_record::<Position>(&record), Ok(position(1, 2)));
    let whole = seal_record(&entry(1, 2, 3));
    assert_eq!(
        format!("{:08x} {}", crc32fast::hash(&whole), whole.len()),
        "6f59ddfc 87",
        "an entry of the first release"
    );
    let newer = [&[2], &record[1..]].concat();
    assert_eq!(open_record::<Position>(&newer), Err("its format is 2, this release reads format 1".to_owned()));
    assert!(open_record::<Position>(&record[..4]).is_err());
}

/// The bytes of the second format; a release that reads them differently loses what was stored.
#[test]
fn golden_frame() {
    let mut buffer = vec![0; frame::HEAD];
    let ballot = Ballot { term: 1, node: NodeId::from(2), committed: true };
    item::put_standing(&mut buffer, &item::Standing { ballot: Some(ballot), ..item::Standing::default() });
    item::put_entry(&mut buffer, &Entry { payload: Payload::Proposals(Bytes::from("abc")), ..entry(3, 4, 0) });
    item::put_vote(&mut buffer, &ballot);
    item::put_truncate(&mut buffer, 5, Some(position(3, 4)));
    item::put_purge(&mut buffer, &position(3, 4));
    item::put_committed(&mut buffer, &position(3, 4));
    frame::seal(&mut buffer, 6, 7);
    let digest = format!("{:08x} {}", crc32fast::hash(&buffer), buffer.len());
    assert_eq!(digest, "341726f6 288");
    let frame::Look::Frame { number: 6, body, .. } = frame::look(&buffer, 0, 7, Some(6)) else { panic!() };
    assert_eq!(item::items(body).map(Result::unwrap).count(), 6);
    let newer = item::items(&[99, 0, 0, 0, 0]).next();
    assert!(matches!(newer, Some(Err(item::Unread::Newer(_)))), "{newer:?}");
}

#[tokio::test]
async fn a_failed_sync_acknowledges_nothing_and_is_never_tried_again() {
    let disk = TestDisk::default();
    let log = open(&disk).unwrap();
    append(&log, entries(1, 0..1)).await;

    disk.set_broken(true);
    let fault = append_to(&log, entries(1, 1..2)).await.unwrap_err();
    assert!(fault.to_string().contains("the disk is gone"), "{fault}");
    assert!(log.failed().is_cancelled());
    assert_eq!(log.fault(), Some(fault.clone()));

    disk.set_broken(false);
    let tried = disk.operations();
    let ballot = Ballot { term: 9, node: NodeId::from(1), committed: false };
    assert_eq!(log.save_ballot(ballot).await, Err(fault.clone()), "a disk that works again proves nothing");
    assert_eq!(log.append(entries(1, 2..3), Box::new(|_| ())).await, Err(fault));
    assert_eq!(disk.operations(), tried);
    assert_eq!(log.ballot(), None);
}
