//! How much goes through the sessions that share a counter.

use longshore_wire::frame::{HEADER, Kind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes of frames since the counter was made: the bulk of streams, and everything else with the heads of all frames.
/// Shared by all sessions that were started with clones of the same options.
#[derive(Debug, Default)]
pub struct Traffic {
    received: Pair,
    sent: Pair,
}

/// Bytes of one direction.
#[derive(Debug, Default)]
struct Pair {
    control: AtomicU64,
    bulk: AtomicU64,
}

/// Bytes of some frames of one direction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bytes {
    pub(super) control: u64,
    pub(super) bulk: u64,
}

impl Bytes {
    /// Counts a frame with so much payload.
    pub(super) const fn count(&mut self, kind: Kind, payload: usize) {
        self.control += HEADER as u64;
        match kind {
            Kind::Data => self.bulk += payload as u64,
            _ => self.control += payload as u64,
        }
    }
}

impl Pair {
    fn add(&self, bytes: Bytes) {
        for (counter, more) in [(&self.control, bytes.control), (&self.bulk, bytes.bulk)] {
            if more > 0 {
                counter.fetch_add(more, Relaxed);
            }
        }
    }
}

impl Traffic {
    pub(super) fn received(&self, bytes: Bytes) {
        self.received.add(bytes);
    }

    pub(super) fn sent(&self, bytes: Bytes) {
        self.sent.add(bytes);
    }

    /// All counts: direction (`received` or `sent`), what it was (`bulk` of streams or `control`, everything else), bytes.
    pub fn counts(&self) -> [(&'static str, &'static str, u64); 4] {
        let bytes = |counter: &AtomicU64| counter.load(Relaxed);
        [
            ("received", "control", bytes(&self.received.control)),
            ("received", "bulk", bytes(&self.received.bulk)),
            ("sent", "control", bytes(&self.sent.control)),
            ("sent", "bulk", bytes(&self.sent.bulk)),
        ]
    }
}
