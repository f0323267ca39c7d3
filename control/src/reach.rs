//! Reaches a worker wherever its session is: on this node, or through the session with the control node that owns it.
//!
//! The path of a class request is short on purpose: client's session → this table → worker's session. It goes past the
//! proxy's actor, and past the owner lookup while the worker's session is here. One hop among control nodes at most.

use crate::peers::Peers;
use crate::proxy::Proxies;
use crate::raft::Group;
use crate::ring::{self, Owner};
use bytes::Bytes;
use longshore_transport::Stream;
use longshore_wire::edge::{ClassRequest, LogRequest, OpenWorker, ToWorker};
use longshore_wire::peer::{OpenPeer, PeerRequest};
use longshore_wire::{Code, Failure, NodeId, encode};
use std::time::Duration;

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

    /// Asks a worker's job class. The reply is an encoded JSON value.
    ///
    /// # Errors
    /// [`Code::NotFound`] for an unknown worker, [`Code::NotConnected`] without session, [`Code::Timeout`], or the
    /// worker's own failure.
    pub(crate) async fn request(&self, worker: NodeId, asked: ClassRequest, wait: Duration) -> Result<Bytes, Failure> {
        match self.proxies.session(worker) {
            Some(session) => session.request(encode(&ToWorker::Request(asked)), wait).await,
            None => {
                let owner = self.owner(worker)?;
                self.peers.request(owner, &PeerRequest::Worker { node: worker, request: asked }, wait).await
            }
        }
    }

    /// The same for another control node: never passed on, so that no request can circle.
    ///
    /// # Errors
    /// As [`Reach::request`].
    pub(crate) async fn request_here(
        &self,
        worker: NodeId,
        asked: ClassRequest,
        wait: Duration,
    ) -> Result<Bytes, Failure> {
        let session = self.proxies.session(worker).ok_or_else(|| not_connected(worker))?;
        session.request(encode(&ToWorker::Request(asked)), wait).await
    }

    /// Opens a task's output.
    ///
    /// # Errors
    /// As [`Reach::request`].
    pub(crate) async fn logs(&self, worker: NodeId, asked: LogRequest) -> Result<Stream, Failure> {
        match self.proxies.session(worker) {
            Some(session) => session.open(encode(&OpenWorker::Logs(asked))).await,
            None => {
                let owner = self.owner(worker)?;
                self.peers.open(owner, &OpenPeer::Logs { node: worker, request: asked }).await
            }
        }
    }

    /// The same for another control node.
    ///
    /// # Errors
    /// As [`Reach::request`].
    pub(crate) async fn logs_here(&self, worker: NodeId, asked: LogRequest) -> Result<Stream, Failure> {
        let session = self.proxies.session(worker).ok_or_else(|| not_connected(worker))?;
        session.open(encode(&OpenWorker::Logs(asked))).await
    }

    /// The other control node that owns a worker.
    fn owner(&self, worker: NodeId) -> Result<NodeId, Failure> {
        let state = self.group.state();
        if !state.node(worker).is_some_and(|node| node.is_worker()) {
            return Err(Failure::new(Code::NotFound, format!("no worker {worker}; see `longshore node list`")));
        }
        match ring::owner(&state, self.me, worker) {
            Owner::Other(node) => Ok(node.id),
            Owner::Me(_) | Owner::Nobody => Err(not_connected(worker)),
        }
    }
}

fn not_connected(worker: NodeId) -> Failure {
    Failure::new(Code::NotConnected, format!("worker {worker} has no live session now"))
}
