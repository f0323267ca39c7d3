//! One worker's session, from its first request to its end.
//!
//! ```text
//! Attach ─▶ attach::decide ─┬─ Accepted ─▶ the proxy's seat; then Report and Kv
//!                           ├─ Elsewhere ─▶ stays open for a tunnel
//!                           └─ Wait ─────▶ stays open for the next Attach
//! Tunnel ─▶ spliced to the owner, whether this node drives the worker or not
//! ```
//!
//! Owns the session's inbound half. A session that neither drives its worker nor carries a tunnel is closed after a while, with
//! the way to the owner.
//! KV operations go straight to the KV service, past the proxy's actor.

mod attach;

pub(crate) use attach::Attaching;

use crate::jobs::Jobs;
use crate::kv::Kv;
use crate::peers::Peers;
use crate::proxy::{Arrival, Proxies, Seat};
use crate::splice::splice;
use crate::steer;
use longshore_transport::{Inbound, Incoming, Request, Session, Stream};
use longshore_wire::edge::{Attach, AttachReply, OpenControl, ToControl};
use longshore_wire::peer::OpenPeer;
use longshore_wire::{Code, Failure, NodeId, decode, encode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// A proven worker that says nothing for so long has no business here.
const FIRST_REQUEST: Duration = Duration::from_secs(5);
/// A session of no use is kept so long: the worker may be on its way to its owner, or need a tunnel.
const IDLE: Duration = Duration::from_secs(60);
/// Time for a worker that has another owner now to be on its way: it was told so, and keeps this session meanwhile.
const MOVED: Duration = Duration::from_secs(20);
/// How often the use of a session is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// What all links of a node share.
#[derive(Debug)]
pub(crate) struct WorkerLinks {
    attaching: Attaching,
    pub(crate) proxies: Proxies,
    peers: Peers,
    kv: Kv,
    next: AtomicU64,
}

impl WorkerLinks {
    pub(crate) fn new(attaching: Attaching, kv: Kv) -> Arc<Self> {
        let (proxies, peers) = (attaching.proxies.clone(), attaching.peers.clone());
        Arc::new(Self { attaching, proxies, peers, kv, next: AtomicU64::new(0) })
    }
}

/// Serves one worker's session until it ends.
pub(crate) async fn serve(links: Arc<WorkerLinks>, session: Session, inbound: Inbound) {
    let number = links.next.fetch_add(1, Ordering::Relaxed);
    let now = Instant::now();
    let mut link = WorkerLink { links, number, session, seat: None, jobs: Jobs::new(), tunnels: Jobs::new() };
    link.run(inbound, now).await;
    if let Some(seat) = &link.seat {
        seat.detach(number);
    }
}

struct WorkerLink {
    links: Arc<WorkerLinks>,
    number: u64,
    session: Session,
    seat: Option<Arc<Seat>>,
    /// KV operations under way; bounded by the session's limit of requests.
    jobs: Jobs<()>,
    /// Tunnels under way; bounded by the session's limit of streams.
    tunnels: Jobs<()>,
}

impl WorkerLink {
    fn worker(&self) -> NodeId {
        self.session.peer().node
    }

    async fn run(&mut self, mut inbound: Inbound, begun: Instant) {
        let mut attached_once = false;
        let mut useful_at = begun;
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                biased;
                incoming = inbound.next() => match incoming {
                    None => return,
                    Some(Incoming::Request(request)) => attached_once |= self.request(request).await,
                    Some(Incoming::Open { head, stream }) => self.open(&head, stream),
                    Some(Incoming::Notify(_)) => tracing::debug!(worker = %self.worker(), "an unknown notice was ignored"),
                },
                Some(_) = self.jobs.next() => (),
                Some(_) = self.tunnels.next() => (),
                _ = look.tick() => {
                    if self.is_useful() {
                        useful_at = Instant::now();
                    }
                    let patience = match &self.seat {
                        Some(_) => MOVED,
                        None if attached_once => IDLE,
                        None => FIRST_REQUEST,
                    };
                    if useful_at.elapsed() > patience {
                        let attaching = &self.links.attaching;
                        return steer::useless(&self.session, &attaching.group.state(), attaching.me);
                    }
                }
            }
        }
    }

    fn is_useful(&self) -> bool {
        !self.tunnels.is_empty() || self.seat.as_ref().is_some_and(|seat| seat.is_seated(self.number))
    }

    /// Handles one request; says whether it was an attach that could be answered.
    async fn request(&mut self, request: Request) -> bool {
        let asked = decode::<ToControl>(&request.body);
        match asked {
            // Boxed: once in a session's life, while the link lives as long as the session.
            Ok(ToControl::Attach(attach)) => return Box::pin(self.attach(request, attach)).await,
            Ok(ToControl::Report(report)) => {
                let taken = self.seat.as_ref().is_some_and(|seat| seat.report(self.number, report));
                request.reply(if taken { Ok(Vec::new()) } else { Err(not_driven()) });
            }
            Ok(ToControl::Kv(asked)) => {
                if self.seat.is_none() {
                    request.reply(Err(not_driven()));
                    return false;
                }
                let (kv, worker, deadline) = (self.links.kv.clone(), self.worker(), request.deadline);
                self.jobs.spawn(async move {
                    let late = |_| Err(Failure::unknown(Code::Timeout, "the cluster did not answer in time"));
                    let answer = tokio::time::timeout_at(deadline, kv.execute_for(worker, asked)).await;
                    request.reply(answer.unwrap_or_else(late).map(|reply| encode(&reply)));
                });
            }
            Err(error) => {
                let message = format!("{error}; the worker may run a newer release than this control node");
                request.reply(Err(Failure::new(Code::Unsupported, message)));
            }
        }
        false
    }

    async fn attach(&mut self, request: Request, attach: Attach) -> bool {
        let boot = attach.boot;
        let decision = self.links.attaching.decide(self.session.peer(), &attach, request.deadline).await;
        let accepted = matches!(decision, Ok(AttachReply::Accepted(_)));
        let answered = decision.is_ok();
        if let Err(failure) = &decision {
            tracing::warn!(worker = %self.worker(), %failure, "a worker was not taken on");
        }
        // The answer goes first: orders that overtake it would reach a worker that does not know its owner yet.
        request.reply(decision.map(|reply| encode(&reply)));
        if accepted {
            let arrival = Arrival { link: self.number, boot, session: self.session.clone(), report: attach.report };
            self.seat = self.links.proxies.attach(self.worker(), arrival);
            match &self.seat {
                Some(_) => tracing::info!(
                    worker = %self.worker(), name = attach.name, carrier = %self.session.peer().carrier,
                    "worker attached"
                ),
                None => self.links.proxies.tell_moved(self.worker(), &self.session).await,
            }
        }
        answered
    }

    fn open(&mut self, head: &[u8], stream: Stream) {
        match decode::<OpenControl>(head) {
            Ok(OpenControl::Tunnel { to }) => {
                let (peers, worker) = (self.links.peers.clone(), self.worker());
                self.tunnels.spawn(async move {
                    match peers.open(to, &OpenPeer::Tunnel { worker }).await {
                        Ok(onward) => splice(stream, onward).await,
                        Err(failure) => stream.reset(failure),
                    }
                });
            }
            Err(error) => stream.reset(Failure::new(Code::Unsupported, error.to_string())),
        }
    }
}

fn not_driven() -> Failure {
    Failure::new(Code::NotOwner, "this control node does not drive you; attach first")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_link_is_small() {
        fn bytes<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
            size_of::<F>()
        }
        let size = bytes(serve);
        assert!(size <= 1024, "{size} bytes for every worker");
    }
}
