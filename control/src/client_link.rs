//! One session of an operator's program. Every request runs by itself; the session limits how many at a time.

use crate::reach::Reach;
use longshore_transport::{Inbound, Incoming, Request, Session};
use longshore_wire::client::FromClient;
use longshore_wire::{Code, Failure, decode};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Serves a client until its session ends.
pub(crate) async fn serve(reach: Reach, session: Session, mut inbound: Inbound) {
    tracing::info!(client = %session.peer().node, carrier = %session.peer().carrier, "client session");
    let mut jobs = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            incoming = inbound.next() => match incoming {
                None => return,
                Some(Incoming::Request(request)) => drop(jobs.spawn(answer(reach.clone(), request))),
                Some(Incoming::Open { stream, .. }) => {
                    stream.reset(Failure::new(Code::Unsupported, "clients open no streams in this release"));
                }
                Some(Incoming::Notify(_)) => tracing::debug!("an unknown notice of a client was ignored"),
            },
            Some(_) = jobs.join_next() => (),
        }
    }
}

async fn answer(reach: Reach, request: Request) {
    let reply = match decode::<FromClient>(&request.body) {
        Ok(FromClient::Request { node, request: asked }) => {
            let wait = request.deadline.saturating_duration_since(Instant::now());
            reach.request(node, asked, wait).await.map(Vec::from)
        }
        Err(error) => Err(Failure::new(Code::Unsupported, error.to_string())),
    };
    request.reply(reply);
}
