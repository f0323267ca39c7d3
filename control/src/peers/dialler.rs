//! Keeps a session with every control node that is known, and finds others through discovery while alone.

use super::Peers;
use longshore_transport::{Backoff, Session, dial, prove};
use longshore_wire::handshake::RejectCode;
use longshore_wire::{ClusterUri, Code, Endpoint, Failure, NodeId, Role};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// The node with the larger id lets the other one dial first: two sessions at once are legal, but a waste.
const COURTESY: Duration = Duration::from_secs(1);
/// A session that lasted so long was really established; the next pause is short again.
const ESTABLISHED: Duration = Duration::from_secs(5);
/// Without any session for so long, registered addresses are not enough, and discovery is asked.
const ALONE: Duration = Duration::from_secs(5);

/// An address at which another node has answered is left alone for so long while that node is connected.
const ELSEWHERE: Duration = Duration::from_secs(60);

/// Who answered in a node's stead, and when.
type Strangers = HashMap<Endpoint, (NodeId, Instant)>;

/// Runs one redial loop per known node.
pub(super) async fn keep_known(peers: Peers) {
    let mut known = peers.0.known.subscribe();
    let mut loops = JoinSet::new();
    let mut running: BTreeMap<NodeId, (Vec<ClusterUri>, CancellationToken)> = BTreeMap::new();
    loop {
        let mut wanted = known.borrow_and_update().clone();
        wanted.remove(&peers.me().node);
        running.retain(|node, (addresses, stop)| {
            let keep = wanted.get(node) == Some(addresses);
            if !keep {
                stop.cancel();
            }
            keep
        });
        for (node, addresses) in wanted {
            running.entry(node).or_insert_with(|| {
                let stop = peers.0.stop.child_token();
                loops.spawn(stop.clone().run_until_cancelled_owned(redial(peers.clone(), node, addresses.clone())));
                (addresses, stop)
            });
        }
        tokio::select! {
            biased;
            () = peers.0.stop.cancelled() => return,
            Some(_) = loops.join_next() => {}
            changed = known.changed() => if changed.is_err() { return },
        }
    }
}

/// Dials one node whenever there is no session with it.
async fn redial(peers: Peers, node: NodeId, addresses: Vec<ClusterUri>) {
    let mut backoff = Backoff::default();
    let mut complaint = String::new();
    let mut strangers = Strangers::new();
    loop {
        if peers.session(node).is_none() {
            if peers.me().node > node {
                sleep(COURTESY).await;
            }
            if peers.session(node).is_none()
                && let Err(error) = dial_any(&peers, node, &addresses, &mut strangers).await
            {
                complain(node, &mut complaint, error);
                sleep(backoff.next()).await;
                continue;
            }
        }
        complaint.clear();
        let since = Instant::now();
        until_gone(&peers, node).await;
        if since.elapsed() >= ESTABLISHED {
            backoff.reset();
        } else {
            sleep(backoff.next()).await;
        }
    }
}

/// The same complaint is not repeated at every attempt.
fn complain(node: NodeId, last: &mut String, error: String) {
    if *last == error {
        tracing::debug!(peer = %node, error, "control node still not reached");
    } else {
        tracing::warn!(peer = %node, error, "control node not reached");
        *last = error;
    }
}

async fn until_gone(peers: &Peers, node: NodeId) {
    while let Some(session) = peers.session(node) {
        session.closed().await;
    }
}

