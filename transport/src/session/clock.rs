//! When things happened on a session, on the monotonic clock: last bytes in, last bytes out, round trips.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// Weight of a new round trip in the average, as TCP's (RFC 6298): one in eight.
const SMOOTHING: u64 = 8;

/// Times in nanoseconds since the start.
#[derive(Debug)]
pub(super) struct Clock {
    start: Instant,
    heard: AtomicU64,
    wrote: AtomicU64,
    /// Stamp of the ping that waits for its pong; 0 for none.
    pinged: AtomicU64,
    /// Smoothed; 0 before the first pong.
    rtt: AtomicU64,
    /// The shortest round trip; `u64::MAX` before the first pong.
    shortest: AtomicU64,
}

impl Clock {
    pub(super) fn new() -> Self {
        let (heard, wrote, pinged, rtt) = Default::default();
        Self { start: Instant::now(), heard, wrote, pinged, rtt, shortest: AtomicU64::new(u64::MAX) }
    }

    fn stamp(&self, at: Instant) -> u64 {
        u64::try_from((at - self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    fn now(&self) -> u64 {
        self.stamp(Instant::now())
    }

    fn since(&self, stamp: &AtomicU64) -> Duration {
        Duration::from_nanos(self.now().saturating_sub(stamp.load(Relaxed)))
    }

    /// Bytes have arrived; says when.
    pub(super) fn heard(&self) -> Instant {
        let now = Instant::now();
        self.heard.store(self.stamp(now), Relaxed);
        now
    }

    /// Bytes have left, or the first ones begin to wait.
    pub(super) fn wrote(&self) {
        self.wrote.store(self.now(), Relaxed);
    }

    /// Time since bytes last arrived.
    pub(super) fn silent_for(&self) -> Duration {
        self.since(&self.heard)
    }

    /// Time since bytes last left; tells nothing while none wait.
    pub(super) fn unwritten_for(&self) -> Duration {
        self.since(&self.wrote)
    }

    /// Age of the ping that is not yet answered.
    pub(super) fn ping_age(&self) -> Option<Duration> {
        (self.pinged.load(Relaxed) != 0).then(|| self.since(&self.pinged))
    }

    /// The payload of a new ping.
    pub(super) fn ping(&self) -> [u8; 8] {
        let stamp = self.now().max(1);
        self.pinged.store(stamp, Relaxed);
        stamp.to_be_bytes()
    }

    /// A pong has come. One that answers no ping of ours, or an older one, counts for nothing.
    pub(super) fn pong(&self, stamp: u64) {
        if stamp == 0 || self.pinged.compare_exchange(stamp, 0, Relaxed, Relaxed).is_err() {
            return;
        }
        let sample = self.now().saturating_sub(stamp).max(1);
        self.shortest.fetch_min(sample, Relaxed);
        self.rtt.store(smoothed(self.rtt.load(Relaxed), sample), Relaxed);
    }

    /// The shortest round trip so far: that of the path, without what waits in queues.
    pub(super) fn shortest(&self) -> Option<Duration> {
        let nanos = self.shortest.load(Relaxed);
        (nanos != u64::MAX).then(|| Duration::from_nanos(nanos))
    }

    /// Smoothed round-trip time.
    pub(super) fn rtt(&self) -> Option<Duration> {
        let nanos = self.rtt.load(Relaxed);
        (nanos != 0).then(|| Duration::from_nanos(nanos))
    }
}

/// The average with one more round trip; 0 is none yet.
fn smoothed(old: u64, sample: u64) -> u64 {
    match old {
        0 => sample,
        old => (old - old / SMOOTHING + sample / SMOOTHING).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_smoothed() {
        assert_eq!(smoothed(0, 80), 80);
        assert_eq!(smoothed(80, 160), 90);
        assert_eq!(smoothed(1, 1), 1);
    }

    #[test]
    fn only_the_pong_that_is_waited_for_counts() {
        let clock = Clock::new();
        let first = u64::from_be_bytes(clock.ping());
        clock.pong(u64::from_be_bytes([7; 8]));
        clock.pong(0);
        assert_eq!(clock.rtt(), None);
        assert!(clock.ping_age().is_some());
        clock.pong(first);
        let rtt = clock.rtt();
        assert!(rtt.is_some());
        clock.pong(first);
        assert_eq!(clock.rtt(), rtt);
        assert_eq!(clock.ping_age(), None);
    }
}
