//! Requests to job classes of workers, on their way through this node.
//!
//! ```text
//! the quick way   client's reader ─▶ table of sessions ─▶ worker's session        no task, no copy of the body
//! the patient way a task: waits for a worker that is on its way, asks, and after a lost session asks what became of it
//! ```
//!
//! A request takes the quick way when there is a session to take. It changes over to the patient one when that session
//! ends before the answer, so that the asker learns *done* or *not done* wherever anybody can know it.

use crate::loops::Loops;
use crate::reach::{Hop, Reach, Route};
use bytes::Bytes;
use longshore_transport::{Onward, Request, Rescue, Session};
use longshore_wire::edge::{ClassRequest, ToWorker};
use longshore_wire::peer::PeerRequest;
use longshore_wire::relay::{self, FOR_WORKER, OutcomeAsk, OutcomeOf, OutcomeReply, RELAY_VERSION, RelayView};
use longshore_wire::{Code, Failure, NodeId, Outcome, RequestId, decode, encode};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// A request waits no longer than this for a worker that is on its way.
const PATIENCE: Duration = Duration::from_secs(15);
/// The answer leaves so long before the asker's deadline.
const MARGIN: Duration = Duration::from_millis(50);
/// Time for a worker to say what became of a request.
const OUTCOME: Duration = Duration::from_secs(2);
/// Pause before a worker that still works on a request is asked again.
const STILL: Duration = Duration::from_millis(50);
/// A relay of fewer bytes is passed on in parts; a larger one is copied once, and kept as it is.
const IN_PARTS: usize = 16 * 1024;

/// How far a request may go, and until when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) hop: Hop,
    pub(crate) deadline: Instant,
}

/// A request to a job class, under way.
#[derive(Debug, Clone)]
pub(crate) struct Relay {
    id: RequestId,
    node: NodeId,
    class: String,
    body: Bytes,
    bounds: Bounds,
}

/// A request whose session has ended before the answer.
struct Lost {
    /// The boot of the worker to which it was sent, as far as known.
    boot: Option<RequestId>,
    failure: Failure,
}

impl Relay {
    /// A request as it came.
    pub(crate) fn new(asked: relay::Relay, bounds: Bounds) -> Self {
        let relay::Relay { id, node, class, body } = asked;
        Self { id, node, class, body: body.into(), bounds }
    }

    /// A request in JSON.
    pub(crate) fn json((id, node): (RequestId, NodeId), asked: ClassRequest, bounds: Bounds) -> Self {
        let ClassRequest { class, body } = asked;
        Self { id, node, class, body: body.to_string().into(), bounds }
    }

    /// An owned copy of what a request carries, as long as that names a worker.
    fn of(request: &Request, hop: Hop) -> Option<Self> {
        let RelayView { id, node, class, body } = RelayView::read(&request.body)?;
        let body = request.body.slice_ref(body);
        let bounds = Bounds { hop, deadline: request.deadline - MARGIN };
        Some(Self { id, node: node?, class: class.to_owned(), body, bounds })
    }

    fn view(&self) -> RelayView<'_> {
        RelayView { id: self.id, node: Some(self.node), class: &self.class, body: &self.body }
    }
}

/// Carries requests to workers. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Relays(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    reach: Reach,
    loops: Loops,
    /// Who takes back what went the quick way and lost its session.
    passages: [Arc<Passage>; 2],
}

impl Relays {
    pub(crate) fn new(reach: Reach, loops: Loops) -> Self {
        let passage = |hop| Arc::new(Passage { reach: reach.clone(), loops: loops.clone(), hop });
        let passages = [Hop::Allowed, Hop::Never].map(passage);
        Self(Arc::new(Shared { reach, loops, passages }))
    }

