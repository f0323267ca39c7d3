//! The way from the app sockets to whichever session stands: waits for one, and repeats what a lost one left open.
//!
//! A repeat carries the same request id, so the cluster applies it once. That is what makes a failover invisible to a
//! task: its call takes longer. It never holds a queue: a call waits in its own task, and all calls have a deadline.

use crate::cluster::Cluster;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use longshore_transport::{Backoff, Session};
use longshore_wire::edge::{TaskKv, ToControl};
use longshore_wire::kv::KvReply;
use longshore_wire::{Code, Failure, Outcome, decode, encode};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// How long a call waits for a session before it gives up.
const SESSION_WAIT: Duration = Duration::from_secs(10);
/// How long a call may take with all its repeats.
const DEADLINE: Duration = Duration::from_secs(30);
/// Pauses between repeats.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The session in use, if any.
#[derive(Clone)]
pub(crate) struct Uplink {
    session: watch::Receiver<Option<Session>>,
    session_wait: Duration,
    deadline: Duration,
}

impl Uplink {
    /// Follows the link loop's session.
    pub(crate) const fn new(session: watch::Receiver<Option<Session>>) -> Self {
        Self { session, session_wait: SESSION_WAIT, deadline: DEADLINE }
    }

    #[cfg(test)]
    pub(crate) const fn patience(mut self, session_wait: Duration, deadline: Duration) -> Self {
        (self.session_wait, self.deadline) = (session_wait, deadline);
        self
    }

    async fn call(&self, request: TaskKv) -> Result<KvReply, Failure> {
        let body = encode(&ToControl::Kv(request));
        let deadline = Instant::now() + self.deadline;
        let mut pause = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut open = false;
        loop {
            let failure = match self.attempt(body.clone(), deadline).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            open |= failure.outcome == Outcome::Unknown;
            let next = Instant::now() + pause.next();
            if !is_passing(failure.code) || next >= deadline {
                // Once one attempt may have reached the cluster, a later `not done` says nothing about that one.
                let vague = is_passing(failure.code) || failure.code == Code::NotConnected;
                let outcome = if open && vague { Outcome::Unknown } else { failure.outcome };
                return Err(Failure { outcome, ..failure });
            }
            tracing::debug!(code = %failure.code, message = failure.message, "a KV operation is repeated");
            tokio::time::sleep_until(next).await;
        }
    }

    async fn attempt(&self, body: Vec<u8>, deadline: Instant) -> Result<KvReply, Failure> {
        let session = self.session(deadline).await?;
        let rest = deadline.saturating_duration_since(Instant::now());
        let reply = session.request(body, rest).await?;
        decode(&reply).map_err(|error| Failure::unknown(Code::Internal, format!("the owner's answer: {error}")))
    }

    /// The session, waited for within bounds. Being without one for that long ends the call.
    async fn session(&self, deadline: Instant) -> Result<Session, Failure> {
        let until = deadline.min(Instant::now() + self.session_wait);
        let mut session = self.session.clone();
        let live = |session: &Option<Session>| session.as_ref().is_some_and(|session| !session.is_closed());
        match timeout_at(until, session.wait_for(live)).await {
            Ok(Ok(found)) => Ok(found.clone().expect("waited for one that is there")),
            Ok(Err(_)) => Err(Failure::new(Code::NotConnected, "this worker is shutting down")),
            Err(_) => {
                let text =
                    format!("no connection to the cluster for {} s; try again later", self.session_wait.as_secs());
                Err(Failure::new(Code::NotConnected, text))
            }
        }
    }
}

/// Whether the failure lies in the connection or the cluster's present state, and may pass.
const fn is_passing(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::NotOwner | Code::StaleEpoch | Code::NoQuorum | Code::Busy | Code::Timeout)
}

impl Cluster for Uplink {
    fn kv(&self, request: TaskKv) -> BoxFuture<'_, Result<KvReply, Failure>> {
        self.call(request).boxed()
    }

    fn is_connected(&self) -> bool {
        self.session.borrow().as_ref().is_some_and(|session| !session.is_closed())
    }
}
