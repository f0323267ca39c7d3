//! How much bulk may be under way on a link, so that a control frame never waits long behind it, whatever queue stands
//! between: the line's, the kernel's, a proxy's, TLS's or a WebSocket's.
//!
//! Pings run along with the bulk. What such a ping's answer takes is what a control frame would have waited; that it comes
//! says that all bulk before it has arrived. From both follows the window: what the path delivers within its own round trip
//! and [`QUEUE`]. On a fast path that is more than anything else allows, and this is no limit.
//!
//! It never does IO and has no clock: the writer asks and tells, the reader tells.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// What may wait in queues on the way, as time.
const QUEUE: Duration = Duration::from_millis(10);
/// Least bulk under way, in bytes.
const LEAST: u64 = 32 * 1024;
/// Bulk under way at first.
const FIRST: u64 = 128 * 1024;
/// Most bulk under way: what all streams of a session may have.
const MOST: u64 = 64 * 1024 * 1024;
/// Pings in a window.
const PINGS: u64 = 16;
/// Bulk of less than this waits until there is room for more; and so much lies at least between two pings.
const FRAME: u64 = 4 * 1024;
/// Below this window bulk must not be gathered on the way.
const NARROW: u64 = 512 * 1024;
/// In the payload of these pings; those of the watchdog are nanoseconds and never so large.
const MARK: u64 = 1 << 63;
/// The shortest round trip counts for one to two of these. Then it is measured anew, with less under way for a moment.
const PERIOD: Duration = Duration::from_secs(10);
/// After so many rounds in which less bulk did not make the way shorter, the way is longer than it was.
const PATIENCE: u32 = 3;

/// A ping under way.
#[derive(Debug, Clone, Copy)]
struct Probe {
    stamp: u64,
    at: Instant,
    /// Bulk written before it, since the beginning.
    before: u64,
    /// Bulk that was under way when it was written.
    flight: u64,
    /// Whether the window was what held the bulk back.
    limited: bool,
}

/// A moment with less under way: until some bulk has arrived that was sent in it. Then it grows again with what arrives, so
/// that no queue forms.
#[derive(Debug, Clone, Copy)]
struct Lull {
    until: u64,
    limit: u64,
}

/// The bulk of one link.
#[derive(Debug)]
pub(super) struct Flow {
    window: u64,
    /// Bulk written since the beginning, and of that what has arrived.
    written: u64,
    arrived: u64,
    probes: VecDeque<Probe>,
    stamp: u64,
    /// Bulk written when the last ping was.
    pinged: u64,
    limited: bool,
    /// The window doubles with each round trip.
    doubling: bool,
    /// The shortest round trips of this period and of the one before, and when this one began.
    shortest: [Option<Duration>; 2],
    since: Option<Instant>,
    /// Less is under way for a moment, so that the path's own round trip shows.
    lull: Option<Lull>,
    /// Rounds in a row that took too long, and in which nothing stood in a queue.
    late: u32,
    empty: u32,
    round: Round,
}

/// What is sent within one round trip.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// It is over when so much has arrived.
    until: u64,
    /// The shortest round trip so far.
    least: Duration,
    /// The window when it began: it at most doubles.
    window: u64,
}

impl Flow {
    pub(super) fn new() -> Self {
        Self {
            window: FIRST,
            written: 0,
            arrived: 0,
            probes: VecDeque::new(),
            stamp: 0,
            pinged: 0,
            limited: false,
            doubling: true,
            shortest: [None; 2],
            since: None,
            lull: None,
            late: 0,
            empty: 0,
            round: Round { until: 0, least: Duration::MAX, window: FIRST },
        }
    }

    fn limit(&self) -> u64 {
        self.lull.map_or(self.window, |lull| lull.limit.clamp(LEAST, self.window))
    }

    fn left(&self) -> u64 {
        self.limit().saturating_sub(self.written - self.arrived)
    }

    /// Bytes of bulk that may be written now: none, or enough to be worth a frame. None only while an answer is under way.
    pub(super) fn room(&self) -> usize {
        let left = match self.left() {
            left if self.probes.is_empty() => left.max(LEAST),
            left if left < FRAME => 0,
            left => left,
        };
        usize::try_from(left.min((self.limit() / PINGS).max(FRAME))).unwrap_or(usize::MAX)
    }

    /// Whether what is written should leave at once, instead of being gathered on the way.
    pub(super) fn is_narrow(&self) -> bool {
        self.window < NARROW
    }

