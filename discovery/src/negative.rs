//! Remembers for a moment what does not exist, so that a fleet that cannot find its cluster does not hammer DNS.
//!
//! Only absence is remembered, only where the zone says for how long (RFC 2308), never longer than it says and never
//! longer than half a minute: a record that an operator adds counts soon. What exists is asked for anew each time.

use crate::{Absent, Answer, Family, Lookup, LookupError, Naptr, Resolve, Srv};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest that an absence is believed, whatever the zone says.
const MAX_BELIEF: Duration = Duration::from_secs(30);
/// A node asks a handful of questions; this bounds what URIs without end could make it remember.
const MAX_REMEMBERED: usize = 1024;

/// Type and name of a question.
type Question = (&'static str, String);

/// What time it is.
type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// A resolver that does not ask twice for what was absent a moment ago.
pub(crate) struct Patient {
    inner: Arc<dyn Resolve>,
    clock: Clock,
    absent: Mutex<HashMap<Question, (Absent, Instant)>>,
}

impl Patient {
    pub(crate) fn new(inner: Arc<dyn Resolve>) -> Self {
        Self::with_clock(inner, Arc::new(Instant::now))
    }

    fn with_clock(inner: Arc<dyn Resolve>, clock: Clock) -> Self {
        Self { inner, clock, absent: Mutex::default() }
    }

    fn known(&self, question: &Question) -> Option<(Absent, Duration)> {
        // A poisoned lock still holds whole entries: nothing panics between two of its writes.
        let absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        let (why, until) = *absent.get(question)?;
        let rest = until.saturating_duration_since((self.clock)());
        (!rest.is_zero()).then_some((why, rest))
    }

    fn remember(&self, question: Question, why: Absent, ttl: Duration) {
        let now = (self.clock)();
        let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        if absent.len() >= MAX_REMEMBERED {
            absent.retain(|_, (_, until)| *until > now);
        }
        if absent.len() < MAX_REMEMBERED {
            absent.insert(question, (why, now + ttl.min(MAX_BELIEF)));
        }
    }

    async fn ask<T>(&self, question: Question, asked: Lookup<'_, T>) -> Result<Answer<T>, LookupError> {
        if let Some((why, rest)) = self.known(&question) {
            return Ok(Answer::none(why, Some(rest)));
        }
        let answer = asked.await?;
        if let (Some(why), Some(ttl)) = (answer.absent, answer.ttl) {
            self.remember(question, why, ttl);
        }
        Ok(answer)
    }
}

impl Resolve for Patient {
    fn naptr<'a>(&'a self, name: &'a str) -> Lookup<'a, Naptr> {
        Box::pin(self.ask(("NAPTR", name.to_owned()), self.inner.naptr(name)))
    }

    fn srv<'a>(&'a self, name: &'a str) -> Lookup<'a, Srv> {
        Box::pin(self.ask(("SRV", name.to_owned()), self.inner.srv(name)))
    }

    fn addresses<'a>(&'a self, name: &'a str, family: Family) -> Lookup<'a, IpAddr> {
        Box::pin(self.ask((family.name(), name.to_owned()), self.inner.addresses(name, family)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::tests::script::Script;

    /// A resolver and a hand on its clock.
    fn patient(script: &Arc<Script>) -> (Patient, impl Fn(u64) + use<>) {
        let start = Instant::now();
        let offset = Arc::new(Mutex::new(Duration::ZERO));
        let clock = Arc::clone(&offset);
        let patient = Patient::with_clock(script.clone(), Arc::new(move || start + *clock.lock().unwrap()));
        (patient, move |seconds| *offset.lock().unwrap() = Duration::from_secs(seconds))
    }

    #[tokio::test]
    async fn absence_is_believed_as_long_as_the_zone_says() {
        let script = Arc::new(Script::default());
        script.absent("SRV", "a.test", Some(5));
        let (patient, at) = patient(&script);
        for (second, asked) in [(0, 1), (4, 1), (5, 2), (9, 2), (10, 3)] {
            at(second);
            let answer = patient.srv("a.test").await.unwrap();
            assert_eq!(answer.absent, Some(Absent::Record));
            assert_eq!(script.asked("SRV", "a.test"), asked, "at {second} s");
            assert!(answer.ttl.unwrap() <= Duration::from_secs(5), "no belief renews itself");
        }
        script.srv("a.test", &[(0, 0, 1, "b.test")]);
        at(15);
        assert_eq!(patient.srv("a.test").await.unwrap().records.len(), 1, "what came meanwhile is found");
        assert_eq!(patient.naptr("a.test").await.unwrap().absent, Some(Absent::Name), "types are held apart");
    }

    #[tokio::test]
    async fn absence_is_never_believed_longer_than_half_a_minute() {
        let script = Arc::new(Script::default());
        script.absent("SRV", "a.test", Some(86_400));
        let (patient, at) = patient(&script);
        for (second, asked) in [(0, 1), (29, 1), (30, 2)] {
            at(second);
            patient.srv("a.test").await.unwrap();
            assert_eq!(script.asked("SRV", "a.test"), asked, "at {second} s");
        }
    }

    #[tokio::test]
    async fn what_exists_fails_or_is_not_dated_is_asked_for_each_time() {
        let script = Arc::new(Script::default());
        script.absent("SRV", "undated.test", None);
        script.srv("there.test", &[(0, 0, 1, "b.test")]);
        script.down("SRV", "down.test");
        let (patient, _) = patient(&script);
        for times in 1..4 {
            for name in ["undated.test", "there.test", "down.test"] {
                let _ = patient.srv(name).await;
                assert_eq!(script.asked("SRV", name), times, "{name}");
            }
        }
    }

    #[tokio::test]
    async fn no_flood_of_names_fills_the_memory() {
        let script = Arc::new(Script::default());
        let (patient, _) = patient(&script);
        for number in 0..2 * MAX_REMEMBERED {
            let name = format!("n{number}.test");
            script.absent("SRV", &name, Some(60));
            patient.srv(&name).await.unwrap();
        }
        assert_eq!(patient.absent.lock().unwrap().len(), MAX_REMEMBERED);
    }
}
