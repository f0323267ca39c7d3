//! Ends leases that nobody keeps alive.
//!
//! The state has no clock: it counts how often a lease was kept alive, and this loop measures since when that count
//! stands. A new leader begins to measure when it begins to lead, so that a lease never ends early; it may end late.

use super::{Lead, Leading};
use longshore_state::{Command, Lease};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Most leases that are ended by one entry.
const AT_ONCE: usize = 256;

pub(super) async fn run(mut lead: Lead, stop: CancellationToken) {
    let mut clocks = Clocks::default();
    while lead.next(&stop).await {
        let look = async {
            match lead.leads().await {
                true => end_due(&lead.leading, &mut clocks).await,
                false => clocks.0.clear(),
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = look => (),
        }
    }
}

async fn end_due(leading: &Leading, clocks: &mut Clocks) {
    let state = leading.group.state();
    let mut due = clocks.due(state.leases().map(|(lease, _)| lease), Instant::now());
    drop(state);
    due.truncate(AT_ONCE);
    if due.is_empty() {
        return;
    }
    tracing::info!(leases = due.len(), "leases end: nobody has kept them alive");
    let end = |lease: Lease| Command::RevokeLease { lease: lease.id, renewals: Some(lease.renewals) };
    // A refusal is a lease that was kept alive after all, or has ended already.
    if let Err(failure) = leading.group.propose(due.into_iter().map(end).collect()).await {
        tracing::warn!(%failure, "the end of leases was not committed; it is tried again");
    }
}

/// Since when each lease has been kept alive no more: the count of renewals, and when it was first seen.
#[derive(Debug, Default)]
struct Clocks(HashMap<u64, (u64, Instant)>);

impl Clocks {
    /// The leases whose time is up, the longest first.
    fn due(&mut self, leases: impl Iterator<Item = Lease>, now: Instant) -> Vec<Lease> {
        let mut seen = HashMap::with_capacity(self.0.len());
        let mut due = Vec::new();
        for lease in leases {
            let since = match self.0.get(&lease.id) {
                Some((renewals, since)) if *renewals == lease.renewals => *since,
                _ => now,
            };
            seen.insert(lease.id, (lease.renewals, since));
            if now.duration_since(since) >= Duration::from_millis(lease.ttl_ms) {
                due.push((since, lease));
            }
        }
        self.0 = seen;
        due.sort_by_key(|(since, lease)| (*since, lease.id));
        due.into_iter().map(|(_, lease)| lease).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: u64, ttl_ms: u64, renewals: u64) -> Lease {
        Lease { id, ttl_ms, renewals }
    }

    #[test]
    fn a_lease_ends_when_it_was_not_kept_alive_for_its_time() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut clocks = Clocks::default();
        let mut due = |leases: &[Lease], millis| clocks.due(leases.iter().copied(), at(millis));
        assert_eq!(due(&[lease(1, 1000, 0), lease(2, 2000, 0)], 0), []);
        assert_eq!(due(&[lease(1, 1000, 0), lease(2, 2000, 0)], 999), []);
        assert_eq!(due(&[lease(1, 1000, 1), lease(2, 2000, 0)], 1000), [], "kept alive");
        assert_eq!(due(&[lease(1, 1000, 1), lease(2, 2000, 0)], 2000), [lease(2, 2000, 0), lease(1, 1000, 1)]);
        assert_eq!(due(&[lease(2, 2000, 0)], 2100), [lease(2, 2000, 0)], "tried again until it is gone");
        assert_eq!(due(&[], 2200), []);
        assert_eq!(due(&[lease(2, 2000, 0)], 9000), [], "whoever sees it for the first time gives it all of its time");
    }
}
