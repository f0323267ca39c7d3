//! What to do with an owner's answer, and when to try again. Pure: the time is passed in.

use longshore_transport::Backoff;
use longshore_wire::edge::{Accepted, AttachReply};
use longshore_wire::{ClusterUri, Epoch, NodeId};
use std::time::{Duration, Instant};

/// How often one attempt lets itself be sent on. The ring may change while a worker walks, but not this often.
const MAX_HOPS: u32 = 4;
/// Longest time that the cluster can tell a worker to stay away.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Whoever owns this worker, and where it may be dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) node: NodeId,
    pub(crate) name: String,
    pub(crate) addresses: Vec<ClusterUri>,
}

/// What follows from an answer to an attach.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// This is the owner.
    Drive(Accepted),
    /// Somebody else is.
    Seek(Owner),
    /// Not now; for this reason, and not before this time has passed if one is named.
    Leave(String, Option<Duration>),
}

/// One attempt, which may lead over several nodes.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    hops: u32,
}

impl Walk {
    /// What follows from `reply`, for a worker that has obeyed epochs up to `highest`.
    pub(crate) fn step(&mut self, reply: AttachReply, highest: Epoch) -> Step {
        match reply {
            AttachReply::Accepted(accepted) if accepted.epoch < highest => {
                let text = format!(
                    "{} claims this worker with epoch {}, but epoch {highest} has been obeyed: it was replaced",
                    accepted.owner_name, accepted.epoch
                );
                Step::Leave(text, None)
            }
            AttachReply::Accepted(accepted) => Step::Drive(accepted),
            AttachReply::Elsewhere { owner, name, addresses } if self.hops < MAX_HOPS => {
                self.hops += 1;
                Step::Seek(Owner { node: owner, name, addresses })
            }
            AttachReply::Elsewhere { name, .. } => {
                Step::Leave(format!("sent on {MAX_HOPS} times, last to {name}: the owners do not agree yet"), None)
            }
            AttachReply::Wait { retry_after_ms, reason } => {
                let wait = Duration::from_millis(retry_after_ms).min(LONGEST_WAIT);
                Step::Leave(format!("the cluster asks to wait: {reason}"), Some(wait))
            }
        }
    }
}

/// When to try again.
#[derive(Debug, Clone)]
pub(crate) struct Pauses {
    backoff: Backoff,
}

impl Pauses {
    /// Pauses as `backoff` says.
    pub(crate) const fn new(backoff: Backoff) -> Self {
        Self { backoff }
    }

    /// An owner has driven this worker for a while: the next pause is short again.
    pub(crate) const fn established(&mut self) {
        self.backoff.reset();
    }

    /// When to try again. What the cluster asked for comes first, the jittered pause on top: workers that were all told
    /// the same must not come back in step.
    pub(crate) fn next(&mut self, asked: Option<Duration>, now: Instant) -> Instant {
        now + asked.unwrap_or_default() + self.backoff.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::accepted;

    fn elsewhere() -> AttachReply {
        AttachReply::Elsewhere { owner: NodeId::from_u128(9), name: "c9".into(), addresses: Vec::new() }
    }

    #[test]
    fn a_replaced_owner_is_left() {
        let step = |epoch, highest| Walk::default().step(AttachReply::Accepted(accepted(epoch)), Epoch(highest));
        assert_eq!(step(5, 5), Step::Drive(accepted(5)));
        assert_eq!(step(6, 5), Step::Drive(accepted(6)));
        assert!(matches!(step(4, 5), Step::Leave(text, None) if text.contains("epoch 5")));
    }

    #[test]
    fn being_sent_on_has_an_end() {
        let mut walk = Walk::default();
        for _ in 0..MAX_HOPS {
            assert!(matches!(walk.step(elsewhere(), Epoch(0)), Step::Seek(owner) if owner.name == "c9"));
        }
        assert!(matches!(walk.step(elsewhere(), Epoch(0)), Step::Leave(..)));
    }

    #[test]
    fn a_wait_is_honoured_but_bounded() {
        let wait = |ms| AttachReply::Wait { retry_after_ms: ms, reason: "no leader".into() };
        let step = |ms| match Walk::default().step(wait(ms), Epoch(0)) {
            Step::Leave(_, wait) => wait.unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(step(1500), Duration::from_millis(1500));
        assert_eq!(step(u64::MAX), LONGEST_WAIT);
        let now = Instant::now();
        let mut pauses = Pauses::new(Backoff::new(Duration::from_millis(200), Duration::from_secs(10)));
        let until = pauses.next(Some(Duration::from_secs(3)), now);
        assert!(until >= now + Duration::from_secs(3) && until <= now + Duration::from_millis(3200));
        assert!(pauses.next(None, now) <= now + Duration::from_millis(400));
        pauses.established();
        assert!(pauses.next(None, now) <= now + Duration::from_millis(200));
    }
}
