//! The disk fills up, and is emptied again.

use super::*;
use std::time::Duration;

#[tokio::test]
async fn a_full_disk_is_told_and_survived() {
    let disk = TestDisk::default();
    let log = open(&disk).unwrap();
    append(&log, entries(1, 0..1)).await;
    disk.set_full(true);
    let mut next = 1;
    let refused = loop {
        assert!(next < 1000, "the disk is full");
        match append_to(&log, entries(1, next..next + 1)).await {
            Ok(()) => next += 1,
            Err(refused) => break refused,
        }
    };
    assert!(next > 10, "what was prepared can be used");
    assert!(matches!(refused, LogError::NoSpace { .. }), "{refused:?}");
    assert!(log.space().borrow().is_some());
    assert_eq!((log.fault(), log.failed().is_cancelled()), (None, false));
    assert_eq!(indexes(&log), (0..next).collect::<Vec<_>>(), "what is stored can be read, and nothing else");
    assert_eq!(log.ends().1, Some(position(1, next - 1)));
    let refused = append_to(&log, entries(1, next..next + 1)).await;
    assert!(matches!(refused, Err(LogError::NoSpace { .. })), "{refused:?}");

    disk.set_full(false);
    append(&log, entries(2, next..next + 30)).await;
    let mut space = log.space();
    let there = space.wait_for(Option::is_none);
    tokio::time::timeout(Duration::from_secs(30), there).await.unwrap().unwrap();
    drop(log);
    let log = open(&disk).unwrap();
    assert_eq!(indexes(&log), (0..next + 30).collect::<Vec<_>>());
}

/// Of changes that wait behind one that was refused, those that follow on it are refused too.
#[tokio::test]
async fn what_follows_on_a_refused_change_is_refused() {
    let disk = TestDisk::default();
    let log = open(&disk).unwrap();
    append(&log, entries(1, 0..1)).await;
    disk.set_full(true);
    let (sender, told) = std::sync::mpsc::sync_channel(400);
    for index in 1..400 {
        let sender = sender.clone();
        let done = Box::new(move |result: Result<(), LogError>| sender.send((index, result.is_ok())).unwrap());
        if log.append(entries(1, index..index + 1), done).await.is_err() {
            // The log has been taken back before this one.
            break;
        }
    }
    drop(sender);
    let mut stored = vec![0];
    for (index, ok) in told {
        if ok {
            stored.push(index);
        }
    }
    assert_eq!(stored, (0..stored.len() as u64).collect::<Vec<_>>(), "no hole");
    assert_eq!(indexes(&log), stored);
    disk.set_full(false);
    let next = stored.len() as u64;
    append(&log, entries(1, next..next + 1)).await;
    drop(log);
    assert_eq!(indexes(&open(&disk).unwrap()), (0..=next).collect::<Vec<_>>());
}
