//! The sessions to the other control nodes: whoever dialled, one that counts per node.
//!
//! ```text
//! accept ─ adopt ─┐                       ┌─ Raft, proposals, reads ─▶ Group
//!                 ├─▶ table: node→session ┼
//! redial loops ───┘      ▲                └─ everything else ────────▶ the node's own handler
//!   (addresses from the state, discovery while nobody is connected)
//! ```
//!
//! The newest session to a node is the one that is used. When both sides dial at once, the node with the smaller id
//! closes the older session a moment later, so that never both close and none is left. An entry is removed only by its
//! own session. Must never open a connection for a single call, and never judge what a peer asks for.

mod dialler;
mod fresh;
mod join;
mod serve;
mod table;

pub(crate) use serve::{Answer, Serve};

use self::fresh::Rest;
use self::serve::Handler;
use self::table::Table;
use longshore_discovery::Discovery;
use longshore_transport::{DialOptions, First, Identity, Inbound, Keyring, Session, SessionOptions};
use longshore_wire::peer::{Join, OpenPeer, PeerRequest};
use longshore_wire::{ClusterUri, Code, Endpoint, Failure, NodeId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Others shall not dial a node that stops before this.
const STOPPING: Duration = Duration::from_secs(1);

/// What the sessions among control nodes need.
pub(crate) struct PeersOptions {
    /// Who this node says it is. The group sets the cluster's id in it, once known.
    pub(crate) me: Identity,
    /// How it presents itself to a group that shall take it in.
    pub(crate) join: Join,
    /// The control nodes' common secret.
    pub(crate) keyring: Keyring,
    /// Resolves addresses.
    pub(crate) discovery: Discovery,
    /// Where control nodes are found when no address is known.
    pub(crate) uris: Vec<ClusterUri>,
    /// How others are dialled.
    pub(crate) dial: DialOptions,
    /// Clocks and limits of the sessions.
    pub(crate) session: SessionOptions,
}

/// The sessions to the other control nodes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Shared>);

struct Shared {
    options: PeersOptions,
    table: Table,
    known: watch::Sender<BTreeMap<NodeId, Vec<ClusterUri>>>,
    /// Control nodes whose own credential was revoked.
    banished: watch::Sender<BTreeSet<NodeId>>,
    group: Handler,
    rest: Handler,
    /// Who answered at an endpoint that discovery gave, so that connected nodes are not dialled again and again.
    behind: Mutex<HashMap<Endpoint, NodeId>>,
    /// Endpoints of discovery that are being dialled.
    under_way: Mutex<HashSet<Endpoint>>,
    /// Until when nobody is dialled, because the own credential was revoked.
    revoked: Mutex<Option<Rest>>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Shared {
    fn behind(&self) -> MutexGuard<'_, HashMap<Endpoint, NodeId>> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn under_way(&self) -> MutexGuard<'_, HashSet<Endpoint>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peers {
    /// Starts to keep sessions. Must be called within a tokio runtime.
    pub(crate) fn start(options: PeersOptions) -> Self {
        let me = options.me.node;
        let peers = Self(Arc::new(Shared {
            options,
            table: Table::new(me),
            known: watch::Sender::new(BTreeMap::new()),
            banished: watch::Sender::new(BTreeSet::new()),
            group: Handler::default(),
            rest: Handler::default(),
            behind: Mutex::default(),
            under_way: Mutex::default(),
            revoked: Mutex::default(),
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
        }));
        peers.0.tracker.spawn(dialler::keep_known(peers.clone()));
        peers.0.tracker.spawn(dialler::seek_when_alone(peers.clone()));
        peers.0.tracker.spawn(fresh::run(peers.clone()));
        peers
    }

    /// Who this node says it is.
    pub(crate) fn me(&self) -> &Identity {
        &self.0.options.me
    }

    /// Says who answers everything that is not the group's: Worker, Join, blobs, tunnels, logs. Until then such requests
    /// are refused as `Unavailable`.
    pub(crate) fn serve(&self, handler: Arc<dyn Serve>) {
        self.0.rest.set(Some(handler));
    }

    /// Says who answers Raft messages, proposals, read indexes and snapshots.
    pub(crate) fn serve_group(&self, handler: Arc<dyn Serve>) {
        self.0.group.set(Some(handler));
    }

    /// Whoever settles some requests of a session with a control node where they arrive.
    pub(crate) fn first(&self) -> Arc<dyn First> {
        Arc::new(serve::Relayed(self.clone()))
    }

    /// Takes over a proven session with a control node and serves it until it ends.
    pub(crate) fn adopt(&self, session: Session, inbound: Inbound) {
        if self.0.banished.borrow().contains(&session.peer().node) {
            session.close(banished());
            return;
        }
        if self.0.stop.is_cancelled() {
            session.close(Failure::new(Code::Unavailable, "this control node is stopping"));
            return;
        }
        let number = self.0.table.insert(&session);
        tracing::info!(peer = %session.peer().node, carrier = %session.peer().carrier, "session with a control node");
        self.0.tracker.spawn(serve::run(self.clone(), session, number, inbound));
    }

    /// The session with this node, if there is one.
    pub(crate) fn session(&self, node: NodeId) -> Option<Session> {
        self.0.table.get(node)
    }

    /// The nodes with a session, in order of their ids.
    pub(crate) fn connected(&self) -> Vec<NodeId> {
        self.0.table.nodes()
    }

    /// Says with whom nobody shall talk any more: their sessions are cut, and they are not dialled.
    pub(crate) fn banish(&self, nodes: BTreeSet<NodeId>) {
        self.0.banished.send_if_modified(|known| {
            let differs = *known != nodes;
            *known = nodes;
            differs
        });
        let banned = self.0.banished.borrow().clone();
        for session in self.sessions().iter().filter(|session| banned.contains(&session.peer().node)) {
            session.close(banished());
        }
    }

    /// All sessions with control nodes.
    pub(crate) fn sessions(&self) -> Vec<Session> {
        self.0.table.all()
    }

    /// What this node proves itself with.
    pub(crate) fn keyring(&self) -> &Keyring {
        &self.0.options.keyring
    }

    /// Wakes when a session has come or gone.
    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.0.table.changed()
    }

    /// Says which control nodes there are and where; sessions with all of them are kept from now on.
    pub(crate) fn know(&self, nodes: BTreeMap<NodeId, Vec<ClusterUri>>) {
        self.0.known.send_if_modified(|known| {
            let differs = *known != nodes;
            *known = nodes;
            differs
        });
    }

    /// Asks a node over its session.
    ///
    /// # Errors
    /// `Unavailable` (not done) without a session; else what the session or the peer says.
    pub(crate) async fn request(
        &self,
        node: NodeId,
        request: &PeerRequest,
        timeout: Duration,
    ) -> Result<bytes::Bytes, Failure> {
        let session = self.session(node).ok_or_else(|| no_session(node))?;
        session.request(longshore_wire::encode(request), timeout).await
    }

    /// Opens a stream to a node over its session.
    ///
    /// # Errors
    /// `Unavailable` (not done) without a session; else what the session says.
    pub(crate) async fn open(&self, node: NodeId, head: &OpenPeer) -> Result<longshore_transport::Stream, Failure> {
        let session = self.session(node).ok_or_else(|| no_session(node))?;
        session.open(longshore_wire::encode(head)).await
    }

    /// Whether there is anywhere to ask for a cluster.
    pub(crate) fn has_seeds(&self) -> bool {
        !self.0.options.uris.is_empty()
    }

    /// Asks the cluster to take this node in, until `done` is cancelled. Says in the log what it waits for.
    pub(crate) fn seek_membership(&self, done: CancellationToken) {
        self.0.tracker.spawn(join::run(self.clone(), done));
    }

    /// Asks the connected nodes in turn to take this node in, once; `None` when there is none.
    pub(crate) async fn ask_to_join(&self) -> Option<Result<(), Failure>> {
        join::ask_all(self).await
    }

    /// Ends all sessions, and waits for their conversations at most `deadline`.
    pub(crate) async fn stop(&self, deadline: Duration) {
        self.0.stop.cancel();
        self.0.table.steer_all(&Failure::new(Code::Unavailable, "this control node is stopping"), STOPPING);
        self.0.tracker.close();
        let _ = tokio::time::timeout(deadline, self.0.tracker.wait()).await;
        // The handlers hold this in turn.
        self.0.group.set(None);
        self.0.rest.set(None);
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("connected", &self.connected()).finish_non_exhaustive()
    }
}

fn banished() -> Failure {
    let why = "this control node's own credential was revoked; make it another one (`longshore credential create control --node`)";
    Failure::new(Code::Unauthenticated, why)
}

fn no_session(node: NodeId) -> Failure {
    Failure::new(Code::Unavailable, format!("no session with control node {node} now"))
}

#[cfg(test)]
mod tests;
