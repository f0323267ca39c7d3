//! The brake: how many writes a second operators and apps may make, all together.
//!
//! An operator sets it for the cluster; each control node that is alive lets its share of it pass, so that nobody has to be
//! asked for every write.

use longshore_state::{Node, State};
use longshore_wire::{Code, Failure};
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

/// Part of a second's writes that may come at once.
const BURST: f64 = 0.25;

#[derive(Debug, Default)]
pub(super) struct Brake(Mutex<Option<Bucket>>);

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Brake {
    /// Lets a write pass, or refuses it.
    ///
    /// # Errors
    /// [`Code::Busy`] when this node's share of the present moment is used up.
    pub(super) fn admit(&self, state: &State) -> Result<(), Failure> {
        let Some(limit) = state.cluster().and_then(|cluster| cluster.kv_brake) else { return Ok(()) };
        let nodes = u32::try_from(state.controls().filter(|node: &&Node| node.alive).count()).unwrap_or(u32::MAX);
        let share = f64::from(limit) / f64::from(nodes.max(1));
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if take(&mut bucket, share, Instant::now()) {
            return Ok(());
        }
        let message = format!(
            "an operator has limited writes to {limit} a second for the whole cluster; try again later, or see `longshore cluster brake`"
        );
        Err(Failure::new(Code::Busy, message))
    }
}

/// Takes one token, if there is one.
fn take(bucket: &mut Option<Bucket>, share: f64, now: Instant) -> bool {
    let most = (share * BURST).max(1.0);
    let before = bucket.unwrap_or(Bucket { tokens: most, at: now });
    let grown = now.saturating_duration_since(before.at).as_secs_f64().mul_add(share, before.tokens);
    let tokens = grown.min(most);
    let passes = tokens >= 1.0;
    *bucket = Some(Bucket { tokens: if passes { tokens - 1.0 } else { tokens }, at: now });
    passes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_share_passes_and_no_more() {
        let start = Instant::now();
        let mut bucket = None;
        let passed =
            (0..10_000_u64).filter(|millis| take(&mut bucket, 50.0, start + Duration::from_millis(*millis))).count();
        assert!((500..=513).contains(&passed), "{passed} in ten seconds at 50 a second, and a burst");
        let mut bucket = None;
        let slow = (0..10_u64).filter(|second| take(&mut bucket, 0.25, start + Duration::from_secs(*second))).count();
        assert_eq!(slow, 3, "at once, after 4 s, after 8 s");
    }
}
