//! How long to wait before the next attempt.
//!
//! Pauses double up to a cap; then the actual pause is drawn evenly from zero to that ("full jitter"), so that a thousand
//! workers that lost the same node do not come back in step.

use ring::rand::{SecureRandom, SystemRandom};
use std::time::Duration;

/// First pause at most.
pub const BASE: Duration = Duration::from_millis(200);
/// Longest pause.
pub const CAP: Duration = Duration::from_secs(10);

/// A growing pause.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    attempt: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(BASE, CAP)
    }
}

impl Backoff {
    /// Pauses from at most `base`, doubling up to at most `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, attempt: 0 }
    }

    /// The pause before the next attempt; each one may be longer than the one before.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so an iterator's Option would be noise")]
    pub fn next(&mut self) -> Duration {
        let ceiling = self.ceiling();
        self.attempt = self.attempt.saturating_add(1);
        ceiling.mul_f64(fraction())
    }

    /// Starts again at the shortest pause. Only for a session that was really established, else a peer that accepts and
    /// drops at once is hammered.
    pub const fn reset(&mut self) {
        self.attempt = 0;
    }

    fn ceiling(&self) -> Duration {
        self.base.saturating_mul(2_u32.saturating_pow(self.attempt)).min(self.cap)
    }
}

/// A random number from 0 to 1. Without a source of randomness 1: the longest pause harms nobody.
fn fraction() -> f64 {
    let mut bytes = [0; 4];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_cap_with_full_jitter_and_starts_again() {
        let mut backoff = Backoff::default();
        let ceilings: Vec<_> = (0..8).map(|_| (backoff.ceiling().as_millis(), backoff.next()).0).collect();
        assert_eq!(ceilings, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        let drawn: Vec<_> = (0..200).map(|_| backoff.next()).collect();
        assert!(drawn.iter().all(|pause| *pause <= CAP));
        assert!(drawn.iter().any(|pause| *pause < CAP / 4) && drawn.iter().any(|pause| *pause > CAP * 3 / 4));
        backoff.attempt = u32::MAX;
        assert!(backoff.next() <= CAP);
        backoff.reset();
        assert_eq!(backoff.ceiling(), BASE);
    }
}
