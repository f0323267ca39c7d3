//! What became of the last requests, so that whoever lost the session between request and reply can still learn it.
//!
//! Bound to one start of this worker: it says that a request never came only when it has been here all the time and has
//! forgotten none; from then on it refuses that request, and that it never forgets. Whatever it has forgotten is unknown. A
//! repeat of a request gets the first outcome. Holds at most [`MAX_KEPT`] outcomes, [`MAX_BYTES`] bytes of replies, and
//! [`MAX_DENIED`] requests that are refused.

use bytes::Bytes;
use longshore_wire::relay::{OutcomeAsk, OutcomeReply, RelayResult};
use longshore_wire::{Code, Failure, RequestId};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, PoisonError};

/// Outcomes that are kept: more than can be in flight on one session at its default limits.
const MAX_KEPT: usize = 1024;
/// Bytes of replies that are kept.
const MAX_BYTES: usize = 1024 * 1024;
/// Requests of which it was said that they never came: 16 bytes each. Of more, nothing is said.
const MAX_DENIED: usize = 4096;

/// The outcomes of one start of the worker.
#[derive(Debug)]
pub(crate) struct Outcomes {
    boot: RequestId,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    outcomes: HashMap<RequestId, Result<Bytes, Failure>, Spread>,
    /// Those whose askers were told that they never came.
    denied: HashSet<RequestId>,
    oldest_first: VecDeque<RequestId>,
    bytes: usize,
    /// Whether any outcome had to go.
    forgetful: bool,
}

/// Makes hashers of ids that cost two multiplications: universal hashing by secret odd numbers. Ids come from peers that have
/// proven themselves, and the table is bounded: who guessed the numbers could slow it down, yet never by more than the walk
/// through it.
#[derive(Debug, Clone, Copy)]
struct Spread([u64; 2]);

impl Default for Spread {
    fn default() -> Self {
        let random = RandomState::new();
        Self([random.hash_one(0_u8) | 1, random.hash_one(1_u8) | 1])
    }
}

impl BuildHasher for Spread {
    type Hasher = Product;

    fn build_hasher(&self) -> Product {
        Product { by: self.0, sum: 0 }
    }
}

/// See [`Spread`].
struct Product {
    by: [u64; 2],
    sum: u64,
}

impl Hasher for Product {
    fn finish(&self) -> u64 {
        // A product's upper half is the better one, and a table looks at the lower one, too.
        self.sum ^ self.sum.rotate_left(32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u128(u128::from(*byte));
        }
    }

    fn write_u128(&mut self, number: u128) {
        let low = (number as u64).wrapping_mul(self.by[0]);
        let high = ((number >> 64) as u64).wrapping_mul(self.by[1]);
        self.sum = self.sum.rotate_left(5) ^ low.wrapping_add(high);
    }
}

fn bytes(outcome: &Result<Bytes, Failure>) -> usize {
    match outcome {
        Ok(reply) => reply.len(),
        Err(failure) => failure.message.len(),
    }
}

impl Outcomes {
    pub(crate) fn new(boot: RequestId) -> Self {
        Self { boot, kept: Mutex::default() }
    }

    /// Carries a request out once: what came of it is kept, and a repeat gets it again.
    pub(crate) fn once(&self, id: RequestId, work: impl FnOnce() -> Result<Bytes, Failure>) -> Result<Bytes, Failure> {
        self.settle(id, work, Result::clone)
    }

    /// As [`once`](Self::once); `give` sees the outcome where it is kept, and must not wait.
    pub(crate) fn settle<T>(
        &self,
        id: RequestId,
        work: impl FnOnce() -> Result<Bytes, Failure>,
        give: impl FnOnce(&Result<Bytes, Failure>) -> T,
    ) -> T {
        let mut guard = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut *guard;
        if !kept.denied.is_empty() && kept.denied.contains(&id) {
            return give(&Err(Failure::new(
                Code::Conflict,
                format!("request {id} came after its asker was told that it had not; it is not carried out"),
            )));
        }
        let place = match kept.outcomes.entry(id) {
            Entry::Vacant(place) => place,
            Entry::Occupied(known) => return give(known.get()),
        };
        let outcome = work();
        kept.bytes += bytes(&outcome);
        let given = give(place.insert(outcome));
        kept.oldest_first.push_back(id);
        kept.trim();
        given
    }

    /// What became of a request.
    pub(crate) fn ask(&self, ask: OutcomeAsk) -> OutcomeReply {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.outcomes.get(&ask.id) {
            Some(Ok(reply)) => OutcomeReply::Done { reply: RelayResult::Ok(reply.to_vec()) },
            Some(Err(failure)) => OutcomeReply::Done { reply: RelayResult::Failed(failure.clone()) },
            None if kept.denied.contains(&ask.id) => OutcomeReply::NotDone,
            None if ask.boot == Some(self.boot) && !kept.forgetful && kept.denied.len() < MAX_DENIED => {
                kept.denied.insert(ask.id);
                OutcomeReply::NotDone
            }
            None => OutcomeReply::Unknown,
        }
    }
}

