//! A node that belongs to no group yet asks to be taken in. It never founds a group of its own.

use super::{Peers, dialler};
use longshore_wire::Failure;
use longshore_wire::peer::PeerRequest;
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Time for one answer: the group commits two entries and may be amidst an election.
const ANSWER: Duration = Duration::from_secs(15);
/// Pause between two rounds.
const PAUSE: Duration = Duration::from_secs(1);
/// Time that the leader has to begin sending its log to a node that it has taken in.
const TAKE_IN: Duration = Duration::from_secs(10);

/// Dials what discovery finds and asks each in turn, until `done`.
pub(super) async fn run(peers: Peers, done: CancellationToken) {
    let stop = peers.0.stop.clone();
    tokio::select! {
        biased;
        () = stop.cancelled() => (),
        () = done.cancelled() => tracing::info!("this control node belongs to the cluster now"),
        () = ask_until_taken_in(&peers) => (),
    }
}

async fn ask_until_taken_in(peers: &Peers) {
    let options = &peers.0.options;
    let uris = options.uris.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let cluster = &options.me.cluster;
    tracing::info!(cluster, uris, "this control node belongs to no cluster yet; it asks to be taken in");
    let mut complaint = String::new();
    loop {
        let found = dialler::dial_all(peers, &options.uris).await;
        let waits_for = match ask_all(peers).await {
            Some(Ok(())) => {
                tracing::info!(cluster, "taken in; waiting for the leader's log");
                sleep(TAKE_IN).await;
                continue;
            }
            Some(Err(failure)) => failure.message,
            None => format!("no control node of the cluster is reached: {found}"),
        };
        if waits_for != complaint {
            tracing::warn!(
                cluster,
                waits_for,
                "still waiting to be taken in; if this is the very first control node, start it once with --bootstrap"
            );
            complaint = waits_for;
        }
        sleep(PAUSE).await;
    }
}

/// Asks the connected nodes in turn; `None` when there is none.
pub(super) async fn ask_all(peers: &Peers) -> Option<Result<(), Failure>> {
    let request = PeerRequest::Join(peers.0.options.join.clone());
    let mut last = None;
    for node in peers.connected() {
        match peers.request(node, &request, ANSWER).await {
            Ok(_) => return Some(Ok(())),
            Err(failure) => last = Some(Err(failure)),
        }
    }
    last
}
