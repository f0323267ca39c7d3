//! Keeps a session with every control node that is known, and finds others through discovery while alone.

use super::Peers;
use longshore_transport::{Backoff, Dialled, Race, Session, dial, prove};
use longshore_wire::handshake::RejectCode;
use longshore_wire::{ClusterUri, Code, Endpoint, Failure, NodeId, Role};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

/// The node with the larger id lets the other one dial first: two sessions at once are legal, but a waste.
const COURTESY: Duration = Duration::from_secs(1);
/// A session that lasted so long was really established; the next pause is short again.
const ESTABLISHED: Duration = Duration::from_secs(5);
/// Longest time that a control node can ask to be left alone.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Without any session for so long, registered addresses are not enough, and discovery is asked.
const ALONE: Duration = Duration::from_secs(5);

/// An address at which another node has answered is left alone for so long while that node is connected.
const ELSEWHERE: Duration = Duration::from_secs(60);

/// When one node of the cluster is reached, others have so long to come too before the caller goes on without them.
const LINGER: Duration = Duration::from_millis(250);
/// Endpoints dialled at a time while every control node is wanted: as many as one URI leads to at most.
const MAX_AT_ONCE: usize = 256;

/// Who answered in a node's stead, and when.
pub(super) type Strangers = HashMap<Endpoint, (NodeId, Instant)>;

