//! Requests of this side: calls that wait for the peer's answer.
//!
//! A call's outcome is never guessed: it is `NotDone` only when its frame certainly never left, or the peer says so.

use super::core::{Core, Count, lock};
use super::ids::IdMap;
use super::input::Payload;
use super::outbox::{Cause, Outbox};
use super::requests::Answer;
use super::watchdog::tick;
use super::{Request, Rescue};
use bytes::Bytes;
use longshore_wire::frame::{Kind, RequestHead};
use longshore_wire::{Code, Failure, Outcome, RequestId};
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
    /// Until when somebody waits: then the watchdog ends the call.
    pub(super) until: Instant,
    pub(super) asker: Asker,
}

/// Who waits for the answer of a call.
pub(super) enum Asker {
    /// A future on this node.
    Here(oneshot::Sender<Result<Bytes, Failure>>),
    /// The peer of another session; and who takes the request back when this one ends first.
    There(Answer, Option<Back>),
}

impl Asker {
    pub(super) fn give(self, answer: Result<Bytes, Failure>) {
        match self {
            Self::Here(sender) => drop(sender.send(answer)),
            Self::There(asker, _) => asker.give(answer),
        }
    }
}

/// What a request that was passed on needs to be taken back.
pub(super) struct Back {
    pub(super) body: Bytes,
    pub(super) rescue: Arc<dyn Rescue>,
    /// Of the process that was asked.
    pub(super) boot: Option<RequestId>,
}

impl Waiting {
    /// The session has ended, or its peer is not the one to be asked.
    fn lose(self, failure: Failure) {
        match self.asker {
            Asker::There(answer, Some(Back { body, rescue, boot })) => {
                rescue.lost(Request { body, deadline: self.until, answer }, boot, failure);
            }
            asker => asker.give(Err(failure)),
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
        match waiting {
            Some(waiting) if is_elsewhere(&failure) => waiting.lose(failure),
            Some(waiting) => waiting.asker.give(Err(failure)),
            None => {}
        }
        found
    }

    /// Takes out those whose time is over. An idle session keeps no table.
    pub(super) fn overdue(&self, now: Instant) -> Vec<(u32, Asker)> {
        let mut table = lock(&self.table);
        let overdue = table.extract_if(|_, waiting| waiting.until <= now);
        let overdue = overdue.map(|(id, waiting)| (id, waiting.asker)).collect();
        self.count.set(table.len());
        if table.is_empty() {
            *table = IdMap::default();
        }
        overdue
    }

    /// When the first call's time is over.
    pub(super) fn earliest(&self) -> Option<Instant> {
        lock(&self.table).values().map(|waiting| waiting.until).min()
    }

    /// Fails all; `failure` gets the batch of each.
    pub(super) fn end(&self, failure: impl Fn(u64) -> Failure) {
        let waiting = std::mem::take(&mut *lock(&self.table));
        self.count.set(0);
        for (_, waiting) in waiting {
            let failure = failure(waiting.batch);
            waiting.lose(failure);
        }
    }
}

/// Another node is to be asked: whoever passed the request on may know which one by now.
fn is_elsewhere(failure: &Failure) -> bool {
    failure.code == Code::NotOwner && failure.outcome == Outcome::NotDone
}

/// One call under way. Dropped before its answer, it tells the peer that nobody waits.
struct Call<'a> {
    core: &'a Core,
    id: u32,
    answer: oneshot::Receiver<Result<Bytes, Failure>>,
    open: bool,
}

impl Call<'_> {
    /// The answer.
    async fn wait(mut self) -> Result<Bytes, Failure> {
        let answer = (&mut self.answer).await;
        self.open = false;
        answer.unwrap_or_else(|_| Err(self.core.lost(Outcome::Unknown)))
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.open && self.core.calls.remove(self.id).is_some() {
            self.core.send(Cause::Own, Kind::Cancel, self.id, Bytes::new());
        }
    }
}

impl Core {
    /// Asks the peer. Only a short time has a timer of its own: the watchdog ends the others.
    pub(super) async fn request(&self, body: Bytes, timeout: Duration) -> Result<Bytes, Failure> {
        let timeout = timeout.min(LONGEST);
        let deadline = Instant::now() + timeout;
        let front = front(timeout);
        fits("a request", front.len() + body.len(), Kind::Request)?;
        let add = |outbox: &mut Outbox| {
            let id = self.new_id(outbox);
            let (sender, answer) = oneshot::channel();
            let asker = Asker::Here(sender);
            self.calls.insert(id, Waiting { batch: outbox.batch(), until: deadline, asker });
            outbox.frame(Cause::Own, Kind::Request, id, &front, body);
            Ok(Call { core: self, id, answer, open: true })
        };
        let call = match self.admitted_now(add) {
            Ok(call) => call?,
            Err(add) => match timeout_at(deadline, self.admitted(add)).await {
                Ok(call) => call?,
                Err(_) => return Err(self.late(Outcome::NotDone)),
            },
        };
        if timeout > tick(&self.options) {
            return call.wait().await;
        }
        timeout_at(deadline, call.wait()).await.unwrap_or_else(|_| Err(self.late(Outcome::Unknown)))
    }

    fn late(&self, outcome: Outcome) -> Failure {
        Failure { code: Code::Timeout, message: format!("no answer from {} in time", self.label), outcome }
    }

    /// Ends the calls whose time is over, and frees what an idle session needs no longer.
    pub(super) fn sweep(&self, now: Instant) {
        self.served.rest();
        for (call, asker) in self.calls.overdue(now) {
            self.send(Cause::Own, Kind::Cancel, call, Bytes::new());
            asker.give(Err(self.late(Outcome::Unknown)));
        }
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

    /// Adds to the outbox if there is room; otherwise gives `add` back.
    #[inline]
    fn admitted_now<T, F>(&self, add: F) -> Result<Result<T, Failure>, F>
    where
        F: FnOnce(&mut Outbox) -> Result<T, Failure>,
    {
        let (added, idle) = {
            let mut outbox = self.outbox();
            if outbox.is_closed() {
                drop(outbox);
                return Ok(Err(self.lost(Outcome::NotDone)));
            }
            if !outbox.has_room() {
                return Err(add);
            }
            (add(&mut outbox), outbox.signal())
        };
        if idle {
            self.kick();
        }
        Ok(added)
    }

    /// Adds to the outbox as soon as there is room.
    pub(super) async fn admitted<T, F>(&self, mut add: F) -> Result<T, Failure>
    where
        F: FnOnce(&mut Outbox) -> Result<T, Failure>,
    {
        loop {
            add = match self.admitted_now(add) {
                Ok(added) => return added,
                Err(add) => add,
            };
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            // It may have come before anybody listened.
            if self.outbox().is_full() {
                room.await;
            }
        }
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
