//! Which session is used for which node.

use longshore_transport::Session;
use longshore_wire::{Failure, NodeId};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The live sessions of each node, oldest first. Numbers tell sessions of the same node apart.
#[derive(Debug)]
pub(super) struct Table {
    me: NodeId,
    sessions: Mutex<Sessions>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Sessions {
    by_node: BTreeMap<NodeId, Vec<(u64, Session)>>,
    next: u64,
}

impl Table {
    pub(super) fn new(me: NodeId) -> Self {
        Self { me, sessions: Mutex::default(), changes: watch::Sender::new(0) }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a session as the one that is used for its node from now on.
    pub(super) fn insert(&self, session: &Session) -> u64 {
        let number = {
            let mut sessions = self.sessions();
            let number = sessions.next;
            sessions.next += 1;
            sessions.by_node.entry(session.peer().node).or_default().push((number, session.clone()));
            number
        };
        self.changes.send_modify(|count| *count += 1);
        number
    }

    /// Forgets this very session.
    pub(super) fn remove(&self, node: NodeId, number: u64) {
        {
            let mut sessions = self.sessions();
            if let Some(of_node) = sessions.by_node.get_mut(&node) {
                of_node.retain(|(each, _)| *each != number);
                if of_node.is_empty() {
                    sessions.by_node.remove(&node);
                }
            }
        }
        self.changes.send_modify(|count| *count += 1);
    }

    /// Sessions that this node shall close because a newer one with the same node has come.
    pub(super) fn superseded(&self, node: NodeId, number: u64) -> Vec<Session> {
        if self.me > node {
            return Vec::new();
        }
        let sessions = self.sessions();
        let older = sessions.by_node.get(&node).into_iter().flatten().filter(|(each, _)| *each < number);
        older.map(|(_, session)| session.clone()).collect()
    }

    /// Takes this session for the oldest one from now on: another one is used as long as there is one.
    pub(super) fn stand_back(&self, node: NodeId, number: u64) {
        let mut sessions = self.sessions();
        if let Some(of_node) = sessions.by_node.get_mut(&node) {
            of_node.sort_by_key(|(each, _)| *each != number);
        }
    }

    pub(super) fn get(&self, node: NodeId) -> Option<Session> {
        let sessions = self.sessions();
        let live = sessions.by_node.get(&node)?.iter().rev().find(|(_, session)| !session.is_closed());
        live.map(|(_, session)| session.clone())
    }

    pub(super) fn all(&self) -> Vec<Session> {
        self.sessions().by_node.values().flatten().map(|(_, session)| session.clone()).collect()
    }

    pub(super) fn nodes(&self) -> Vec<NodeId> {
        let sessions = self.sessions();
        let live = sessions.by_node.iter().filter(|(_, of_node)| of_node.iter().any(|(_, each)| !each.is_closed()));
        live.map(|(node, _)| *node).collect()
    }

    #[cfg(test)]
    pub(super) fn newest(&self, node: NodeId) -> u64 {
        self.sessions().by_node[&node].iter().map(|(number, _)| *number).max().unwrap()
    }

    #[cfg(test)]
    pub(super) fn count(&self, node: NodeId) -> usize {
        self.sessions().by_node.get(&node).map_or(0, Vec::len)
    }

    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn steer_all(&self, reason: &Failure, retry_after: Duration) {
        for (_, session) in self.sessions().by_node.values().flatten() {
            session.steer(reason.clone(), Some(retry_after), Vec::new());
        }
    }
}
