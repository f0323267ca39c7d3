//! What was answered lately, so that a repeat of a request gets its first outcome.
//!
//! Only `apply` and snapshots look into it, so it is no persistent structure as the rest of the state is: the first change beside
//! a clone copies all of it, a few MiB once for each snapshot. What readers are shown comes without it ([`State::shown`]).
//!
//! [`State::shown`]: crate::State::shown

use crate::command::{Outcome, Reply};
use longshore_wire::RequestId;
use longshore_wire::kv::KvReply;
use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// How many outcomes are remembered for repeats: several seconds of the highest rate of writes, in a few MiB. One
/// that holds much counts as several.
pub const REMEMBERED: usize = 65_536;
/// Bytes of texts and values that an outcome holds without counting as more than one.
const SHARE: usize = 256;

/// The outcomes, by request and by age.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    outcomes: HashMap<RequestId, Kept>,
    order: VecDeque<RequestId>,
    /// What they count, all together.
    shares: usize,
    /// The latest time in a forgotten request's id, in Unix milliseconds: what is later has not been forgotten.
    forgotten_ms: u64,
    /// The latest time in any request's id.
    latest_ms: u64,
    /// Outcomes ever taken in by this copy and those that it was cloned from.
    carried_out: u64,
}

/// An outcome. By far most are those of a write to the store: they need no memory of their own.
#[derive(Clone)]
pub(crate) enum Kept {
    Written { revision: u64, created: bool },
    Other(Arc<Outcome>),
}

impl Kept {
    fn new(outcome: &Outcome) -> Self {
        match outcome {
            Ok(Reply::Kv(KvReply::Written { revision, created })) => {
                Self::Written { revision: *revision, created: *created }
            }
            other => Self::Other(Arc::new(other.clone())),
        }
    }

    pub(crate) fn outcome(&self) -> Cow<'_, Outcome> {
        match self {
            Self::Written { revision, created } => {
                Cow::Owned(Ok(Reply::Kv(KvReply::Written { revision: *revision, created: *created })))
            }
            Self::Other(outcome) => Cow::Borrowed(outcome),
        }
    }

    fn share(&self) -> usize {
        match self {
            Self::Written { .. } => 1,
            Self::Other(outcome) => share(outcome),
        }
    }
}

impl Memory {
    pub(crate) fn get(&self, request: RequestId) -> Option<&Kept> {
        self.outcomes.get(&request)
    }

    pub(crate) fn remember(&mut self, request: RequestId, outcome: &Outcome) {
        let kept = Kept::new(outcome);
        self.latest_ms = self.latest_ms.max(millis_of(request));
        let new = kept.share();
        self.carried_out += new as u64;
        self.shares += new;
        self.outcomes.insert(request, kept);
        self.order.push_back(request);
        while self.shares > REMEMBERED {
            let Some(oldest) = self.order.pop_front() else { break };
            self.forgotten_ms = self.forgotten_ms.max(millis_of(oldest));
            self.shares -= self.outcomes.remove(&oldest).map_or(0, |outcome| outcome.share());
        }
    }

    /// Whether an outcome of this request may have been here once.
    pub(crate) fn may_have_forgotten(&self, request: RequestId) -> bool {
        millis_of(request) <= self.forgotten_ms
    }

    pub(crate) fn forgotten_ms(&self) -> u64 {
        self.forgotten_ms
    }

    /// What lies so far back is forgotten.
    pub(crate) fn begin(&mut self, forgotten_ms: u64) {
        self.forgotten_ms = forgotten_ms;
    }

    pub(crate) fn carried_out(&self) -> u64 {
        self.carried_out
    }

    /// The outcomes, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RequestId, Cow<'_, Outcome>)> {
        self.order.iter().filter_map(|request| Some((*request, self.outcomes.get(request)?.outcome())))
    }

    /// As it is once everything in it is forgotten.
    pub(crate) fn forgetful(&self) -> Self {
        let forgotten_ms = self.forgotten_ms.max(self.latest_ms);
        Self { forgotten_ms, latest_ms: self.latest_ms, carried_out: self.carried_out, ..Self::default() }
    }
}

/// How many of [`REMEMBERED`] an outcome counts.
fn share(outcome: &Outcome) -> usize {
    let held = match outcome {
        Err(failure) => failure.message.len(),
        Ok(Reply::Txn(reply)) => {
            let answers = reply.results.len() * size_of::<KvReply>();
            answers + reply.unmet.as_ref().map_or(0, String::len) + read_bytes(outcome)
        }
        Ok(_) => 0,
    };
    1 + held / SHARE
}

/// Bytes of keys and values that were read for an outcome.
pub(crate) fn read_bytes(outcome: &Outcome) -> usize {
    let Ok(Reply::Txn(reply)) = outcome else { return 0 };
    let entries = reply.results.iter().filter_map(|result| match result {
        KvReply::Entry(Some(entry)) => Some(entry.key.len() + entry.value.len()),
        _ => None,
    });
    entries.sum()
}

/// The time in a ULID, in Unix milliseconds.
fn millis_of(request: RequestId) -> u64 {
    u64::try_from(request.as_u128() >> 80).unwrap_or(u64::MAX)
}

#[cfg(test)]
impl Memory {
    /// How many outcomes there are.
    pub(crate) fn len(&self) -> usize {
        assert!(self.shares <= REMEMBERED && self.order.len() == self.outcomes.len());
        self.outcomes.len()
    }
}
