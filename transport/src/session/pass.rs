//! Requests that are relayed: from the peer of one session to the peer of another, without a task or a timer of their own.
//!
//! ```text
//! asker ═▶ session A: served ── Passed ──▶ session B: calls ═▶ worker
//!       ◀═ reply ◀──────────── Answer ─────────────────────  ◀═ reply
//! ```
//!
//! The asker's table points to the call, so that a cancel crosses over; the call holds the duty to answer. Either end of
//! the two sessions settles both. Overdue ones are ended by the watchdog of session B.

use super::calls::{Asker, Back, Waiting, fits, front};
use super::core::Core;
use super::cork;
use super::outbox::Cause;
use super::requests::Answer;
use super::{Request, Rescue, Session};
use bytes::Bytes;
use longshore_wire::frame::Kind;
use longshore_wire::{Code, Failure, Outcome};
use std::sync::Arc;
use tokio::time::Instant;

impl Request {
    /// Passes the request on: sends `body` to the peer of `to` with the time that is left, and gives its answer, be it
    /// bytes or a failure, to the asker as it comes. When the asker gives up, that peer is told.
    ///
    /// The asker gets `Unavailable` when `to` has ended, `Busy` when too much waits there, `Timeout`, `TooLarge`; the
    /// outcome is `NotDone` only when the request certainly never left.
    pub fn pass(self, to: &Session, body: impl Into<Bytes>) {
        let Self { deadline, answer, .. } = self;
        to.core().pass(answer, deadline, body.into(), None);
    }

    /// As [`pass`](Self::pass); when `to` has ended before it brought an answer, or its peer answers that it is not the owner,
    /// the request goes to `rescue` instead of failing.
    pub fn pass_or(self, to: &Session, body: impl Into<Bytes>, rescue: Arc<dyn Rescue>) {
        let Self { body: asked, deadline, answer } = self;
        to.core().pass(answer, deadline, body.into(), Some(Back { body: asked, rescue }));
    }
}

impl Core {
    fn pass(self: &Arc<Self>, asker: Answer, deadline: Instant, body: Bytes, back: Option<Back>) {
        let left = deadline.saturating_duration_since(cork::now());
        if left.is_zero() {
            let message = format!("the time for the request was over before it could be passed to {}", self.label);
            return asker.give(Err(Failure::new(Code::Timeout, message)));
        }
        let front = front(left);
        if let Err(failure) = fits("a request", front.len() + body.len(), Kind::Request) {
            return asker.give(Err(failure));
        }
        let idle = {
            let mut outbox = self.outbox();
            if outbox.is_closed() {
                drop(outbox);
                let lost = self.lost(Outcome::NotDone);
                return match back {
                    Some(Back { body, rescue }) => rescue.lost(Request { body, deadline, answer: asker }, lost),
                    None => asker.give(Err(lost)),
                };
            }
            if !outbox.takes_passed() {
                drop(outbox);
                let message = format!("too much waits to be sent to {}; ask again later", self.label);
                return asker.give(Err(Failure::new(Code::Busy, message)));
            }
            let id = self.new_id(&mut outbox);
            if !asker.core.served.pass(asker.id, self, id) {
                drop(outbox);
                // Nobody waits: settles the asker's table.
                return asker.give(Err(self.lost(Outcome::NotDone)));
            }
            let waiting = Waiting { batch: outbox.batch(), until: deadline, asker: Asker::There(asker, back) };
            self.calls.insert(id, waiting);
            outbox.frame(Cause::Own, Kind::Request, id, &front, body);
            outbox.signal()
        };
        if idle {
            self.kick();
        }
    }

    /// The asker of a call no longer waits.
    pub(super) fn give_up(&self, call: u32) {
        if let Some(waiting) = self.calls.remove(call) {
            self.send(Cause::Own, Kind::Cancel, call, Bytes::new());
            drop(waiting);
        }
    }
}