    /// Bulk is written now; says which ping to write behind it.
    pub(super) fn wrote(&mut self, bytes: usize, now: Instant) -> Option<u64> {
        self.written += bytes as u64;
        let full = self.left() < FRAME;
        self.limited |= full;
        let apart = (self.limit() / PINGS).max(FRAME);
        if self.written - self.pinged < apart && !(full && self.probes.is_empty()) {
            return None;
        }
        self.stamp += 1;
        self.pinged = self.written;
        let flight = self.written - self.arrived;
        let limited = std::mem::take(&mut self.limited);
        let stamp = MARK | self.stamp;
        self.probes.push_back(Probe { stamp, at: now, before: self.written, flight, limited });
        Some(stamp)
    }

    /// Whether a ping's payload is one of these; the watchdog's are not.
    pub(super) fn is_mark(stamp: u64) -> bool {
        stamp & MARK != 0
    }

    /// A ping was answered. Those of others are none of ours.
    pub(super) fn answered(&mut self, stamp: u64, now: Instant) {
        let Some(at) = self.probes.iter().position(|probe| probe.stamp == stamp) else { return };
        let Some(probe) = self.probes.drain(..=at).next_back() else { return };
        let count = probe.before - std::mem::replace(&mut self.arrived, probe.before);
        let rtt = now.saturating_duration_since(probe.at).max(Duration::from_nanos(1));
        let own = self.remember(rtt, now);
        self.learn(&probe, rtt, own);
        if let Some(lull) = &mut self.lull
            && probe.before >= lull.until
        {
            lull.limit += count / 2;
            self.lull = self.lull.filter(|lull| lull.limit < self.window);
        }
    }

    /// The path's own round trip, with this one in mind.
    fn remember(&mut self, rtt: Duration, now: Instant) -> Duration {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= PERIOD {
            self.since = Some(now);
            let own = self.own().unwrap_or(rtt);
            // Three quarters of what the path itself holds: the queue empties.
            let limit = scaled(self.window, own * 3 / 4, own + queue(own));
            self.lull = Some(Lull { until: self.written + 1, limit });
            self.empty = 0;
            self.shortest = [None, self.shortest[0]];
        }
        self.shortest[0] = Some(self.shortest[0].map_or(rtt, |least| least.min(rtt)));
        self.own().unwrap_or(rtt)
    }

    fn own(&self) -> Option<Duration> {
        self.shortest.into_iter().flatten().min()
    }

    /// Grows with every answer, shrinks once a round: bulk that leaves in bursts waits for itself, which passes; what waits
    /// for all of a round stands in a queue.
    fn learn(&mut self, probe: &Probe, rtt: Duration, own: Duration) {
        let queue = queue(own);
        let wanted = own + queue;
        self.round.least = self.round.least.min(rtt);
        let standing = self.round.least;
        if standing <= wanted && self.lull.is_none() {
            let tried = match probe.limited {
                true if self.doubling => 4 * self.window,
                true if self.empty > PATIENCE => self.window + self.window / 2,
                _ => 0,
            };
            // What the path has shown to deliver in the wanted time.
            let more = scaled(probe.flight, wanted, rtt).max(tried).min(2 * self.round.window);
            self.window += more.saturating_sub(self.window) / PINGS;
        }
        if probe.before >= self.round.until {
            if standing > wanted {
                self.window = self.window.min(scaled(probe.flight, wanted, standing));
            }
            self.doubling &= standing <= own + queue / 2;
            self.judge(standing > wanted + queue, standing);
            let empty = standing <= own + queue / 4 && self.lull.is_none();
            self.empty = if empty { self.empty + 1 } else { 0 };
            self.round = Round { until: self.written, least: Duration::MAX, window: self.window };
        }
        self.window = self.window.clamp(LEAST, MOST);
    }

    /// Sees whether less bulk made the way shorter; if not, the path itself has become longer.
    fn judge(&mut self, late: bool, standing: Duration) {
        self.late = if late { self.late + 1 } else { 0 };
        if self.late > PATIENCE {
            self.shortest = [Some(standing), None];
            self.doubling = true;
            self.late = 0;
        }
    }
}

/// What may wait in queues on a path with this round trip of its own.
fn queue(own: Duration) -> Duration {
    QUEUE.max(own / 8)
}

/// `bytes` × `time` ÷ `of`.
fn scaled(bytes: u64, time: Duration, of: Duration) -> u64 {
    u64::try_from(u128::from(bytes) * time.as_nanos() / of.as_nanos().max(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
