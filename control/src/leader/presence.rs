//! Which control nodes this one is connected to, and since when it has been so.
//!
//! Kept on every node, so that a new leader knows at once how long another one has been away.

use super::Leading;
use longshore_wire::NodeId;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The longest time between two looks; sessions that come or go wake the loop at once.
const EVERY: Duration = Duration::from_millis(500);

/// A node that said it would stop has done so within this, or stays after all.
const LEAVING: Duration = Duration::from_secs(60);

/// Whether a node is here, and for how long it has been so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Connected for so long.
    Here(Duration),
    /// Not connected for so long.
    Away(Duration),
}

impl Standing {
    /// Whether it has been away for `grace`.
    pub(crate) fn away_for(self, grace: Duration) -> bool {
        matches!(self, Self::Away(time) if time >= grace)
    }

    /// Whether it has been here for `time`.
    pub(crate) fn here_for(self, time: Duration) -> bool {
        matches!(self, Self::Here(since) if since >= time)
    }
}

/// The table of standings.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    since: Mutex<HashMap<NodeId, (bool, Instant)>>,
    /// Nodes that are about to stop, and since when.
    leaving: Mutex<HashMap<NodeId, Instant>>,
}

impl Presence {
    /// Takes down who is connected at `now`, of all `known`.
    fn observe(&self, known: impl Iterator<Item = NodeId>, connected: &[NodeId], now: Instant) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut seen, mut gone) = (HashMap::new(), HashSet::new());
        for node in known {
            let here = connected.contains(&node);
            let before = since.remove(&node);
            // This node itself is never connected, and so never goes.
            if before.is_some_and(|(was_here, _)| was_here && !here) {
                gone.insert(node);
            }
            let before = before.filter(|(was_here, _)| *was_here == here);
            seen.insert(node, before.unwrap_or((here, now)));
        }
        self.leaving_nodes().retain(|node, since| !gone.contains(node) && now - *since < LEAVING);
        *since = seen;
    }

    fn leaving_nodes(&self) -> MutexGuard<'_, HashMap<NodeId, Instant>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node is about to stop.
    pub(crate) fn leave(&self, node: NodeId, now: Instant) {
        self.leaving_nodes().insert(node, now);
    }

    /// Whether a node is about to stop: it lives, and drives nobody any more.
    pub(crate) fn is_leaving(&self, node: NodeId, now: Instant) -> bool {
        self.leaving_nodes().get(&node).is_some_and(|since| now - *since < LEAVING)
    }

    /// How a node stands at `now`. A node never looked at has just gone.
    pub(crate) fn standing(&self, node: NodeId, now: Instant) -> Standing {
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        match since.get(&node) {
            Some((true, since)) => Standing::Here(now - *since),
            Some((false, since)) => Standing::Away(now - *since),
            None => Standing::Away(Duration::ZERO),
        }
    }
}

/// Keeps the table, on every node.
pub(super) async fn run(leading: Leading, stop: CancellationToken) {
    let mut changed = leading.peers.changed();
    loop {
        changed.borrow_and_update();
        let state = leading.group.state();
        let connected = leading.peers.connected();
        leading.presence.observe(state.controls().map(|node| node.id), &connected, Instant::now());
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Ok(()) = changed.changed() => (),
            () = tokio::time::sleep(EVERY) => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaver_is_one_until_it_has_gone_or_stays() {
        let (node, presence, start) = (NodeId::from_u128(1), Presence::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        presence.observe([node].into_iter(), &[node], at(0));
        presence.leave(node, at(1));
        presence.observe([node].into_iter(), &[node], at(2));
        assert!(presence.is_leaving(node, at(2)));
        assert!(!presence.is_leaving(node, at(1) + LEAVING), "it stays after all");
        presence.observe([node].into_iter(), &[], at(3));
        presence.observe([node].into_iter(), &[node], at(4));
        assert!(!presence.is_leaving(node, at(4)), "it has come back");

        let me = NodeId::from_u128(2);
        presence.observe([me].into_iter(), &[], at(5));
        presence.leave(me, at(5));
        presence.observe([me].into_iter(), &[], at(6));
        assert!(presence.is_leaving(me, at(6)));
    }

    #[test]
    fn time_counts_from_the_change() {
        let (node, presence, start) = (NodeId::from_u128(1), Presence::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        presence.observe([node].into_iter(), &[node], at(0));
        presence.observe([node].into_iter(), &[node], at(3));
        assert_eq!(presence.standing(node, at(4)), Standing::Here(Duration::from_secs(4)));
        presence.observe([node].into_iter(), &[], at(5));
        presence.observe([node].into_iter(), &[], at(6));
        assert!(presence.standing(node, at(7)).away_for(Duration::from_secs(2)));
        assert!(!presence.standing(node, at(6)).away_for(Duration::from_secs(2)));
        assert_eq!(presence.standing(NodeId::from_u128(2), at(9)), Standing::Away(Duration::ZERO));
    }
}
