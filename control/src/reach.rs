//! Finds the way to a worker: its session on this node, or the session with the control node that owns it.
//!
//! One hop among control nodes at most. Says apart a worker that is on its way (its owner has just changed, or its session
//! has just broken) from one that is gone: for the former it is worth to wait.

use crate::peers::Peers;
use crate::proxy::Proxies;
use crate::raft::Group;
use crate::ring::{self, Owner};
use longshore_state::Node;
use longshore_transport::{Session, Stream};
use longshore_wire::edge::{LogRequest, OpenWorker};
use longshore_wire::peer::OpenPeer;
use longshore_wire::task::NodeState;
use longshore_wire::{Code, Failure, NodeId, RequestId, Role, encode};
use std::time::Duration;

/// Without any sign of change, the way is looked for again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// Whether another control node may be asked. Whoever was asked by one does not: no request can circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hop {
    /// It may.
    Allowed,
    /// Only this node's own sessions count.
    Never,
}

/// The way to a worker at one moment.
#[derive(Debug)]
pub(crate) enum Route {
    /// Its session, and the boot that attached over it.
    Here(Session, RequestId),
    /// The session with its owner, and the worker's boot as this node knows it.
    There(Session, Option<RequestId>),
    /// There is none now, but there should be one soon.
    Coming(Failure),
    /// There is none.
    Gone(Failure),
}

/// Reaches workers. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    me: NodeId,
    group: Group,
    peers: Peers,
    proxies: Proxies,
}

impl Reach {
    pub(crate) fn new(me: NodeId, group: Group, peers: Peers, proxies: Proxies) -> Self {
        Self { me, group, peers, proxies }
    }

    /// The way to a worker now.
    pub(crate) fn route(&self, worker: NodeId, hop: Hop) -> Route {
        if let Some((session, boot)) = self.proxies.seated(worker) {
            return Route::Here(session, boot);
        }
        let state = self.group.state();
        let Some(node) = state.node(worker).filter(|node| node.is_worker()) else {
            return Route::Gone(Failure::new(Code::NotFound, format!("no worker {worker}; see `longshore node list`")));
        };
        match (ring::owner(&state, self.me, worker), hop) {
            (Owner::Me(_) | Owner::Nobody, _) if may_come(node) => Route::Coming(not_connected(worker)),
            (Owner::Me(_) | Owner::Nobody, _) => Route::Gone(not_connected(worker)),
            (Owner::Other(_), Hop::Never) => Route::Gone(Failure::new(
                Code::NotOwner,
                format!("this control node does not drive worker {worker} any more"),
            )),
            (Owner::Other(owner), Hop::Allowed) => match self.peers.session(owner.id) {
                Some(session) => Route::There(session, node.boot(Role::Worker)),
                None => Route::Coming(Failure::new(
                    Code::Unavailable,
                    format!("worker {worker} is driven by control node '{}', which is not reached now", owner.name),
                )),
            },
        }
    }

    /// Resolves when the way to a worker may have changed.
    pub(crate) async fn changed(&self) {
        let (mut state, mut peers) = (self.group.changed(), self.peers.changed());
        tokio::select! {
            Ok(()) = state.changed() => (),
            Ok(()) = peers.changed() => (),
            () = tokio::time::sleep(LOOK_AGAIN) => (),
        }
    }

    /// Opens a task's output.
    ///
    /// # Errors
    /// [`Code::NotFound`] for an unknown worker, [`Code::NotConnected`] without session, or the worker's own failure.
    pub(crate) async fn logs(&self, worker: NodeId, asked: LogRequest) -> Result<Stream, Failure> {
        match self.route(worker, Hop::Allowed) {
            Route::Here(session, _) => session.open(encode(&OpenWorker::Logs(asked))).await,
            Route::There(session, _) => session.open(encode(&OpenPeer::Logs { node: worker, request: asked })).await,
            Route::Coming(failure) | Route::Gone(failure) => Err(failure),
        }
    }

    /// The same for another control node.
    ///
    /// # Errors
    /// As [`Reach::logs`].
    pub(crate) async fn logs_here(&self, worker: NodeId, asked: LogRequest) -> Result<Stream, Failure> {
        let session = self.proxies.session(worker).ok_or_else(|| not_connected(worker))?;
        session.open(encode(&OpenWorker::Logs(asked))).await
    }
}

/// Whether the last word of a proxy is that the worker is connected: then its session has broken or moved just now.
fn may_come(worker: &Node) -> bool {
    !matches!(worker.state, NodeState::Launching | NodeState::NotConnected | NodeState::Stopped)
}

fn not_connected(worker: NodeId) -> Failure {
    Failure::new(Code::NotConnected, format!("worker {worker} has no live session now"))
}