/// Asks discovery whenever this node has had no session at all for a while although it knows of others.
pub(super) async fn seek_when_alone(peers: Peers) {
    let stop = peers.0.stop.clone();
    let seek = async {
        loop {
            sleep(ALONE).await;
            let others = peers.0.known.borrow().keys().any(|node| *node != peers.me().node);
            if others && peers.connected().is_empty() {
                let found = dial_all(&peers, &peers.0.options.uris).await;
                tracing::info!(found, "no other control node is reached; discovery was asked");
            }
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => (),
        () = seek => (),
    }
}

/// Dials the addresses in turn until one leads to this control node.
async fn dial_any(
    peers: &Peers,
    node: NodeId,
    addresses: &[ClusterUri],
    strangers: &mut Strangers,
) -> Result<(), String> {
    let mut last = "it has registered no address".to_owned();
    for uri in addresses {
        let endpoints = match peers.0.options.discovery.resolve(uri).await {
            Ok(resolution) => resolution.endpoints,
            Err(error) => {
                last = error.to_string();
                continue;
            }
        };
        for endpoint in endpoints {
            let stranger = strangers.get(&endpoint).filter(|(_, since)| since.elapsed() < ELSEWHERE);
            if let Some((found, _)) = stranger.filter(|(found, _)| peers.session(*found).is_some()) {
                last = format!("{endpoint} is control node {found} now");
                continue;
            }
            match dial_one(peers, &endpoint, Some(node)).await {
                Ok(Dialled::Node(found)) if node == found => return Ok(()),
                Ok(Dialled::Node(found)) => {
                    last = format!("{endpoint} is control node {found} now");
                    strangers.retain(|_, (_, since)| since.elapsed() < ELSEWHERE);
                    strangers.insert(endpoint, (found, Instant::now()));
                }
                Ok(Dialled::Myself) => last = format!("{endpoint} is this node itself"),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

/// Dials everything that the URIs lead to. Returns a sentence that says what came of it.
pub(super) async fn dial_all(peers: &Peers, uris: &[ClusterUri]) -> String {
    let endpoints = match peers.0.options.discovery.resolve_all(uris).await {
        Ok(resolution) => resolution.endpoints,
        Err(error) => return error.to_string(),
    };
    let mut failures = Vec::new();
    let mut found = Vec::new();
    for endpoint in endpoints {
        let behind = peers.0.behind().get(&endpoint).copied();
        if behind.is_some_and(|node| node == peers.me().node || peers.session(node).is_some()) {
            found.extend(behind.filter(|node| *node != peers.me().node).map(|node| node.to_string()));
            continue;
        }
        match dial_one(peers, &endpoint, None).await {
            Ok(Dialled::Node(node)) => {
                peers.0.behind().insert(endpoint, node);
                found.push(node.to_string());
            }
            Ok(Dialled::Myself) => drop(peers.0.behind().insert(endpoint, peers.me().node)),
            Err(error) => failures.push(error),
        }
    }
    match (found.is_empty(), failures.is_empty()) {
        (false, _) => format!("control nodes {}", found.join(", ")),
        (true, false) => failures.join("; "),
        (true, true) => "discovery leads only to this node itself".to_owned(),
    }
}

/// Who answered.
enum Dialled {
    Node(NodeId),
    Myself,
}

async fn dial_one(peers: &Peers, endpoint: &Endpoint, expected: Option<NodeId>) -> Result<Dialled, String> {
    let options = &peers.0.options;
    let link = dial(endpoint, &options.dial).await.map_err(|error| error.to_string())?;
    let proven = match prove(link, &options.me, &options.keyring, Role::Control).await {
        Ok(proven) => proven,
        Err(error) if error.code() == Some(RejectCode::SelfDialled) => return Ok(Dialled::Myself),
        Err(error) => return Err(format!("{endpoint}: {error}")),
    };
    let node = proven.peer.node;
    let (session, inbound) = Session::start(proven, options.session.clone());
    // At the address of a node that is gone for good stands another one, which is dialled again and again in its stead:
    // its session must not be replaced, and all tunnels on it cut, each time.
    if expected.is_some_and(|expected| expected != node) && peers.session(node).is_some() {
        session.close(Failure::new(Code::Conflict, "another control node was looked for at this address"));
    } else {
        peers.adopt(session, inbound);
    }
    Ok(Dialled::Node(node))
}
