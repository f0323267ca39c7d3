//! Requests of the peer that are in work on this side.
//!
//! Each is answered exactly once, if the peer still waits; dropping one is an answer too.

use super::chunks::SHARE_FROM;
use super::core::{Core, Count, LONG_TEXT, lock, shortened};
use super::ids::IdMap;
use super::input::Payload;
use super::outbox::Cause;
use bytes::Bytes;
use longshore_wire::frame::{Kind, MAX_CONTROL};
use longshore_wire::{Code, Failure, Outcome, encode};
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The peer's requests that are in work.
#[derive(Default)]
pub(super) struct Served {
    table: Mutex<IdMap<State>>,
    count: Count,
}

/// What has been asked about a request in work.
#[derive(Default)]
enum State {
    #[default]
    Wanted,
    Watched(CancellationToken),
    /// Another session's peer works on it.
    Passed(Passed),
    Cancelled,
}

/// Who works on a request that was passed on.
struct Passed {
    to: Arc<Core>,
    call: u32,
    watcher: Option<CancellationToken>,
}

impl State {
    /// Tells whoever works on the request that the peer no longer waits.
    fn cancel(self) {
        match self {
            Self::Wanted | Self::Cancelled => {}
            Self::Watched(token) => token.cancel(),
            Self::Passed(Passed { to, call, watcher }) => {
                to.give_up(call);
                watcher.into_iter().for_each(|token| token.cancel());
            }
        }
    }
}

/// Why a request is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Untaken {
    /// Too many are in work.
    Full,
    /// One with this id is in work.
    Reused,
}

impl Served {
    pub(super) fn count(&self) -> usize {
        self.count.get()
    }

    /// Frees an empty table.
    pub(super) fn rest(&self) {
        let mut table = lock(&self.table);
        if table.is_empty() {
            *table = IdMap::default();
        }
    }

    /// Takes a request in, unless `limit` of them are in work.
    pub(super) fn insert(&self, id: u32, limit: usize) -> Result<(), Untaken> {
        let mut table = lock(&self.table);
        let full = table.len() >= limit;
        match table.entry(id) {
            // Only after 2³¹ requests: the old one was cancelled, yet its handler is still at work.
            Entry::Occupied(old) if matches!(old.get(), State::Cancelled) => return Err(Untaken::Full),
            Entry::Occupied(_) => return Err(Untaken::Reused),
            Entry::Vacant(_) if full => return Err(Untaken::Full),
            Entry::Vacant(place) => place.insert(State::Wanted),
        };
        self.count.set(table.len());
        Ok(())
    }

    /// Takes a request out and says whether the peer still waits for it.
    fn remove(&self, id: u32) -> bool {
        let mut table = lock(&self.table);
        let state = table.remove(&id);
        self.count.set(table.len());
        matches!(state, Some(State::Wanted | State::Watched(_) | State::Passed(_)))
    }

    /// The peer no longer waits.
    pub(super) fn cancel(&self, id: u32) {
        let state = lock(&self.table).get_mut(&id).map(|state| std::mem::replace(state, State::Cancelled));
        if let Some(state) = state {
            state.cancel();
        }
    }

    /// Notes who works on a request now; `false` when the peer no longer waits.
    pub(super) fn pass(&self, id: u32, to: &Arc<Core>, call: u32) -> bool {
        let mut table = lock(&self.table);
        let Some(state) = table.get_mut(&id) else { return false };
        let watcher = match std::mem::take(state) {
            State::Cancelled => {
                *state = State::Cancelled;
                return false;
            }
            State::Watched(token) => Some(token),
            State::Wanted | State::Passed(_) => None,
        };
        *state = State::Passed(Passed { to: Arc::clone(to), call, watcher });
        true
    }

    /// Cancels all.
    pub(super) fn end(&self) {
        let states: Vec<State> =
            lock(&self.table).values_mut().map(|state| std::mem::replace(state, State::Cancelled)).collect();
        for state in states {
            state.cancel();
        }
    }

    /// A token for the request's end.
    fn watch(&self, id: u32) -> CancellationToken {
        let token = CancellationToken::new();
        match lock(&self.table).get_mut(&id) {
            Some(State::Watched(token)) => return token.clone(),
            Some(state @ State::Wanted) => *state = State::Watched(token.clone()),
            Some(State::Passed(passed)) => return passed.watcher.get_or_insert(token).clone(),
            Some(State::Cancelled) | None => token.cancel(),
        }
        token
    }
}

