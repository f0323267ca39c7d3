//! Requests of this side: calls that wait for the peer's answer.
//!
//! A call's outcome is never guessed: it is `NotDone` only when its frame certainly never left, or the peer says so.

use super::core::{Core, Count, lock};
use super::ids::IdMap;
use super::input::Payload;
use super::outbox::{Cause, Outbox};
use super::requests::Answer;
use bytes::Bytes;
use longshore_wire::frame::{Kind, RequestHead};
use longshore_wire::{Code, Failure, Outcome};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// Longest time that a request can wait; what fits into its head.
const LONGEST: Duration = Duration::from_millis(u32::MAX as u64);

/// Calls of this side that wait for an answer.
#[derive(Default)]
pub(super) struct Calls {
    table: Mutex<IdMap<Waiting>>,
    count: Count,
}

/// A call under way.
pub(super) struct Waiting {
    /// The outbox's batch that the frame belongs to.
    pub(super) batch: u64,
    pub(super) asker: Asker,
}

/// Who waits for the answer of a call.
pub(super) enum Asker {
    /// A future on this node, which keeps its own deadline.
    Here(oneshot::Sender<Result<Bytes, Failure>>),
    /// The peer of another session, until this time.
    There(Answer, Instant),
}

impl Asker {
    fn give(self, answer: Result<Bytes, Failure>) {
        match self {
            Self::Here(sender) => drop(sender.send(answer)),
            Self::There(asker, _) => asker.give(answer),
        }
    }
}

impl Calls {
    pub(super) fn count(&self) -> usize {
        self.count.get()
    }

    fn is_live(&self, id: u32) -> bool {
        lock(&self.table).contains_key(&id)
    }

    pub(super) fn insert(&self, id: u32, waiting: Waiting) {
        let mut table = lock(&self.table);
        table.insert(id, waiting);
        self.count.set(table.len());
    }

    pub(super) fn remove(&self, id: u32) -> Option<Waiting> {
        let mut table = lock(&self.table);
        let waiting = table.remove(&id);
        self.count.set(table.len());
        waiting
    }

    /// Hands an answer to whoever waits, and says whether somebody did.
    pub(super) fn answered(&self, id: u32, answer: Payload<'_>) -> bool {
        match self.remove(id).map(|waiting| waiting.asker) {
            None => return false,
            Some(Asker::Here(sender)) => drop(sender.send(Ok(answer.into_bytes()))),
            Some(Asker::There(asker, _)) => asker.relay(answer),
        }
        true
    }

    /// As [`answered`](Self::answered), with a failure.
    pub(super) fn failed(&self, id: u32, failure: Failure) -> bool {
        let waiting = self.remove(id);
        let found = waiting.is_some();
        if let Some(waiting) = waiting {
            waiting.asker.give(Err(failure));
        }
        found
    }

    /// Takes out those passed on for peers that wait no longer.
    pub(super) fn overdue(&self, now: Instant) -> Vec<(u32, Answer)> {
        let mut table = lock(&self.table);
        let late = |_: &u32, waiting: &mut Waiting| matches!(waiting.asker, Asker::There(_, until) if until <= now);
        let overdue = table.extract_if(late).filter_map(|(id, waiting)| match waiting.asker {
            Asker::There(asker, _) => Some((id, asker)),
            Asker::Here(_) => None,
        });
        let overdue = overdue.collect();
        self.count.set(table.len());
        overdue
    }

    /// Fails all; `failure` gets the batch of each.
    pub(super) fn end(&self, failure: impl Fn(u64) -> Failure) {
        let waiting = std::mem::take(&mut *lock(&self.table));
        self.count.set(0);
        for (_, waiting) in waiting {
            waiting.asker.give(Err(failure(waiting.batch)));
        }
    }
}

/// One call under way. Dropped before its answer, it tells the peer that nobody waits.
struct Call {
    core: Arc<Core>,
    id: u32,
    answer: oneshot::Receiver<Result<Bytes, Failure>>,
    open: bool,
}

impl Call {
    /// The answer, or `None` at the deadline.
    async fn wait(mut self, deadline: Instant) -> Option<Result<Bytes, Failure>> {
        let answer = timeout_at(deadline, &mut self.answer).await.ok()?;
        self.open = false;
        Some(answer.unwrap_or_else(|_| Err(self.core.lost(Outcome::Unknown))))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.open && self.core.calls.remove(self.id).is_some() {
            self.core.send(Cause::Own, Kind::Cancel, self.id, Bytes::new());
        }
    }
}

impl Core {
    /// Asks the peer.
    pub(super) async fn request(self: &Arc<Self>, body: Bytes, timeout: Duration) -> Result<Bytes, Failure> {
        let timeout = timeout.min(LONGEST);
        let deadline = Instant::now() + timeout;
        let late = |outcome| {
            let message = format!("no answer from {} within {timeout:?}", self.label);
            Failure { code: Code::Timeout, message, outcome }
        };
        let front = front(timeout);
        fits("a request", front.len() + body.len(), Kind::Request)?;
        let add = |outbox: &mut Outbox| {
            let id = self.new_id(outbox);
            let (sender, answer) = oneshot::channel();
            self.calls.insert(id, Waiting { batch: outbox.batch(), asker: Asker::Here(sender) });
            outbox.frame(Cause::Own, Kind::Request, id, &front, body);
            Ok(Call { core: Arc::clone(self), id, answer, open: true })
        };
        let Ok(call) = timeout_at(deadline, self.admitted(add)).await else { return Err(late(Outcome::NotDone)) };
        call?.wait(deadline).await.unwrap_or_else(|| Err(late(Outcome::Unknown)))
    }

    /// Sends a message without reply.
    pub(super) async fn notify(&self, body: Bytes) -> Result<(), Failure> {
        fits("a message", body.len(), Kind::Notify)?;
        self.admitted(|outbox| {
            outbox.frame(Cause::Own, Kind::Notify, 0, &[], body);
            Ok(())
        })
        .await
    }

    /// An id that no call and no stream of this side has now.
    pub(super) fn new_id(&self, outbox: &mut Outbox) -> u32 {
        outbox.new_id(|id| self.calls.is_live(id) || self.streams.is_live(id))
    }

    /// Adds to the outbox as soon as there is room.
    pub(super) async fn admitted<T>(&self, add: impl FnOnce(&mut Outbox) -> Result<T, Failure>) -> Result<T, Failure> {
        let (added, idle) = loop {
            let mut room = std::pin::pin!(self.room.notified());
            let full = {
                let mut outbox = self.outbox();
                if outbox.is_closed() {
                    Err(self.lost(Outcome::NotDone))
                } else if outbox.has_room() {
                    break (add(&mut outbox)?, outbox.signal());
                } else {
                    room.as_mut().enable();
                    Ok(())
                }
            };
            full?;
            room.await;
        };
        if idle {
            self.kick();
        }
        Ok(added)
    }
}

/// What stands in front of a request's body.
pub(super) fn front(timeout: Duration) -> [u8; RequestHead::FRONT] {
    RequestHead { timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX) }.front()
}

/// Refuses what no frame can hold.
pub(super) fn fits(what: &str, length: usize, kind: Kind) -> Result<(), Failure> {
    let limit = kind.max_payload();
    if length <= limit {
        return Ok(());
    }
    Err(Failure::new(Code::TooLarge, format!("{what} of {length} bytes cannot be sent; the limit is {limit}")))
}
