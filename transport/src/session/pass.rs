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
use super::{Request, Rescue, Session};
use bytes::Bytes;
use longshore_wire::frame::Kind;
use longshore_wire::{Code, Failure, Outcome, RequestId};
use std::ops::Range;
use std::sync::Arc;

impl Request {
    /// Passes the request on: sends `body` to the peer of `to` with the time that is left, and gives its answer, be it
    /// bytes or a failure, to the asker as it comes. When the asker gives up, that peer is told.
    ///
    /// The asker gets `Unavailable` when `to` has ended, `Busy` when too much waits there, `Timeout`, `TooLarge`; the
    /// outcome is `NotDone` only when the request certainly never left.
    pub fn pass(self, to: &Session, body: impl Into<Bytes>) {
        to.core().pass(self, Onward::Whole(body.into()), None);
    }

    /// As [`pass`](Self::pass); when `to` has ended before it brought an answer, or its peer answers that it is not the owner,
    /// the request goes to `rescue` instead of failing, with `boot` as it is given here.
    pub fn pass_or(self, to: &Session, onward: Onward, rescue: Arc<dyn Rescue>, boot: Option<RequestId>) {
        to.core().pass(self, onward, Some((rescue, boot)));
    }
}

/// What is passed on of a request.
#[derive(Debug, Clone)]
pub enum Onward {
    /// These bytes.
    Whole(Bytes),
    /// Parts of its own body behind a front: they are copied to where they wait to be written.
    Parts(&'static [u8], [Range<usize>; 2]),
}

impl Onward {
    /// Bytes of it.
    fn len(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Parts(front, parts) => front.len() + parts.iter().map(Range::len).sum::<usize>(),
        }
    }
}

/// Who takes a request back, and what it is told.
type Rescuer = (Arc<dyn Rescue>, Option<RequestId>);

impl Core {
    fn pass(self: &Arc<Self>, request: Request, onward: Onward, rescuer: Option<Rescuer>) {
        let Request { body: asked, deadline, answer: asker } = request;
        let left = deadline.saturating_duration_since(cork::now());
        if left.is_zero() {
            let message = format!("the time for the request was over before it could be passed to {}", self.label);
            return asker.give(Err(Failure::new(Code::Timeout, message)));
        }
        let front = front(left);
        if let Err(failure) = fits("a request", front.len() + onward.len(), Kind::Request) {
            return asker.give(Err(failure));
        }
        let idle = {
            let mut outbox = self.outbox();
            if outbox.is_closed() {
                drop(outbox);
                let lost = self.lost(Outcome::NotDone);
                return match rescuer {
                    Some((rescue, boot)) => {
                        rescue.lost(Request { body: asked, deadline, answer: asker }, boot, lost);
                    }
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
            match onward {
                Onward::Whole(body) => outbox.frame(Cause::Own, Kind::Request, id, &front, body),
                Onward::Parts(head, [first, second]) => {
                    let pieces = [&front, head, &asked[first], &asked[second]];
                    outbox.copied(Cause::Own, Kind::Request, id, pieces);
                }
            }
            let back = rescuer.map(|(rescue, boot)| Back { body: asked, rescue, boot });
            let waiting = Waiting { batch: outbox.batch(), until: deadline, asker: Asker::There(asker, back) };
            self.calls.insert(id, waiting);
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