impl Kept {
    fn trim(&mut self) {
        while self.oldest_first.len() > MAX_KEPT || self.bytes > MAX_BYTES {
            let Some(gone) = self.oldest_first.pop_front() else { return };
            self.bytes -= self.outcomes.remove(&gone).map_or(0, |outcome| bytes(&outcome));
            self.forgetful = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_wire::Outcome;

    const BOOT: RequestId = RequestId::from_u128(99);

    fn id(number: usize) -> RequestId {
        RequestId::from_u128(number as u128)
    }

    fn ask(outcomes: &Outcomes, number: usize) -> OutcomeReply {
        outcomes.ask(OutcomeAsk { id: id(number), boot: Some(BOOT) })
    }

    #[test]
    fn a_repeat_gets_the_first_outcome() {
        let outcomes = Outcomes::new(BOOT);
        let refused = Failure::new(Code::NotFound, "no such class");
        assert_eq!(outcomes.once(id(1), || Ok(Bytes::from_static(b"one"))).unwrap(), &b"one"[..]);
        assert_eq!(outcomes.once(id(1), || panic!("carried out twice")).unwrap(), &b"one"[..]);
        assert_eq!(outcomes.once(id(2), || Err(refused.clone())), Err(refused.clone()));
        assert_eq!(ask(&outcomes, 1), OutcomeReply::Done { reply: RelayResult::Ok(b"one".to_vec()) });
        assert_eq!(ask(&outcomes, 2), OutcomeReply::Done { reply: RelayResult::Failed(refused) });
    }

    #[test]
    fn what_never_came_is_refused_from_then_on() {
        let outcomes = Outcomes::new(BOOT);
        assert_eq!(ask(&outcomes, 1), OutcomeReply::NotDone);
        let late = outcomes.once(id(1), || panic!("carried out after all")).unwrap_err();
        assert_eq!((late.code, late.outcome), (Code::Conflict, Outcome::NotDone));
        assert_eq!(ask(&outcomes, 1), OutcomeReply::NotDone);
    }

    #[test]
    fn another_start_knows_nothing() {
        let outcomes = Outcomes::new(BOOT);
        for boot in [None, Some(id(98))] {
            assert_eq!(outcomes.ask(OutcomeAsk { id: id(1), boot }), OutcomeReply::Unknown);
        }
        assert!(outcomes.once(id(1), || Ok(Bytes::new())).is_ok(), "an unknown one is not refused");
    }

    #[test]
    fn memory_is_bounded_and_what_is_forgotten_is_unknown() {
        let outcomes = Outcomes::new(BOOT);
        for number in 0..MAX_KEPT {
            outcomes.once(id(number), || Ok(Bytes::new())).unwrap();
        }
        assert!(matches!(ask(&outcomes, 0), OutcomeReply::Done { .. }));
        outcomes.once(id(5000), || Ok(Bytes::new())).unwrap();
        assert_eq!(ask(&outcomes, 0), OutcomeReply::Unknown);
        assert!(matches!(ask(&outcomes, 1), OutcomeReply::Done { .. }));
        outcomes.once(id(5001), || Ok(vec![0; MAX_BYTES].into())).unwrap();
        outcomes.once(id(5002), || Ok(Bytes::from_static(b"x"))).unwrap();
        assert_eq!(ask(&outcomes, 5001), OutcomeReply::Unknown);
        assert!(matches!(ask(&outcomes, 5002), OutcomeReply::Done { .. }));
    }

    #[test]
    fn what_was_forgotten_is_never_called_not_done() {
        let outcomes = Outcomes::new(BOOT);
        for number in 0..MAX_KEPT * 3 {
            outcomes.once(id(number), || Ok(Bytes::new())).unwrap();
        }
        for number in 0..MAX_KEPT * 2 {
            assert_eq!(ask(&outcomes, number), OutcomeReply::Unknown, "{number} was carried out and forgotten");
        }
        // It cannot be told from one that was forgotten.
        assert_eq!(ask(&outcomes, 900_000), OutcomeReply::Unknown);
        assert!(outcomes.once(id(900_000), || Ok(Bytes::new())).is_ok());
    }

    #[test]
    fn what_was_called_not_done_stays_refused() {
        let outcomes = Outcomes::new(BOOT);
        assert_eq!(ask(&outcomes, 900_000), OutcomeReply::NotDone);
        for number in 0..MAX_KEPT * 2 {
            outcomes.once(id(number), || Ok(Bytes::new())).unwrap();
        }
        assert_eq!(ask(&outcomes, 900_000), OutcomeReply::NotDone);
        assert!(outcomes.once(id(900_000), || panic!("carried out after all")).is_err());
    }

    #[test]
    fn what_can_be_refused_is_bounded() {
        let outcomes = Outcomes::new(BOOT);
        for number in 0..MAX_DENIED {
            assert_eq!(ask(&outcomes, number), OutcomeReply::NotDone);
        }
        assert_eq!(ask(&outcomes, MAX_DENIED), OutcomeReply::Unknown);
        assert!(outcomes.once(id(MAX_DENIED), || Ok(Bytes::new())).is_ok());
    }
}
