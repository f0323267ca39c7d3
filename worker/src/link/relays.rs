//! Requests to the built-in job classes, answered on the session's reader: no task, no queue, no copy of the body.

use crate::outcomes::Outcomes;
use bytes::{Buf as _, Bytes};
use longshore_transport::{First, Request};
use longshore_wire::relay::{OutcomeAsk, OutcomeReply, RelayView};
use longshore_wire::{Code, Failure, RequestId};

/// Answers relays.
#[derive(Debug)]
pub(crate) struct Relays {
    boot: RequestId,
    outcomes: Outcomes,
}

impl Relays {
    /// The relays of one start of the worker.
    pub(crate) fn new(boot: RequestId) -> Self {
        Self { boot, outcomes: Outcomes::new(boot) }
    }

    /// Which start.
    pub(crate) const fn boot(&self) -> RequestId {
        self.boot
    }

    /// Answers a relay whose body is part of the request's.
    pub(super) fn answer(&self, id: RequestId, class: &str, body: Bytes) -> Result<Bytes, Failure> {
        self.outcomes.once(id, || carry_out(class, body))
    }

    /// What became of a relay.
    pub(super) fn outcome(&self, ask: OutcomeAsk) -> OutcomeReply {
        self.outcomes.ask(ask)
    }
}

impl First for Relays {
    fn take(&self, mut request: Request) -> Option<Request> {
        let Some(RelayView { id, class, body, .. }) = RelayView::read(&request.body) else { return Some(request) };
        let start = body.as_ptr().addr() - request.body.as_ptr().addr();
        let end = start + body.len();
        // A slice of the message would be a second owner of it.
        let work = if class == ECHO { Ok(()) } else { Err(no_class(class)) };
        let mut message = std::mem::take(&mut request.body);
        let work = || {
            work.map(|()| {
                message.truncate(end);
                message.advance(start);
                message
            })
        };
        self.outcomes.settle(id, work, |outcome| match outcome {
            Ok(reply) => request.answer_kept(reply),
            Err(failure) => request.reply(Err(failure.clone())),
        });
        None
    }
}

/// The one job class that is built in: answers what it was asked.
const ECHO: &str = "echo";

fn carry_out(class: &str, body: Bytes) -> Result<Bytes, Failure> {
    match class {
        ECHO => Ok(body),
        _ => Err(no_class(class)),
    }
}

/// What is said of a class that this worker does not have.
pub(super) fn no_class(class: &str) -> Failure {
    Failure::new(Code::NotFound, format!("this worker has no job class '{class}'"))
}