/// Runs one redial loop per known node.
pub(super) async fn keep_known(peers: Peers) {
    let mut known = peers.0.known.subscribe();
    let mut banished = peers.0.banished.subscribe();
    let mut loops = JoinSet::new();
    let mut running: BTreeMap<NodeId, (Vec<ClusterUri>, CancellationToken)> = BTreeMap::new();
    loop {
        let mut wanted = known.borrow_and_update().clone();
        wanted.remove(&peers.me().node);
        wanted.retain(|node, _| !banished.borrow_and_update().contains(node));
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
            changed = banished.changed() => if changed.is_err() { return },
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
        let asked = until_gone(&peers, node).await;
        if since.elapsed() >= ESTABLISHED {
            backoff.reset();
        }
        if let Some(asked) = asked {
            // The jitter comes on top: those that were all told the same do not come back in step.
            away(&peers, node, asked.min(LONGEST_WAIT) + backoff.next()).await;
        } else if since.elapsed() < ESTABLISHED {
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

/// Resolves when the last session has ended; gives the time for which the other side asks to be left alone.
async fn until_gone(peers: &Peers, node: NodeId) -> Option<Duration> {
    let mut asked = None;
    while let Some(session) = peers.session(node) {
        asked = session.ended().await.retry_after;
    }
    asked
}

/// Leaves a node alone for so long, unless it comes by itself.
async fn away(peers: &Peers, node: NodeId, time: Duration) {
    let mut changed = peers.changed();
    let come = async { while peers.session(node).is_none() && changed.changed().await.is_ok() {} };
    let _ = tokio::time::timeout(time, come).await;
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

/// Dials the addresses until one leads to this control node.
pub(super) async fn dial_any(
    peers: &Peers,
    node: NodeId,
    addresses: &[ClusterUri],
    strangers: &mut Strangers,
) -> Result<(), String> {
    peers.0.may_dial().await?;
    let mut failures = BTreeSet::new();
    let mut endpoints = Vec::new();
    for uri in addresses {
        match peers.0.options.discovery.resolve(uri).await {
            Ok(resolution) => endpoints.extend(resolution.endpoints),
            Err(error) => drop(failures.insert(error.to_string())),
        }
    }
    endpoints.retain(|endpoint| {
        let stranger = strangers.get(endpoint).filter(|(_, since)| since.elapsed() < ELSEWHERE);
        let connected = stranger.filter(|(found, _)| peers.session(*found).is_some());
        failures.extend(connected.map(|(found, _)| format!("{endpoint} is control node {found} now")));
        connected.is_none()
    });
    let mut race = Race::new(endpoints, &peers.0.options.dial);
    while let Some(dialled) = race.next().await {
        let endpoint = dialled.endpoint.clone();
        failures.insert(match meet(peers, dialled, Some(node)).await {
            Ok(Met::Node(found)) if node == found => return Ok(()),
            Ok(Met::Node(found)) => {
                strangers.retain(|_, (_, since)| since.elapsed() < ELSEWHERE);
                strangers.insert(endpoint.clone(), (found, Instant::now()));
                format!("{endpoint} is control node {found} now")
            }
            Ok(Met::Myself) => format!("{endpoint} is this node itself"),
            Err(error) => error,
        });
    }
    if failures.is_empty() {
        return Err("it has registered no address".to_owned());
    }
    // In the same order each time, so that the same complaint is known again.
    Err(failures.into_iter().collect::<Vec<_>>().join("; "))
}

/// Dials everything that the URIs lead to, and waits for the last only until a moment behind the first that answers. The
/// others go on by themselves. Returns a sentence that says what came of it.
pub(super) async fn dial_all(peers: &Peers, uris: &[ClusterUri]) -> String {
    if let Err(why) = peers.0.may_dial().await {
        return why;
    }
    let endpoints = match peers.0.options.discovery.resolve_all(uris).await {
        Ok(resolution) => resolution.endpoints,
        Err(error) => return error.to_string(),
    };
    let mut found = BTreeSet::new();
    let mut failures = BTreeSet::new();
    let (told, mut tales) = mpsc::channel(MAX_AT_ONCE);
    for endpoint in endpoints {
        let behind = peers.0.behind().get(&endpoint).copied();
        if behind.is_some_and(|node| node == peers.me().node || peers.session(node).is_some()) {
            found.extend(behind.filter(|node| *node != peers.me().node).map(|node| node.to_string()));
            continue;
        }
        if !take(peers, &endpoint) {
            failures.insert(format!("{endpoint} has not answered yet"));
            continue;
        }
        let stop = peers.0.stop.clone();
        let dialling = dial_one(peers.clone(), endpoint, told.clone());
        peers.0.tracker.spawn(stop.run_until_cancelled_owned(dialling));
    }
    drop(told);
    let mut end = None;
    let forever = || Instant::now() + Duration::from_secs(3600);
    // Every dial has a deadline of its own: the channel closes with the last.
    while let Ok(Some(tale)) = timeout_at(end.unwrap_or_else(forever), tales.recv()).await {
        match tale {
            Ok(Met::Node(node)) => {
                found.insert(node.to_string());
                end.get_or_insert_with(|| Instant::now() + LINGER);
            }
            Ok(Met::Myself) => (),
            Err(error) => drop(failures.insert(error)),
        }
    }
    match (found.is_empty(), failures.is_empty()) {
        (false, _) => format!("control nodes {}", found.into_iter().collect::<Vec<_>>().join(", ")),
        (true, false) => failures.into_iter().collect::<Vec<_>>().join("; "),
        (true, true) => "discovery leads only to this node itself".to_owned(),
    }
}

/// Takes an endpoint to be dialled; not while it is being dialled already.
fn take(peers: &Peers, endpoint: &Endpoint) -> bool {
    let mut dialled = peers.0.under_way();
    dialled.len() < MAX_AT_ONCE && dialled.insert(endpoint.clone())
}

/// Dials one endpoint for [`dial_all`], and tells what came of it if anybody still listens.
async fn dial_one(peers: Peers, endpoint: Endpoint, told: mpsc::Sender<Result<Met, String>>) {
    let begun = Instant::now();
    let result = dial(&endpoint, &peers.0.options.dial).await;
    let met = meet(&peers, Dialled { endpoint: endpoint.clone(), result, took: begun.elapsed() }, None).await;
    match &met {
        Ok(Met::Node(node)) => drop(peers.0.behind().insert(endpoint.clone(), *node)),
        Ok(Met::Myself) => drop(peers.0.behind().insert(endpoint.clone(), peers.me().node)),
        Err(_) => (),
    }
    peers.0.under_way().remove(&endpoint);
    let _ = told.send(met).await;
}

/// Who answered.
enum Met {
    Node(NodeId),
    Myself,
}

async fn meet(peers: &Peers, dialled: Dialled, expected: Option<NodeId>) -> Result<Met, String> {
    let options = &peers.0.options;
    let (endpoint, link) = (dialled.endpoint, dialled.result.map_err(|error| error.to_string())?);
    let proven = match prove(link, &options.me, &options.keyring, Role::Control).await {
        Ok(proven) => proven,
        Err(error) if error.code() == Some(RejectCode::SelfDialled) => return Ok(Met::Myself),
        Err(error) => {
            peers.0.note_refusal(&error);
            return Err(format!("{endpoint}: {error}"));
        }
    };
    let node = proven.peer.node;
    let (session, inbound) = Session::start_with(proven, options.session.clone(), peers.first());
    // At the address of a node that is gone for good stands another one, which is dialled again and again in its stead:
    // its session must not be replaced, and all tunnels on it cut, each time.
    if expected.is_some_and(|expected| expected != node) && peers.session(node).is_some() {
        session.close(Failure::new(Code::Conflict, "another control node was looked for at this address"));
    } else {
        peers.adopt(session, inbound);
    }
    Ok(Met::Node(node))
}