/// A request of the peer. Dropped without a reply, it is answered as failed with an unknown outcome.
pub struct Request {
    /// What it asks.
    pub body: Bytes,
    /// Until when the peer waits, on this side's clock.
    pub deadline: Instant,
    pub(super) answer: Answer,
}

/// The duty to answer.
pub(super) struct Answer {
    pub(super) core: Arc<Core>,
    pub(super) id: u32,
    open: bool,
}

impl Answer {
    /// Answers, if the peer still waits.
    pub(super) fn give(mut self, reply: Result<Bytes, Failure>) {
        self.open = false;
        self.core.answer(self.id, reply);
    }

    /// Answers with another peer's bytes: a large answer's are not copied.
    pub(super) fn relay(mut self, body: Payload<'_>) {
        self.open = false;
        match body {
            Payload::Owned(bytes) => self.core.answer(self.id, Ok(bytes)),
            Payload::Borrowed(bytes) => self.core.relay(self.id, bytes),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let failure =
            Failure::unknown(Code::Internal, "the request was dropped by its handler; its outcome is unknown");
        self.core.answer(self.id, Err(failure));
    }
}

impl Request {
    /// A request that [`Served::insert`] has taken in.
    pub(super) fn new(core: &Arc<Core>, id: u32, body: Bytes, deadline: Instant) -> Self {
        Self { body, deadline, answer: Answer { core: Arc::clone(core), id, open: true } }
    }

    /// Answers. Nothing happens when the peer no longer waits or the session has ended.
    pub fn reply(self, reply: Result<Vec<u8>, Failure>) {
        self.answer.give(reply.map(Bytes::from));
    }

    /// Answers with success, as [`reply`](Self::reply) does.
    pub fn answer(self, body: impl Into<Bytes>) {
        self.answer.give(Ok(body.into()));
    }

    /// Answers with success, as [`answer`](Self::answer) does, with bytes that somebody keeps: a small answer is copied, so
    /// that they need no second owner.
    pub fn answer_kept(self, body: &Bytes) {
        self.answer.relay(match body.len() {
            ..SHARE_FROM => Payload::Borrowed(body),
            _ => Payload::Owned(body.clone()),
        });
    }

    /// A token that is cancelled when the peer no longer waits or the session has ended.
    pub fn cancelled(&self) -> CancellationToken {
        self.answer.core.served.watch(self.answer.id)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("id", &self.answer.id).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

impl Core {
    /// Answers a request of the peer with what another peer has answered, if the peer still waits.
    fn relay(&self, id: u32, body: &[u8]) {
        if !self.served.remove(id) {
            return;
        }
        let idle = {
            let mut outbox = self.outbox();
            if outbox.is_closed() {
                return;
            }
            if outbox.takes_reply(body.len()) {
                outbox.copied(Cause::Reply, Kind::Reply, id, [body]);
            } else {
                drop(outbox);
                let failure = encode(&clogged());
                return self.send(Cause::Reply, Kind::ReplyError, id, failure.into());
            }
            outbox.signal()
        };
        if idle {
            self.kick();
        }
    }

    /// Answers a request of the peer, if the peer still waits.
    fn answer(&self, id: u32, reply: Result<Bytes, Failure>) {
        if !self.served.remove(id) {
            return;
        }
        let length = reply.as_ref().map_or(0, Bytes::len);
        let reply = match reply {
            Ok(body) if body.len() > MAX_CONTROL => {
                let message = format!("the reply has {length} bytes; at most {MAX_CONTROL} can be sent");
                Err(Failure { code: Code::TooLarge, message, outcome: Outcome::Done })
            }
            Ok(_) if !self.outbox().takes_reply(length) => Err(clogged()),
            other => other,
        };
        match reply {
            Ok(body) => self.send(Cause::Reply, Kind::Reply, id, body),
            Err(failure) => {
                self.send(Cause::Reply, Kind::ReplyError, id, encode(&shortened(&failure, LONG_TEXT)).into());
            }
        }
    }
}

/// Too many replies wait.
fn clogged() -> Failure {
    Failure::unknown(Code::Busy, "too many replies wait to be sent; ask again later")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_keeps_no_table() {
        let served = Served::default();
        (0..3).for_each(|id| served.insert(id, 3).unwrap());
        served.rest();
        assert_eq!(served.count(), 3);
        (0..3).for_each(|id| assert!(served.remove(id)));
        served.rest();
        assert_eq!(lock(&served.table).capacity(), 0);
    }
}
