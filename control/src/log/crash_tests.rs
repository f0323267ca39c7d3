//! The log, cut off at every single operation on its file.

use super::tests::{append_to, entries, indexes};
use super::*;
use longshore_wire::NodeId;
use redb::StorageBackend;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A disk with a volatile cache that fails for good after so many operations.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    /// What the program reads and writes.
    cache: Vec<u8>,
    /// What a power cut leaves.
    durable: Vec<u8>,
    operations: usize,
    limit: usize,
}

impl Disk {
    fn with(bytes: Vec<u8>, limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Content { cache: bytes.clone(), durable: bytes, operations: 0, limit })))
    }

    fn change(&self, work: impl FnOnce(&mut Content)) -> io::Result<()> {
        let mut content = self.0.lock().unwrap();
        if content.operations >= content.limit {
            return Err(io::Error::other("the power is gone"));
        }
        content.operations += 1;
        work(&mut content);
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().cache.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (content, start) = (self.0.lock().unwrap(), usize::try_from(offset).unwrap());
        let bytes = content.cache.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|content| content.cache.resize(usize::try_from(len).unwrap(), 0))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|content| content.durable = content.cache.clone())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.change(|content| content.cache[start..start + data.len()].copy_from_slice(data))
    }
}

fn open(disk: Disk) -> Result<Log, LogError> {
    let database = redb::Database::builder().create_with_backend(disk);
    Log::over(Path::new("log.redb"), database.map_err(|_| LogError::Closed)?)
}

/// What was acknowledged.
#[derive(Debug, Default)]
struct Acknowledged {
    /// One more than the last entry that is to be there.
    next: u64,
    /// The first that must be there.
    first: u64,
    /// The term of the entries from 12 on.
    term: u64,
    ballot: Option<Ballot>,
}

/// Appends, votes, truncates and purges until the disk is gone.
async fn work(log: &Log) -> Acknowledged {
    let mut done = Acknowledged::default();
    let _ = async {
        for index in 0..15 {
            append_to(log, entries(1, index..index + 1)).await?;
            (done.next, done.term) = (index + 1, 1);
            if index % 5 != 0 {
                continue;
            }
            let ballot = Ballot { term: index, node: NodeId::from(3), committed: false };
            log.save_ballot(ballot).await?;
            done.ballot = Some(ballot);
        }
        // What is cut off may be gone or not, until that is acknowledged.
        done.next = 12;
        log.truncate(12).await?;
        append_to(log, entries(2, 12..20)).await?;
        (done.next, done.term) = (20, 2);
        done.first = 6;
        log.purge(entries(1, 5..6).remove(0).position).await
    }
    .await;
    done
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_wherever_it_is_cut_off() {
    let unlimited = Disk::with(Vec::new(), usize::MAX);
    let log = open(unlimited.clone()).unwrap();
    assert_eq!(work(&log).await.next, 20);
    let operations = unlimited.0.lock().unwrap().operations;
    assert!(operations > 100, "{operations}");
    drop(log);
    for limit in 0..operations {
        let disk = Disk::with(Vec::new(), limit);
        let done = match open(disk.clone()) {
            Ok(log) => work(&log).await,
            Err(_) => Acknowledged::default(),
        };
        let images = {
            let content = disk.0.lock().unwrap();
            [("a power cut", content.durable.clone()), ("a killed process", content.cache.clone())]
        };
        for (how, image) in images {
            let reopened = match open(Disk::with(image, usize::MAX)) {
                Ok(log) => log,
                Err(_) if done.next == 0 && done.ballot.is_none() => continue,
                Err(error) => panic!("{how} after {limit} operations: {error}"),
            };
            let found = indexes(&reopened);
            assert!((done.first..done.next).all(|index| found.contains(&index)), "{how}, {limit}: {done:?} {found:?}");
            let ballot = reopened.ballot().map(|ballot| ballot.term);
            assert!(ballot >= done.ballot.map(|ballot| ballot.term), "{how}, {limit}: {done:?} {ballot:?}");
            let last = reopened.read(12, 13, usize::MAX).unwrap().first().map(|entry| entry.position.term);
            assert!(done.term < 2 || last == Some(2), "{how}, {limit}: {done:?} {last:?}");
        }
    }
}
