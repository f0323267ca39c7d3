//! One session of an operator's program. Every request runs by itself; the session limits how many at a time.
//!
//! Relays never come here: they are settled where they arrive ([`crate::relay`]), but for those in a rare form.

use crate::identity::random_ulid;
use crate::reach::Hop;
use crate::relay::{Bounds, Relay, Relays, json_reply};
use longshore_transport::{Inbound, Incoming, Request, Session};
use longshore_wire::client::FromClient;
use longshore_wire::{Code, Failure, RequestId, decode, encode};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Serves a client until its session ends.
pub(crate) async fn serve(relays: Relays, session: Session, mut inbound: Inbound) {
    tracing::info!(client = %session.peer().node, carrier = %session.peer().carrier, "client session");
    let mut jobs = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            incoming = inbound.next() => match incoming {
                None => return,
                Some(Incoming::Request(request)) => drop(jobs.spawn(answer(relays.clone(), request))),
                Some(Incoming::Open { stream, .. }) => {
                    stream.reset(Failure::new(Code::Unsupported, "clients open no streams in this release"));
                }
                Some(Incoming::Notify(_)) => tracing::debug!("an unknown notice of a client was ignored"),
            },
            Some(_) = jobs.join_next() => (),
        }
    }
}

async fn answer(relays: Relays, request: Request) {
    let reply = match decode::<FromClient>(&request.body) {
        Ok(asked) => ask(&relays, asked, request.deadline).await,
        Err(error) => Err(Failure::new(Code::Unsupported, error.to_string())),
    };
    request.reply(reply);
}

async fn ask(relays: &Relays, asked: FromClient, deadline: Instant) -> Result<Vec<u8>, Failure> {
    let bounds = Bounds { hop: Hop::Allowed, deadline };
    match asked {
        FromClient::Request { node, request } => {
            let id = RequestId::from_u128(random_ulid());
            let reply = relays.ask(&Relay::json((id, node), request, bounds)).await?;
            json_reply(&reply).map(|reply| encode(&reply))
        }
        FromClient::Relay(asked) => relays.ask(&Relay::new(asked, bounds)).await.map(Vec::from),
        FromClient::Outcome(of) => relays.outcome(of, bounds).await.map(|reply| encode(&reply)),
    }
}