    /// Takes a request if it is a relay; must not wait. Gives back what is something else.
    pub(crate) fn take(&self, request: Request, hop: Hop) -> Option<Request> {
        let Some(view) = RelayView::read(&request.body) else { return Some(request) };
        let Some(node) = view.node else { return Some(request) };
        let (session, boot, onward) = match self.0.reach.route(node, hop) {
            Route::Here(session, boot) if speaks(&session) => (session, Some(boot), for_worker(&request.body, &view)),
            Route::There(session, boot) if speaks(&session) => {
                (session, boot, Onward::Whole(view.for_peer(node).into()))
            }
            _ => {
                self.patiently(request, hop, None);
                return None;
            }
        };
        let [far, near] = &self.0.passages;
        let passage = Arc::clone(if hop == Hop::Allowed { far } else { near });
        request.pass_or(&session, onward, passage, boot);
        None
    }

    /// Goes the patient way, from the start or after a loss.
    fn patiently(&self, request: Request, hop: Hop, lost: Option<Lost>) {
        let Some(relay) = Relay::of(&request, hop) else { return };
        let relays = self.clone();
        self.0.loops.spawn_work(async move {
            let gone = request.cancelled();
            let answering = async {
                match lost {
                    None => relays.ask(&relay).await,
                    Some(lost) => relays.mend(&relay, lost).await,
                }
            };
            tokio::select! {
                biased;
                () = gone.cancelled() => (),
                reply = answering => request.reply(reply.map(Vec::from)),
            }
        });
    }

