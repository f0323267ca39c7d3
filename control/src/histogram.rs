//! Durations counted by length, for `/metrics`. Knows nothing of what it counts.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper ends of the buckets, in microseconds: half a millisecond to eight seconds, each twice the one before.
const ENDS: [u64; 15] = {
    let mut ends = [500; 15];
    let mut place = 1;
    while place < ends.len() {
        ends[place] = ends[place - 1] * 2;
        place += 1;
    }
    ends
};

/// A histogram with fixed buckets.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// One more than the ends: what is longer than all of them.
    buckets: [AtomicU64; ENDS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    /// Counts one.
    pub(crate) fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = ENDS.partition_point(|end| *end < micros);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        self.micros.fetch_add(micros, Relaxed);
    }

    /// Writes it in Prometheus' text format.
    pub(crate) fn write(&self, name: &str, help: &str, text: &mut String) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut count = 0;
        for (place, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Relaxed);
            let end = ENDS.get(place).map_or_else(|| "+Inf".to_owned(), |end| seconds(*end).to_string());
            let _ = writeln!(text, "{name}_bucket{{le=\"{end}\"}} {count}");
        }
        let _ = writeln!(text, "{name}_sum {}\n{name}_count {count}", seconds(self.micros.load(Relaxed)));
    }
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up() {
        let histogram = Histogram::default();
        for millis in [0, 1, 1, 3, 60_000] {
            histogram.add(Duration::from_millis(millis));
        }
        let mut text = String::new();
        histogram.write("x_seconds", "X.", &mut text);
        for line in [
            "# TYPE x_seconds histogram",
            "x_seconds_bucket{le=\"0.0005\"} 1",
            "x_seconds_bucket{le=\"0.001\"} 3",
            "x_seconds_bucket{le=\"0.004\"} 4",
            "x_seconds_bucket{le=\"8.192\"} 4",
            "x_seconds_bucket{le=\"+Inf\"} 5",
            "x_seconds_sum 60.005",
            "x_seconds_count 5",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in {text}");
        }
    }
}
