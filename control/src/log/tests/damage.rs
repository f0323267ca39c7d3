//! What is damaged is named; what is torn is cut off.

use super::super::segment;
use super::*;

const FIRST: &str = "00000000000000000001.seg";

/// A log of five entries in a frame each, as a killed process leaves it: with an end that nothing stands behind.
async fn five() -> (TestDisk, Log) {
    let disk = TestDisk::default();
    let log = open(&disk).unwrap();
    for index in 0..5 {
        append(&log, entries(1, index..index + 1)).await;
    }
    (disk.cut(disk::Left::All), log)
}

/// Where the payload of entry `index` stands.
fn payload(bytes: &[u8], index: u64) -> usize {
    bytes.windows(100).position(|window| window == [filler(index); 100]).unwrap()
}

fn damage(disk: &TestDisk) -> String {
    let error = open(disk).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn damage_is_found_at_the_start_and_named() {
    for index in 0..5 {
        let (disk, _log) = five().await;
        let flip = |bytes: &mut Vec<u8>| {
            let place = payload(bytes, index);
            bytes[place] ^= 1;
        };
        disk.spoil(FIRST, flip);
        let error = damage(&disk);
        let frame = format!("checksum of frame {}", index + 1);
        assert!(error.contains(&frame) && error.contains(FIRST), "{error}");
        disk.spoil(FIRST, |bytes| {
            let place = bytes.windows(99).position(|window| window == [filler(index); 99]).unwrap() - 1;
            bytes[place] ^= 1;
        });
        assert_eq!(indexes(&open(&disk).unwrap()), [0, 1, 2, 3, 4]);
    }
}

/// Every byte of the log matters, except for what no frame needs.
#[tokio::test]
async fn no_damaged_byte_loses_an_entry() {
    let (disk, _log) = five().await;
    let mut end = 0;
    disk.spoil(FIRST, |bytes| end = bytes.iter().rposition(|byte| *byte != 0).unwrap());
    for place in (0..44).chain(segment::BEGIN..=end) {
        let copy = disk.cut(disk::Left::All);
        copy.spoil(FIRST, |bytes| bytes[place] ^= 0x40);
        match open(&copy) {
            Ok(log) => assert_eq!(indexes(&log), [0, 1, 2, 3, 4], "byte {place}"),
            Err(error) => assert!(matches!(error, LogError::Damaged { .. }), "byte {place}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn a_torn_end_is_cut_off() {
    let (disk, _log) = five().await;
    let mut whole = Vec::new();
    disk.spoil(FIRST, |bytes| whole = bytes.clone());
    let last = payload(&whole, 4);
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let begin = (segment::BEGIN..last).rev().find(|place| whole[place + 24..].starts_with(b"fram")).unwrap();
    // The fill behind the end mark may go.
    for cut in begin..=end {
        let copy = disk.cut(disk::Left::All);
        copy.spoil(FIRST, |bytes| bytes[cut..].fill(0));
        let log = open(&copy).unwrap_or_else(|error| panic!("cut at {}: {error}", cut - begin));
        let found = indexes(&log);
        assert!(
            found == [0, 1, 2, 3] || (found == [0, 1, 2, 3, 4] && whole[cut..=end].iter().all(|byte| *byte == 0xff))
        );
        let next = found.len() as u64;
        append(&log, entries(2, next..6)).await;
        drop(log);
        assert_eq!(indexes(&open(&copy).unwrap()), [0, 1, 2, 3, 4, 5]);
    }
    // Followed by anything, it is no torn end.
    let copy = disk.cut(disk::Left::All);
    copy.spoil(FIRST, |bytes| {
        bytes[last..=end].fill(0);
        bytes[end + 512] = 1;
    });
    damage(&copy);
    // A frame in the middle.
    let copy = disk.cut(disk::Left::All);
    copy.spoil(FIRST, |bytes| bytes[segment::BEGIN..begin].fill(0));
    assert!(damage(&copy).contains("frame 5 stands behind"));
}

#[tokio::test]
async fn a_missing_segment_is_found_at_the_start() {
    let disk = TestDisk::default();
    let log = open(&disk).unwrap();
    for index in 0..300 {
        append(&log, entries(1, index..index + 1)).await;
    }
    drop(log);
    let names = disk.names();
    assert!(names.len() > 4, "{names:?}");
    for (lost, told) in [(0, "are missing; segments in front"), (2, "segment 3 is missing")] {
        let copy = disk.cut(disk::Left::All);
        copy.lose(&names[lost]);
        let error = damage(&copy);
        assert!(error.contains(told), "{error}");
    }
    let copy = disk.cut(disk::Left::All);
    names[..names.len() - 1].iter().for_each(|name| copy.lose(name));
    let error = damage(&copy);
    assert!(error.contains("its vote is in none"), "{error}");
    // What is torn in a segment that has a later one in use was synced.
    let copy = disk.cut(disk::Left::All);
    copy.spoil(&names[1], |bytes| {
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes[end - 40..].fill(0);
    });
    let error = damage(&copy);
    assert!(error.contains("a later segment is in use"), "{error}");
    // So was what is missing at the end of one.
    let copy = disk.cut(disk::Left::All);
    copy.spoil(&names[1], |bytes| {
        let last = (segment::BEGIN..bytes.len() - 32).rev().find(|place| bytes[place + 24..].starts_with(b"fram"));
        bytes[last.unwrap()..].fill(0);
    });
    let error = damage(&copy);
    assert!(error.contains("must stand"), "{error}");
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let (disk, _log) = five().await;
    disk.spoil(FIRST, |bytes| {
        bytes[8] = 3;
        let crc = crc32fast::hash(&bytes[..40]).to_le_bytes();
        bytes[40..44].copy_from_slice(&crc);
    });
    let error = open(&disk).unwrap_err();
    assert!(matches!(error, LogError::Newer { .. }), "{error:?}");
    assert!(error.to_string().contains("written by a newer release: its format is 3"), "{error}");
}

/// What the running log reads from the disk is checked too.
#[tokio::test]
async fn damage_is_found_by_a_read() {
    let disk = TestDisk::default();
    let log = open(&disk).unwrap();
    append(&log, entries(1, 0..3)).await;
    append(&log, vec![entry(1, 3, 5 * 1024 * 1024)]).await;
    append(&log, entries(1, 4..5)).await;
    disk.spoil(FIRST, |bytes| {
        let place = payload(bytes, 1);
        bytes[place] ^= 1;
    });
    let error = log.read(0, 2, usize::MAX).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error:?}");
}
