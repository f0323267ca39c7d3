//! The proxies of this node: one per worker that it owns.
//!
//! ```text
//!  worker's session ─▶ link ── attach, report, detach ─▶ Seat ◀── session ── requests, logs
//!                                                         │ wake
//!  ring loop (state changed) ───────────────────────────▶ Actor ── orders ──▶ worker
//!                                                           └───── commands ─▶ Group
//! ```
//!
//! Owns the table of seats. A proxy holds nothing that cannot be rebuilt from the state and the worker's next report.
//! Requests to a worker take its session from the table and go past the actor. **Invariant:** only a proxy says of a
//! worker that it is not connected, and it says so under the epoch under which it owns it.

mod actor;
mod clones;
mod commit;
mod reconcile;
mod seat;

pub(crate) use seat::{Arrival, Seat};

use crate::blobs::{Blobs, Supply};
use crate::loops::Loops;
use crate::raft::Group;
use longshore_transport::Session;
use longshore_wire::edge::NotifyWorker;
use longshore_wire::{Epoch, NodeId, RequestId, encode};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Archives that this node sends to its workers at a time, all proxies together.
const MAX_PUSHES: usize = 32;

/// What all proxies of a node share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) me: NodeId,
    pub(crate) group: Group,
    pub(crate) blobs: Blobs,
    pub(crate) supply: Arc<Supply>,
    pub(crate) loops: Loops,
    pub(crate) attach_grace: Duration,
    pub(crate) pushes: Semaphore,
}

/// The proxies. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Proxies {
    shared: Arc<Shared>,
    seats: Arc<RwLock<HashMap<NodeId, Arc<Seat>>>>,
}

/// What the table needs at its start.
#[derive(Debug)]
pub(crate) struct ProxyOptions {
    pub(crate) me: NodeId,
    pub(crate) group: Group,
    pub(crate) blobs: Blobs,
    pub(crate) supply: Arc<Supply>,
    pub(crate) loops: Loops,
    /// A worker that has not come after so long is reported as not connected.
    pub(crate) attach_grace: Duration,
}

impl Proxies {
    pub(crate) fn new(options: ProxyOptions) -> Self {
        let ProxyOptions { me, group, blobs, supply, loops, attach_grace } = options;
        let pushes = Semaphore::new(MAX_PUSHES);
        let shared = Shared { me, group, blobs, supply, loops, attach_grace, pushes };
        Self { shared: Arc::new(shared), seats: Arc::default() }
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<NodeId, Arc<Seat>>> {
        self.seats.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<NodeId, Arc<Seat>>> {
        self.seats.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The live session with a worker, when this node drives it.
    pub(crate) fn session(&self, worker: NodeId) -> Option<Session> {
        self.read().get(&worker)?.session()
    }

    /// The same, and the boot that attached over it.
    pub(crate) fn seated(&self, worker: NodeId) -> Option<(Session, RequestId)> {
        self.read().get(&worker)?.seated()
    }

    /// The workers that this node drives now, with their sessions.
    pub(crate) fn sessions(&self) -> Vec<(NodeId, Session)> {
        self.read().iter().filter_map(|(worker, seat)| Some((*worker, seat.session()?))).collect()
    }

    /// How many workers this node drives now.
    pub(crate) fn connected(&self) -> usize {
        self.read().values().filter(|seat| seat.session().is_some()).count()
    }

    /// Under which epoch this node owns a worker.
    pub(crate) fn owned(&self, worker: NodeId) -> Option<Epoch> {
        let state = self.shared.group.state();
        state.node(worker)?;
        state.owner_of(worker).filter(|(owner, _)| *owner == self.shared.me).map(|(_, epoch)| epoch)
    }

    /// Gives a worker's session to its proxy; a former session is closed. `None` when this node does not own it any more.
    pub(crate) fn attach(&self, worker: NodeId, arrival: Arrival) -> Option<Arc<Seat>> {
        let mut seats = self.write();
        self.owned(worker)?;
        let seat = self.seat(&mut seats, worker);
        // Under the lock: the actor of a seat that is retired meanwhile would never look at this session.
        seat.attach(arrival);
        Some(seat)
    }

    /// Makes sure that every worker of this node has a proxy, and that the proxies of the `touched` ones, or of all, look at
    /// the state again.
    pub(crate) fn refresh(&self, touched: Option<&BTreeSet<NodeId>>) {
        let state = self.shared.group.state();
        let mine = |worker: &NodeId| state.owner_of(*worker).is_some_and(|(owner, _)| owner == self.shared.me);
        let missing: Vec<NodeId> = {
            let seats = self.read();
            let missing = |worker: &NodeId| mine(worker) && !seats.contains_key(worker);
            match touched {
                None => {
                    seats.values().for_each(|seat| seat.wake());
                    state.workers().map(|worker| worker.id).filter(missing).collect()
                }
                Some(touched) => {
                    touched.iter().filter_map(|worker| seats.get(worker)).for_each(|seat| seat.wake());
                    let is_worker = |worker: &NodeId| state.node(*worker).is_some_and(|node| node.is_worker());
                    touched.iter().copied().filter(|worker| is_worker(worker) && missing(worker)).collect()
                }
            }
        };
        if !missing.is_empty() {
            let mut seats = self.write();
            missing.into_iter().for_each(|worker| drop(self.seat(&mut seats, worker)));
        }
    }

    fn seat(&self, seats: &mut HashMap<NodeId, Arc<Seat>>, worker: NodeId) -> Arc<Seat> {
        let begin = || {
            let seat = Arc::new(Seat::new(worker));
            let actor = actor::Actor::new(self.clone(), Arc::clone(&seat));
            self.shared.loops.spawn_actor("proxy of a worker", actor.run());
            seat
        };
        Arc::clone(seats.entry(worker).or_insert_with(begin))
    }

    /// Takes the proxy of a worker out of the table, unless this node owns the worker after all. The lock makes this and
    /// [`Proxies::attach`] exclude each other: no session can land on a seat that nobody sits on.
    fn retire(&self, worker: NodeId) -> bool {
        let mut seats = self.write();
        if self.owned(worker).is_some() {
            return false;
        }
        seats.remove(&worker);
        true
    }

    /// Tells a worker who drives it from now on.
    pub(crate) async fn tell_moved(&self, worker: NodeId, session: &Session) {
        let state = self.shared.group.state();
        let owner = state.owner_of(worker).and_then(|(owner, _)| state.node(owner));
        let Some(owner) = owner else { return };
        let version = session.peer().version;
        let addresses = owner.addresses.iter().filter(|uri| uri.is_known_to(version)).cloned().collect();
        let moved = NotifyWorker::Moved { owner: owner.id, name: owner.name.clone(), addresses };
        if let Err(failure) = session.notify(encode(&moved)).await {
            tracing::debug!(%worker, %failure, "the worker was gone before it could be told its new owner");
        }
    }
}
