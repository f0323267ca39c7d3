//! The log, cut off at every single operation on its files, within it and after it.

use super::disk::{Left, TestDisk};
use super::*;

/// What was acknowledged.
#[derive(Debug, Default)]
struct Acknowledged {
    /// One more than the last entry that is to be there.
    next: u64,
    /// The first that must be there.
    first: u64,
    /// The first entry that is of the second term, and whether it must be there.
    rewritten: Option<u64>,
    ballot: Option<Ballot>,
    /// Entries in front of this one have been removed: they must not come back.
    purged: u64,
}

/// Appends, votes, truncates and purges until the disk is gone.
async fn work(log: &Log) -> Acknowledged {
    let mut done = Acknowledged::default();
    let _ = async {
        for index in 0..70 {
            append_to(log, entries(1, index..index + 1)).await?;
            done.next = index + 1;
            if index % 10 != 0 {
                continue;
            }
            let ballot = Ballot { term: index, node: NodeId::from(3), committed: false };
            log.save_ballot(ballot).await?;
            done.ballot = Some(ballot);
        }
        // What is cut off may be gone or not, until that is acknowledged.
        done.next = 64;
        log.truncate(64).await?;
        done.rewritten = Some(64);
        for index in (64..110).step_by(2) {
            append_to(log, entries(2, index..index + 2)).await?;
            done.next = index + 2;
        }
        for upto in [5, 50, 51, 90] {
            done.first = upto + 1;
            log.purge(position(if upto < 64 { 1 } else { 2 }, upto)).await?;
            done.purged = upto + 1;
        }
        // Of several sectors.
        append_to(log, vec![entry(2, 110, 3000)]).await?;
        done.next = 111;
        append_to(log, entries(2, 111..114)).await?;
        done.next = 114;
        Ok::<(), LogError>(())
    }
    .await;
    done
}

fn check(how: &str, log: &Log, done: &Acknowledged) {
    let found = log.read(0, u64::MAX, usize::MAX).unwrap();
    let have = |index: u64| found.iter().any(|entry| entry.position.index == index);
    assert!((done.first..done.next).all(have), "{how}: {done:?} {:?}", indexes(log));
    assert!(found.iter().all(|entry| entry.position.index >= done.purged), "{how}: {done:?} {:?}", indexes(log));
    assert!(log.ballot().map(|ballot| ballot.term) >= done.ballot.map(|ballot| ballot.term), "{how}: {done:?}");
    for found in &found {
        let Position { term, index, .. } = found.position;
        let size = if index == 110 { 3000 } else { 100 };
        assert_eq!(*found, entry(term, index, size), "{how}: what is found is what was written");
        let second = done.rewritten.is_some_and(|from| index >= from);
        assert!(!second || term == 2, "{how}: what was removed comes back: {done:?} {found:?}");
    }
}

/// The log works on after the cut: it takes entries, and what was torn never shows again.
async fn go_on(how: &str, disk: &TestDisk, log: Log, done: &Acknowledged) {
    let next = log.ends().1.map_or(0, |last| last.index + 1);
    for index in next..next + 4 {
        append_to(&log, vec![entry(3, index, 300)]).await.unwrap();
    }
    let after = open(&disk.cut(Left::Nothing)).unwrap_or_else(|error| panic!("{how}, once more: {error}"));
    let found = after.read(next, u64::MAX, usize::MAX).unwrap();
    assert_eq!(found, (next..next + 4).map(|index| entry(3, index, 300)).collect::<Vec<_>>(), "{how}, once more");
    assert!(after.ballot().map(|ballot| ballot.term) >= done.ballot.map(|ballot| ballot.term), "{how}: {done:?}");
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_wherever_it_is_cut_off() {
    let unlimited = TestDisk::default();
    let log = open(&unlimited).unwrap();
    assert_eq!(work(&log).await.next, 114);
    drop(log);
    let operations = unlimited.operations();
    assert!(operations > 220, "{operations}");
    for limit in 0..operations {
        let disk = TestDisk::limited(limit);
        let done = match open(&disk) {
            Ok(log) => work(&log).await,
            Err(_) => Acknowledged::default(),
        };
        let chances = (0..4).map(|seed| Left::Some((limit * 10 + seed) as u64));
        for left in [Left::All, Left::Nothing].into_iter().chain(chances) {
            let (how, image) = (format!("{left:?} left after {limit} operations"), disk.cut(left));
            if image.names().iter().all(|name| name.ends_with(".tmp")) {
                assert!(done.next == 0 && done.ballot.is_none(), "{how}: everything is gone");
                continue;
            }
            let log = open(&image).unwrap_or_else(|error| panic!("{how}: {error}"));
            check(&how, &log, &done);
            go_on(&how, &image, log, &done).await;
        }
    }
}
