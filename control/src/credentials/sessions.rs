//! The sessions of this node by what they were proven with, and the loop that ends those whose secret has ended.

use super::objection;
use super::refusals::Refusals;
use crate::clock::now_ms;
use crate::counts::Counts;
use crate::peers::Peers;
use crate::raft::Group;
use longshore_state::State;
use longshore_transport::{Peer, Session};
use longshore_wire::NodeId;
use longshore_wire::peer::CredentialUse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// Most nodes that are named for one secret: a person reads them, and a reply has a limit.
const MAX_NAMED: usize = 1000;

/// The live sessions of workers and clients; those of control nodes are in [`Peers`]. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Sessions {
    group: Group,
    peers: Peers,
    table: Arc<Mutex<Table>>,
    /// Those that never became one.
    pub(crate) refusals: Arc<Refusals>,
    /// Those that have ended: the peer's role, and the code of the reason.
    pub(crate) endings: Arc<Endings>,
    /// How many there may be.
    limit: usize,
}

pub(crate) type Endings = Counts<(&'static str, &'static str)>;

#[derive(Debug, Default)]
struct Table {
    next: u64,
    live: HashMap<u64, Session>,
    /// Last use of each secret since this node's start, in Unix milliseconds. No larger than the credentials.
    used: HashMap<(String, u32), u64>,
}

/// Takes its session out of the table when it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    number: u64,
    table: Arc<Mutex<Table>>,
    endings: Arc<Endings>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut table = lock(&self.table);
        if let Some(session) = table.live.remove(&self.number) {
            table.note(session.peer());
            // Without a reason this node is what ends.
            let reason = session.reason().map_or("unavailable", |reason| reason.code.name());
            self.endings.add((session.peer().role.name(), reason));
        }
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    fn note(&mut self, peer: &Peer) {
        if peer.secret != 0 {
            self.used.insert((peer.credential.clone(), peer.secret), now_ms());
        }
    }
}

impl Sessions {
    pub(crate) fn new(group: Group, peers: Peers, limit: usize) -> Self {
        Self { group, peers, table: Arc::default(), refusals: Arc::default(), endings: Arc::default(), limit }
    }

    /// The limit, once it is reached.
    pub(crate) fn full(&self) -> Option<usize> {
        (lock(&self.table).live.len() >= self.limit).then_some(self.limit)
    }

    /// Notes a session for as long as what is returned lives. One whose secret has ended since its proof is closed at once.
    pub(crate) fn admit(&self, session: &Session) -> Admitted {
        let number = {
            let mut table = lock(&self.table);
            table.next += 1;
            let number = table.next;
            table.note(session.peer());
            table.live.insert(number, session.clone());
            number
        };
        // In the table first: what is applied from now on is seen by the loop.
        cut(&self.group.state(), std::slice::from_ref(session));
        Admitted { number, table: Arc::clone(&self.table), endings: Arc::clone(&self.endings) }
    }

    /// Ends sessions whose secret has ended, for as long as the node runs.
    pub(crate) async fn watch(self, stop: CancellationToken) {
        let (mut changed, mut peers) = (self.group.changed(), self.peers.changed());
        let mut seen: Option<Arc<State>> = None;
        loop {
            let state = self.group.state();
            // Sessions of workers and clients are looked at when they begin; those of control nodes are few.
            let same = seen.as_ref().is_some_and(|seen| seen.same_credentials(&state));
            if !same {
                self.peers.banish(state.banished());
            }
            cut(&state, &if same { self.peers.sessions() } else { self.all() });
            seen = Some(state);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                alive = changed.changed() => if alive.is_err() { return },
                alive = peers.changed() => if alive.is_err() { return },
            }
        }
    }

    fn all(&self) -> Vec<Session> {
        let mut sessions = self.peers.sessions();
        sessions.extend(lock(&self.table).live.values().cloned());
        sessions
    }

    /// How many sessions there are.
    pub(crate) fn count(&self) -> u64 {
        lock(&self.table).live.len() as u64
    }

    /// Which secrets are in use here, or were; with the nodes of one credential.
    pub(crate) fn uses(&self, nodes_of: Option<&str>) -> Vec<CredentialUse> {
        let now = now_ms();
        let mut uses: BTreeMap<(String, u32), CredentialUse> = BTreeMap::new();
        let entry = |(credential, secret): (String, u32)| CredentialUse {
            credential,
            secret,
            sessions: 0,
            last_used_ms: 0,
            nodes: Vec::new(),
        };
        for (key, at) in lock(&self.table).used.clone() {
            uses.entry(key.clone()).or_insert_with(|| entry(key)).last_used_ms = at;
        }
        // A session that this node has dialled is counted by the node that accepted it.
        for session in self.all().iter().filter(|session| session.peer().secret != 0 && !session.is_closed()) {
            let peer = session.peer();
            let key = (peer.credential.clone(), peer.secret);
            let found = uses.entry(key.clone()).or_insert_with(|| entry(key));
            found.sessions += 1;
            found.last_used_ms = now;
            if nodes_of == Some(peer.credential.as_str()) && !is_named(&found.nodes, peer.node) {
                found.nodes.push(peer.node);
            }
        }
        uses.into_values().collect()
    }
}

fn is_named(nodes: &[NodeId], node: NodeId) -> bool {
    nodes.len() >= MAX_NAMED || nodes.contains(&node)
}

fn cut(state: &State, sessions: &[Session]) {
    for session in sessions.iter().filter(|session| !session.is_closed()) {
        let Some(why) = objection(state, session.peer()) else { continue };
        let peer = session.peer();
        tracing::warn!(
            node = %peer.node, role = %peer.role, credential = peer.credential, secret = peer.secret,
            remote = peer.remote.map(tracing::field::display), "session cut: {why}"
        );
        session.close(why);
    }
}
