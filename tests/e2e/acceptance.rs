//! The acceptance tests of the control group, one for each thing that it must be able to do: `a1_…`, `a2_…` and so on.
//! They see the built program from outside only: status, keys, events, signals.
//!
//! In the ordinary suite counts are small, and times are [`SLACK`] of what is asked for, since other tests share the
//! processors. `LONGSHORE_FULL=1` runs the full counts against the times themselves, `LONGSHORE_FULL=slow` with the
//! ordinary times, where other work shares the processors; docs/reliability.md holds what came of it.

mod churn;
mod failover;
mod fleet;
mod forwarding;
pub(crate) mod http;
mod joining;
mod memory;
mod parting;
mod pauses;
mod snapshots;
mod strangers;
mod streams;
mod voters;

pub(crate) use fleet::Fleet;

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How much longer everything may take in the ordinary suite.
const SLACK: u32 = 4;

/// What the switch says.
fn switch() -> String {
    std::env::var("LONGSHORE_FULL").unwrap_or_default()
}

/// Whether counts are the full ones.
pub(crate) fn full() -> bool {
    ["1", "slow"].contains(&switch().as_str())
}

/// A count: a small one in the ordinary suite.
pub(crate) fn scaled<T>(small: T, all: T) -> T {
    if full() { all } else { small }
}

/// Waits until `probe` gives a value, and tells how long that took.
///
/// # Panics
/// When it takes longer than [`limit`] of `mark`; the message holds the last complaint.
pub(crate) fn within<T>(mark: Duration, what: impl Display, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let (start, limit) = (Instant::now(), limit(mark));
    loop {
        let complaint = match probe() {
            Ok(value) => {
                println!("{what}: {:.2} s", start.elapsed().as_secs_f64());
                return value;
            }
            Err(complaint) => complaint,
        };
        assert!(start.elapsed() <= limit, "{what}: not within {limit:?}: {complaint}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A time of the pass marks, as it holds in this run.
pub(crate) fn limit(mark: Duration) -> Duration {
    if switch() == "1" { mark } else { mark * SLACK }
}

/// So many seconds.
pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