    /// Asks a worker's job class; waits for a worker that is on its way, within the deadline.
    ///
    /// # Errors
    /// [`Code::NotFound`] for an unknown worker, [`Code::NotConnected`] without session, [`Code::Timeout`], or the
    /// worker's own failure.
    pub(crate) async fn ask(&self, relay: &Relay) -> Result<Bytes, Failure> {
        let Bounds { hop, deadline } = relay.bounds;
        let patience = deadline.min(Instant::now() + PATIENCE);
        loop {
            let (session, boot, asked) = match self.0.reach.route(relay.node, hop) {
                Route::Here(session, boot) => {
                    let asked = ask_worker(&session, relay).await;
                    (session, Some(boot), asked)
                }
                Route::There(session, boot) => {
                    let asked = ask_peer(&session, relay).await;
                    (session, boot, asked)
                }
                Route::Gone(failure) => return Err(failure),
                Route::Coming(failure) => {
                    self.wait(failure, patience).await?;
                    continue;
                }
            };
            let failure = match asked {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            if is_elsewhere(&failure) || (session.is_closed() && failure.outcome == Outcome::NotDone) {
                self.wait(failure, patience).await?;
            } else if session.is_closed() && failure.outcome == Outcome::Unknown {
                return self.recover(relay, Lost { boot, failure }).await;
            } else {
                return Err(failure);
            }
        }
    }

    /// What becomes of a request whose session has ended before the answer.
    async fn mend(&self, relay: &Relay, lost: Lost) -> Result<Bytes, Failure> {
        match lost.failure.outcome {
            Outcome::NotDone => self.ask(relay).await,
            Outcome::Unknown => self.recover(relay, lost).await,
            Outcome::Done => Err(lost.failure),
        }
    }

    /// Asks, until the deadline, what became of a request.
    async fn recover(&self, relay: &Relay, Lost { boot, failure }: Lost) -> Result<Bytes, Failure> {
        let of = OutcomeOf { node: relay.node, ask: OutcomeAsk { id: relay.id, boot } };
        loop {
            match self.outcome(of, relay.bounds).await {
                Ok(OutcomeReply::Done { reply }) => return Result::from(reply).map(Bytes::from),
                Ok(OutcomeReply::NotDone) => {
                    let message = format!("{}; the worker says that the request never came", failure.message);
                    return Err(Failure::new(failure.code, message));
                }
                Ok(OutcomeReply::Running) => sleep(STILL).await,
                Ok(OutcomeReply::Unknown) | Err(_) => return Err(failure),
            }
            if Instant::now() >= relay.bounds.deadline {
                return Err(failure);
            }
        }
    }

    /// What became of a request, as its worker knows it; waits for a worker that is on its way.
    ///
    /// # Errors
    /// When the worker cannot be asked within the deadline; that says nothing about the request.
    pub(crate) async fn outcome(&self, of: OutcomeOf, bounds: Bounds) -> Result<OutcomeReply, Failure> {
        let Bounds { hop, deadline } = bounds;
        let patience = deadline.min(Instant::now() + PATIENCE);
        loop {
            let (session, body) = match self.0.reach.route(of.node, hop) {
                Route::Here(session, _) => (session, encode(&ToWorker::Outcome(of.ask))),
                Route::There(session, _) => (session, encode(&PeerRequest::Outcome(of))),
                Route::Gone(failure) => return Err(failure),
                Route::Coming(failure) => {
                    self.wait(failure, patience).await?;
                    continue;
                }
            };
            if !speaks(&session) {
                return Ok(OutcomeReply::Unknown);
            }
            let time = left(deadline).min(OUTCOME);
            match session.request(body, time).await {
                Ok(reply) => return decode(&reply).map_err(|error| Failure::new(Code::Internal, error.to_string())),
                Err(failure) if is_elsewhere(&failure) || session.is_closed() => self.wait(failure, patience).await?,
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Waits for a change, unless the time is over: then the failure stands.
    async fn wait(&self, failure: Failure, until: Instant) -> Result<(), Failure> {
        timeout_at(until, self.0.reach.changed()).await.map_err(|_| failure)
    }
}

/// Requests on the quick way: what is needed if their session ends first.
#[derive(Debug)]
struct Passage {
    reach: Reach,
    loops: Loops,
    hop: Hop,
}

impl Rescue for Passage {
    fn lost(&self, request: Request, boot: Option<RequestId>, failure: Failure) {
        let relays = Relays::new(self.reach.clone(), self.loops.clone());
        relays.patiently(request, self.hop, Some(Lost { boot, failure }));
    }
}

/// A relay as the worker gets it: a small one in parts, without a buffer of its own.
fn for_worker(message: &[u8], view: &RelayView<'_>) -> Onward {
    match RelayView::parts_for_worker(message) {
        Some(parts) if message.len() < IN_PARTS => Onward::Parts(FOR_WORKER, parts),
        _ => Onward::Whole(view.for_worker().into()),
    }
}

fn speaks(session: &Session) -> bool {
    session.peer().version >= RELAY_VERSION
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// The node asked does not drive the worker: its word or ours is out of date.
fn is_elsewhere(failure: &Failure) -> bool {
    failure.outcome == Outcome::NotDone && failure.code == Code::NotOwner
}

async fn ask_worker(session: &Session, relay: &Relay) -> Result<Bytes, Failure> {
    let time = left(relay.bounds.deadline);
    if speaks(session) {
        return session.request(relay.view().for_worker(), time).await;
    }
    newer(session.request(encode(&ToWorker::Request(older(relay)?)), time).await?)
}

async fn ask_peer(session: &Session, relay: &Relay) -> Result<Bytes, Failure> {
    let time = left(relay.bounds.deadline);
    if speaks(session) {
        return session.request(relay.view().for_peer(relay.node), time).await;
    }
    let asked = PeerRequest::Worker { node: relay.node, request: older(relay)? };
    newer(session.request(encode(&asked), time).await?)
}

/// A relay as protocol version 1 has it: only JSON can be asked there.
fn older(relay: &Relay) -> Result<ClassRequest, Failure> {
    let body = serde_json::from_slice(&relay.body).map_err(|_| {
        let message =
            "this worker speaks protocol version 1, whose requests are JSON, and the request is not; upgrade it";
        Failure::new(Code::Unsupported, message)
    })?;
    Ok(ClassRequest { class: relay.class.clone(), body })
}

/// An answer of protocol version 1, as JSON text.
fn newer(reply: Bytes) -> Result<Bytes, Failure> {
    match decode::<Value>(&reply) {
        Ok(value) => Ok(value.to_string().into()),
        Err(error) => Err(Failure {
            code: Code::Internal,
            message: format!("the worker's reply: {error}"),
            outcome: Outcome::Done,
        }),
    }
}

/// A worker's answer to a request in JSON.
///
/// # Errors
/// When it is no JSON; the request was carried out all the same.
pub(crate) fn json_reply(reply: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(reply).map_err(|error| Failure {
        code: Code::Internal,
        message: format!("the worker's reply is no JSON: {error}"),
        outcome: Outcome::Done,
    })
}
