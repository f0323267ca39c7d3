//! The log beside its floor, a bare write and sync, and beside the first format:
//! `cargo test --release -p longshore-control --lib log_beside_its_floor -- --ignored --nocapture`.

use super::*;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;
const TIME: Duration = Duration::from_millis(250);
const SIZE: usize = 256;

/// How often per second this is done.
async fn rate(mut once: impl AsyncFnMut(u64)) -> f64 {
    let begun = Instant::now();
    let mut done = 0;
    while begun.elapsed() < TIME {
        once(done).await;
        done += 1;
    }
    f64::from(u32::try_from(done).unwrap()) / begun.elapsed().as_secs_f64()
}

/// Commits per second of a growing file, a file of zeros, redb, and the log.
async fn round(batch: u64) -> [f64; 4] {
    let folder = tempfile::tempdir_in(".").unwrap();
    let bytes = vec![7; SIZE * usize::try_from(batch).unwrap()];
    let mut growing = File::create(folder.path().join("growing")).unwrap();
    let zeroed = File::create(folder.path().join("zeroed")).unwrap();
    let length = 256 * 1024 * 1024;
    for offset in (0..length).step_by(1024 * 1024) {
        zeroed.write_all_at(&vec![0; 1024 * 1024], offset).unwrap();
    }
    zeroed.sync_all().unwrap();
    let database = redb::Database::create(folder.path().join("redb")).unwrap();
    let log = Log::open(&folder.path().join("log")).unwrap();
    let made =
        |number: u64| (number * batch..(number + 1) * batch).map(|index| entry(1, index, SIZE)).collect::<Vec<_>>();
    [
        rate(async |_| {
            growing.write_all(&bytes).unwrap();
            growing.sync_data().unwrap();
        })
        .await,
        rate(async |number| {
            zeroed.write_all_at(&bytes, number * bytes.len() as u64 % (length - bytes.len() as u64)).unwrap();
            zeroed.sync_data().unwrap();
        })
        .await,
        rate(async |number| first_format::write(&database, &made(number), &[])).await,
        rate(async |number| append(&log, made(number)).await).await,
    ]
}

#[tokio::test]
#[ignore = "a benchmark"]
async fn log_beside_its_floor() {
    for batch in [1, 16, 256] {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(round(batch).await);
        }
        let median = |of: &dyn Fn(&[f64; 4]) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[ROUNDS / 2]
        };
        println!(
            "{batch} entries of {SIZE} bytes: {:.0} syncs/s of a growing file; to that: a file of zeros {:.2}, redb {:.2}, the log {:.2}; \
             the log to the file of zeros {:.2}",
            median(&|round| round[0]),
            median(&|round| round[1] / round[0]),
            median(&|round| round[2] / round[0]),
            median(&|round| round[3] / round[0]),
            median(&|round| round[3] / round[1]),
        );
    }
}
