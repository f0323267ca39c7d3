//! One session with a control node: what arrives goes to whoever answers it.

use super::Peers;
use longshore_transport::{First, Inbound, Incoming, Peer, Request, Session, Stream};
use longshore_wire::peer::{OpenPeer, PeerRequest, SUPERSEDED_VERSION};
use longshore_wire::{Code, Failure, decode, encode};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// An answer under way.
pub(crate) type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// After so long an older session with the same node is closed: what is under way on it may finish.
pub(super) const DRAIN: Duration = Duration::from_secs(2);
/// It waits this much longer at most for requests that are under way then, in either direction.
const UNDER_WAY: Duration = Duration::from_secs(10);
/// Time for the peer to hear that it shall send nothing new over a session.
const WORD: Duration = Duration::from_secs(1);
/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(25);

/// Answers what control nodes ask.
pub(crate) trait Serve: Send + Sync + 'static {
    /// Answers a request with the reply's encoding.
    fn request(&self, from: Peer, request: PeerRequest) -> Answer<Result<Vec<u8>, Failure>>;

    /// Settles a request on the session's reader, or gives it back; must not wait.
    fn relay(&self, request: Request) -> Option<Request> {
        Some(request)
    }

    /// Takes a stream. It owns it from now on.
    fn open(&self, from: Peer, head: OpenPeer, stream: Stream) -> Answer<()>;
}

/// Who answers; nobody before the start is complete, and after the stop.
#[derive(Default)]
pub(super) struct Handler(Mutex<Option<Arc<dyn Serve>>>);

impl Handler {
    pub(super) fn set(&self, handler: Option<Arc<dyn Serve>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = handler;
    }

    fn get(&self) -> Result<Arc<dyn Serve>, Failure> {
        let handler = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        handler.ok_or_else(|| Failure::new(Code::Unavailable, "this control node is starting or stopping"))
    }
}

/// Lets the group and the node settle short requests where they arrive.
pub(super) struct Relayed(pub(super) Peers);

impl First for Relayed {
    fn take(&self, request: Request) -> Option<Request> {
        // Where there is no handler, whoever answers in its place says why.
        [&self.0.0.group, &self.0.0.rest].into_iter().try_fold(request, |request, place| match place.get() {
            Ok(handler) => handler.relay(request),
            Err(_) => Some(request),
        })
    }
}

/// Serves the session until it ends.
pub(super) async fn run(peers: Peers, session: Session, number: u64, inbound: Inbound) {
    let node = session.peer().node;
    retire_older(&peers, &session, number);
    dispatch(&peers, &session, number, inbound).await;
    let reason = session.closed().await;
    peers.0.table.remove(node, number);
    tracing::info!(peer = %node, %reason, "the session with a control node has ended");
}

fn retire_older(peers: &Peers, session: &Session, number: u64) {
    let older = peers.0.table.superseded(session.peer().node, number);
    if older.is_empty() {
        return;
    }
    let (stop, newer) = (peers.0.stop.clone(), session.clone());
    peers.0.tracker.spawn(async move {
        let quiet = async {
            sleep(DRAIN).await;
            // Of two that were made at the same time the peer may take the older one for the newer.
            for session in older.iter().filter(|session| session.peer().version >= SUPERSEDED_VERSION) {
                let _ = session.request(encode(&PeerRequest::Superseded), WORD).await;
            }
            let _ = timeout(UNDER_WAY, until_idle(&older)).await;
        };
        tokio::select! {
            () = stop.cancelled() => (),
            () = quiet => (),
            // It has not lasted: the older one is what there is.
            _ = newer.closed() => return,
        }
        for session in older {
            session.close(Failure::new(Code::Conflict, "a newer session between the same two nodes has taken over"));
        }
    });
}

async fn until_idle(sessions: &[Session]) {
    while sessions.iter().any(|session| session.calls() + session.served() > 0) {
        sleep(LOOK).await;
    }
}

async fn dispatch(peers: &Peers, session: &Session, number: u64, mut inbound: Inbound) {
    while let Some(incoming) = inbound.next().await {
        match incoming {
            Incoming::Request(request) => {
                let (peers, from) = (peers.clone(), session.peer().clone());
                peers.0.tracker.clone().spawn(async move { answer(&peers, from, number, request).await });
            }
            Incoming::Open { head, stream } => {
                let (peers, from) = (peers.clone(), session.peer().clone());
                peers.0.tracker.clone().spawn(async move { take(&peers, from, &head, stream).await });
            }
            Incoming::Notify(_) => tracing::debug!(peer = %session.peer().node, "an unknown notice was ignored"),
        }
    }
}

async fn answer(peers: &Peers, from: Peer, number: u64, request: Request) {
    let cancelled = request.cancelled();
    let reply = match decode::<PeerRequest>(&request.body) {
        Ok(PeerRequest::Superseded) => {
            peers.0.table.stand_back(from.node, number);
            Ok(Vec::new())
        }
        Ok(asked) => tokio::select! {
            reply = ask(peers, from, asked) => reply,
            // Nobody waits any more; what was begun inside goes on or not, as its own owner decides.
            () = cancelled.cancelled() => Err(Failure::unknown(Code::Timeout, "the asker has given up")),
        },
        Err(error) => Err(Failure::new(Code::Unsupported, format!("{error}; the peer may run a newer release"))),
    };
    request.reply(reply);
}

async fn ask(peers: &Peers, from: Peer, request: PeerRequest) -> Result<Vec<u8>, Failure> {
    let handler = match &request {
        PeerRequest::Raft { .. } | PeerRequest::Propose { .. } | PeerRequest::ReadIndex | PeerRequest::Confirm(_) => {
            peers.0.group.get()
        }
        PeerRequest::Join(_)
        | PeerRequest::Worker { .. }
        | PeerRequest::Leaving
        | PeerRequest::Superseded
        | PeerRequest::Relay(_)
        | PeerRequest::Outcome(_)
        | PeerRequest::CredentialUse { .. }
        | PeerRequest::Vitals => peers.0.rest.get(),
    }?;
    handler.request(from, request).await
}

async fn take(peers: &Peers, from: Peer, head: &[u8], stream: Stream) {
    let opened = decode::<OpenPeer>(head).map_err(|error| Failure::new(Code::Unsupported, error.to_string()));
    let handled = opened.and_then(|head| {
        let handler = match &head {
            OpenPeer::Snapshot { .. } | OpenPeer::SnapshotChunks { .. } => peers.0.group.get(),
            OpenPeer::PutBlob { .. } | OpenPeer::GetBlob { .. } | OpenPeer::Tunnel { .. } | OpenPeer::Logs { .. } => {
                peers.0.rest.get()
            }
        }?;
        Ok((handler, head))
    });
    match handled {
        Ok((handler, head)) => handler.open(from, head, stream).await,
        Err(failure) => stream.reset(failure),
    }
}
