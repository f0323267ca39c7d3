//! The first release's log, a redb file, is taken over.

use super::*;
use redb::{Database, TableDefinition};

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// FROZEN: the file as the first release wrote it.
pub(super) fn write(database: &Database, entries: &[Entry], meta: &[(&str, Vec<u8>)]) {
    let transaction = database.begin_write().unwrap();
    {
        let mut log = transaction.open_table(LOG).unwrap();
        for entry in entries {
            log.insert(entry.position.index, seal_record(entry).as_slice()).unwrap();
        }
        let mut table = transaction.open_table(META).unwrap();
        for (name, record) in meta {
            table.insert(*name, record.as_slice()).unwrap();
        }
    }
    transaction.commit().unwrap();
}

fn some() -> (Vec<Entry>, Ballot, Position, Position) {
    let ballot = Ballot { term: 4, node: NodeId::from(9), committed: true };
    let mut all = entries(3, 101..160);
    all.push(Entry { position: position(4, 160), payload: Payload::Blank });
    all.push(entry(4, 161, 3 * 1024 * 1024));
    (all, ballot, position(2, 100), position(4, 160))
}

fn first(folder: &Path) -> PathBuf {
    let (entries, ballot, purged, committed) = some();
    let path = folder.join("log.redb");
    let meta =
        [("vote", seal_record(&ballot)), ("purged", seal_record(&purged)), ("committed", seal_record(&committed))];
    write(&Database::create(&path).unwrap(), &entries, &meta);
    path
}

fn check(log: &Log) {
    let (entries, ballot, purged, committed) = some();
    assert_eq!(log.read(0, u64::MAX, usize::MAX).unwrap(), entries);
    assert_eq!((log.ballot(), log.committed()), (Some(ballot), Some(committed)));
    assert_eq!(log.ends(), (Some(purged), Some(position(4, 161))));
}

#[tokio::test]
async fn the_first_format_is_taken_over_once() {
    let folder = tempfile::tempdir().unwrap();
    let (path, former) = (folder.path().join("log"), first(folder.path()));
    assert!(Log::exists(&path));
    let log = Log::open(&path).unwrap();
    check(&log);
    append(&log, entries(5, 162..163)).await;
    drop(log);
    assert!(Database::create(&former).is_err(), "the first release cannot begin an empty log in its place");
    assert!(former.is_dir());
    assert_eq!(Log::open(&path).unwrap().ends().1, Some(position(5, 162)));
}

/// A crash on the way leaves the former file or the whole log.
#[test]
fn a_crash_while_it_is_taken_over_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, former) = (folder.path().join("log"), first(folder.path()));
    // Before the new folder has its name.
    std::fs::create_dir(folder.path().join("log.tmp")).unwrap();
    std::fs::write(folder.path().join("log.tmp/00000000000000000001.seg"), "half").unwrap();
    let copy = folder.path().join("copy");
    std::fs::copy(&former, &copy).unwrap();
    check(&Log::open(&path).unwrap());
    // Before the former file is gone.
    std::fs::remove_dir(&former).unwrap();
    std::fs::copy(&copy, &former).unwrap();
    check(&Log::open(&path).unwrap());
    assert!(former.is_dir());
    // Before the folder stands in its place.
    std::fs::remove_dir(&former).unwrap();
    check(&Log::open(&path).unwrap());
    assert!(former.is_dir());
    assert!(!folder.path().join("log.tmp").exists());
}

#[test]
fn damage_in_the_first_format_is_named_and_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, former) = (folder.path().join("log"), folder.path().join("log.redb"));
    let (entries, ballot, ..) = some();
    let mut vote = seal_record(&ballot);
    *vote.last_mut().unwrap() ^= 1;
    write(&Database::create(&former).unwrap(), &entries[..3], &[("vote", vote.clone())]);
    let error = Log::open(&path).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("log.redb: vote is damaged"), "{error}");
    assert!(former.is_file() && !path.exists());
    write(&Database::create(&former).unwrap(), &[], &[("vote", [&[2], &seal_record(&ballot)[1..]].concat())]);
    let newer = Log::open(&path).unwrap_err();
    assert!(matches!(newer, LogError::Newer { .. }), "{newer:?}");
    write(&Database::create(&former).unwrap(), &[], &[("vote", seal_record(&ballot))]);
    write(&Database::create(&former).unwrap(), &entries[4..5], &[]);
    let gap = Log::open(&path).unwrap_err().to_string();
    assert!(gap.contains("where entry 104 must stand"), "{gap}");
    std::fs::write(&former, "no database").unwrap();
    let error = Log::open(&path).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error:?}");
    assert_eq!(std::fs::read_to_string(&former).unwrap(), "no database");
}
