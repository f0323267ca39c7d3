//! Takes connections in: listener → upgrade → proof → the part of the node that serves the peer's role.
//!
//! ```text
//! control ─▶ Peers        worker ─▶ worker_link        client ─▶ client_link
//! ```
//!
//! A tunnelled worker takes the same way from the proof on. Nothing of a peer is believed before its proof; slow or silent
//! peers hold up nobody, since each is handled by itself.

use crate::client_link::{self, ForClients};
use crate::credentials::{self, Sessions};
use crate::loops::Loops;
use crate::peers::Peers;
use crate::raft::Group;
use crate::steer;
use crate::worker_link::{self, WorkerLinks};
use longshore_transport::{
    Identity, Known, Link, Listener, Pending, Proven, Session, SessionOptions, Stream, Verifiers, verify,
};
use longshore_wire::credential::Verifier;
use longshore_wire::{Failure, NodeId, Role};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What serving a connection needs. Shared: a connection that waits for its turn shall not hold a copy.
pub(crate) struct Reception {
    pub(crate) me: Identity,
    pub(crate) group: Group,
    pub(crate) peers: Peers,
    pub(crate) clients: ForClients,
    pub(crate) workers: Arc<WorkerLinks>,
    pub(crate) loops: Loops,
    pub(crate) sessions: Sessions,
    pub(crate) session: SessionOptions,
    /// Limits of the sessions with control nodes: they are much wider.
    pub(crate) peer_session: SessionOptions,
    /// Made of this node's own secret at a start without state: a node that is still joining has no replicated credentials, but must be able to
    /// answer the other control nodes.
    pub(crate) own: Option<Arc<Verifier>>,
}

impl Verifiers for Reception {
    fn find(&self, credential: &str) -> Option<Known> {
        let own = || self.own.as_deref().filter(|own| own.credential == credential).cloned().map(Known::from);
        self.group.state().credential(credential).map(credentials::known).or_else(own)
    }
}

/// Accepts on one address for as long as the node runs.
pub(crate) async fn run(reception: Arc<Reception>, listener: Listener, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(pending) => reception.loops.spawn_work(receive(Arc::clone(&reception), pending)),
            Err(error) => {
                reception.loops.fail("listener", format!("{}: {error}", listener.local_addr()));
                return;
            }
        }
    }
}

async fn receive(reception: Arc<Reception>, pending: Pending) {
    match pending.upgrade().await {
        // Boxed: thousands may wait for their turn, and a waiting one shall not pay for its proof yet.
        Ok(link) => Box::pin(reception.prove(link, None)).await,
        Err(error) => tracing::debug!(%error, "a connection came to nothing"),
    }
}

impl Reception {
    /// Serves a worker whose connection another control node passes on.
    pub(crate) async fn tunnelled(&self, worker: NodeId, stream: Stream) {
        self.prove(Link::tunnel(stream), Some(worker)).await;
    }

    async fn prove(&self, link: Link, tunnelled: Option<NodeId>) {
        match verify(link, &self.me, self).await {
            Ok(proven) if tunnelled.is_none_or(|worker| is_worker(&proven, worker)) => {
                self.welcome(proven).await;
            }
            Ok(proven) => tracing::warn!(
                node = %proven.peer.node, role = %proven.peer.role,
                "a tunnel carried somebody else than the worker that it was opened for; cut"
            ),
            // The acceptor has logged who was refused, and why.
            Err(error) => {
                self.sessions.refusals.count(&error);
                tracing::debug!(%error, "a peer did not prove itself");
            }
        }
    }

    /// Serves a proven peer, whoever dialled. The session has a task of its own, or it would hold the memory of its
    /// handshake as long as it lives.
    pub(crate) async fn serve(self: Arc<Self>, proven: Proven) {
        self.welcome(proven).await;
    }

    async fn welcome(&self, proven: Proven) {
        let bound = credentials::bind(&self.group, &proven.peer).await;
        self.begin(proven, bound);
    }

    fn begin(&self, proven: Proven, bound: Result<(), Failure>) {
        let role = proven.peer.role;
        let options = if role == Role::Control { &self.peer_session } else { &self.session };
        if let Err(failure) = bound {
            tracing::warn!(node = %proven.peer.node, "turned away: {failure}");
            let (session, _) = Session::start(proven, options.clone());
            return session.close(failure);
        }
        let first = match role {
            Role::Control => Some(self.peers.first()),
            Role::Client => Some(self.clients.first(proven.peer.node)),
            Role::Worker => None,
        };
        let (session, inbound) = match first {
            Some(first) => Session::start_with(proven, options.clone(), first),
            None => Session::start(proven, options.clone()),
        };
        if let Some(limit) = self.sessions.full().filter(|_| role != Role::Control) {
            tracing::warn!(node = %session.peer().node, limit, "no room for a session; it is asked to wait, or sent on (limits.sessions)");
            return steer::full(&session, &self.group.state(), self.me.node, limit);
        }
        let held = || (self.sessions.admit(&session), self.goodbye(&session));
        match role {
            // These are kept and ended by [`Peers`].
            Role::Control => self.peers.adopt(session, inbound),
            Role::Worker => self.until_over(held(), worker_link::serve(Arc::clone(&self.workers), session, inbound)),
            Role::Client => self.until_over(held(), client_link::serve(self.clients.clone(), session, inbound)),
        }
    }

    fn goodbye(&self, session: &Session) -> Goodbye {
        Goodbye { session: session.clone(), me: self.me.node, group: self.group.clone() }
    }

    fn until_over(&self, held: impl Send + 'static, serving: impl Future<Output = ()> + Send + 'static) {
        let serving = Box::pin(serving);
        self.loops.spawn_work(async move {
            serving.await;
            drop(held);
        });
    }
}

/// Ends a session when nobody serves it any more: at the node's stop the peer shall go to another node at once, or give
/// this one time to come back where there is no other. A session that has ended already keeps its reason.
struct Goodbye {
    session: Session,
    me: NodeId,
    group: Group,
}

impl Drop for Goodbye {
    fn drop(&mut self) {
        if !self.session.is_closed() {
            steer::stopping(&self.session, &self.group.state(), self.me);
        }
    }
}

fn is_worker(proven: &Proven, worker: NodeId) -> bool {
    proven.peer.role == Role::Worker && proven.peer.node == worker
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_no_session_yet_is_small() {
        fn waiting<F: Future>(_: impl Fn(Arc<Reception>, Pending) -> F) -> usize {
            size_of::<F>()
        }
        fn proving<'a, F: Future + 'a>(_: impl Fn(&'a Reception, Link, Option<NodeId>) -> F) -> usize {
            size_of::<F>()
        }
        let (waiting, proving) = (waiting(receive), proving(Reception::prove));
        assert!(waiting <= 1024, "{waiting} bytes while it waits for its turn");
        assert!(proving <= 4096, "{proving} bytes while it proves itself");
    }
}
