//! One session of an operator's program. Every request runs by itself; the session limits how many at a time.
//!
//! Relays never come here: they are settled where they arrive ([`crate::relay`]), but for those in a rare form. So are reads of
//! what this node has applied; writes of the key-value store begin there, its other reads in a task of their own. What a client
//! may do with the store is what a task may, and more: every key, under the same limits and the same brake.

use crate::identity::random_ulid;
use crate::kv::{Kv, Ticket};
use crate::loops::Loops;
use crate::reach::Hop;
use crate::relay::{Bounds, Relay, Relays, json_reply};
use longshore_transport::{First, Inbound, Incoming, Request, Session};
use longshore_wire::client::{ClientKv, FromClient};
use longshore_wire::kv::{KvReply, KvRequest};
use longshore_wire::{Code, Failure, NodeId, RequestId, decode, encode};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What clients are served with. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ForClients {
    pub(crate) relays: Relays,
    pub(crate) kv: Kv,
    pub(crate) loops: Loops,
}

/// Whoever settles what a client asks where it arrives.
struct Quick {
    services: ForClients,
    /// Whose session it is, for the audit.
    client: NodeId,
}

impl ForClients {
    /// Whoever sees the requests of this client's session first.
    pub(crate) fn first(&self, client: NodeId) -> Arc<dyn First> {
        Arc::new(Quick { services: self.clone(), client })
    }
}

impl First for Quick {
    fn take(&self, request: Request) -> Option<Request> {
        /// How every operation of the store begins.
        const KV: &[u8] = b"\x81\xa2kv";
        if !request.body.starts_with(KV) {
            return self.services.relays.take(request, Hop::Allowed);
        }
        let Ok(FromClient::Kv(asked)) = decode(&request.body) else { return Some(request) };
        let (kv, client) = (&self.services.kv, self.client);
        if let Some(reply) = kv.at_once(&asked.request) {
            request.reply(reply.map(|reply| encode(&reply)));
        } else if kv.can_begin(&asked.request) {
            let audit = Audit::of(client, &asked.request);
            kv.begin(ticket(&asked), asked.request, |reply| {
                audit.note(&reply);
                request.reply(reply.map(|reply| encode(&reply)));
            });
        } else {
            let kv = kv.clone();
            self.services.loops.spawn_work(async move {
                let reply = operate(&kv, client, asked).await;
                request.reply(reply.map(|reply| encode(&reply)));
            });
        }
        None
    }
}

/// Carries out one operation; notes changes.
async fn operate(kv: &Kv, client: NodeId, asked: ClientKv) -> Result<KvReply, Failure> {
    let audit = Audit::of(client, &asked.request);
    let reply = kv.execute(ticket(&asked), asked.request).await;
    audit.note(&reply);
    reply
}

fn ticket(asked: &ClientKv) -> Ticket {
    match asked.id {
        None => Ticket::fresh(),
        Some(id) if asked.repeat => Ticket::repeat(id),
        Some(id) => Ticket::first(id),
    }
}

/// What is to be written down of an operation; nothing of a read.
struct Audit {
    client: NodeId,
    change: Option<(&'static str, String)>,
}

impl Audit {
    fn of(client: NodeId, request: &KvRequest) -> Self {
        let noted = tracing::enabled!(target: "longshore::audit", tracing::Level::INFO);
        Self { client, change: if noted { change(request) } else { None } }
    }

    fn note(self, reply: &Result<KvReply, Failure>) {
        let Self { client, change: Some((method, key)) } = self else { return };
        let status = reply.as_ref().map_or_else(|failure| failure.code.http_status(), |_| 200);
        tracing::info!(target: "longshore::audit", who = %client, method, key, status, "audit: a change");
    }
}

/// What an operation changes, in the words of the API.
fn change(request: &KvRequest) -> Option<(&'static str, String)> {
    match request {
        KvRequest::Put { key, .. } | KvRequest::Cas { key, .. } => Some(("PUT", key.clone())),
        KvRequest::Delete { key } => Some(("DELETE", key.clone())),
        KvRequest::Get { .. } | KvRequest::List { .. } => None,
    }
}

/// Serves a client until its session ends.
pub(crate) async fn serve(services: ForClients, session: Session, mut inbound: Inbound) {
    let client = session.peer().node;
    tracing::info!(%client, carrier = %session.peer().carrier, "client session");
    let mut jobs = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            incoming = inbound.next() => match incoming {
                None => return,
                Some(Incoming::Request(request)) => drop(jobs.spawn(answer(services.clone(), client, request))),
                Some(Incoming::Open { stream, .. }) => {
                    stream.reset(Failure::new(Code::Unsupported, "clients open no streams in this release"));
                }
                Some(Incoming::Notify(_)) => tracing::debug!("an unknown notice of a client was ignored"),
            },
            Some(_) = jobs.join_next() => (),
        }
    }
}

async fn answer(services: ForClients, client: NodeId, request: Request) {
    let reply = match decode::<FromClient>(&request.body) {
        Ok(asked) => ask(&services, client, asked, request.deadline).await,
        Err(error) => Err(Failure::new(Code::Unsupported, error.to_string())),
    };
    request.reply(reply);
}

async fn ask(services: &ForClients, client: NodeId, asked: FromClient, deadline: Instant) -> Result<Vec<u8>, Failure> {
    let ForClients { relays, kv, .. } = services;
    let bounds = Bounds { hop: Hop::Allowed, deadline };
    match asked {
        FromClient::Request { node, request } => {
            let id = RequestId::from_u128(random_ulid());
            let reply = relays.ask(&Relay::json((id, node), request, bounds)).await?;
            json_reply(&reply).map(|reply| encode(&reply))
        }
        FromClient::Relay(asked) => relays.ask(&Relay::new(asked, bounds)).await.map(Vec::from),
        FromClient::Outcome(of) => relays.outcome(of, bounds).await.map(|reply| encode(&reply)),
        FromClient::Kv(asked) => operate(kv, client, asked).await.map(|reply| encode(&reply)),
    }
}
