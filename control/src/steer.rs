//! Where a peer is sent whose session this node ends, and when it shall come back.
//!
//! ```text
//! this node stops       ─▶ go to the owner, or to any other; where there is none, come back in a moment
//! the worker has moved  ─▶ told so first (a notice: make before break); who stays is sent to the owner when time is over
//! no room               ─▶ its own workers wait, each for another time; those of others go to their owners
//! ```
//!
//! It ends sessions, and decides nothing else.

use longshore_state::State;
use longshore_transport::{Backoff, Peer, Session};
use longshore_wire::{ClusterUri, Code, Failure, NodeId, Role};
use std::time::Duration;

/// A control node without others asks its peers to stay away so long when it stops.
const ALONE: Duration = Duration::from_secs(1);
/// A full node asks its peers to stay away so long at least, and twice as long at most.
const FULL: Duration = Duration::from_secs(5);

/// This node stops: the peer shall go to another one at once, or give this one time to come back where there is no other.
pub(crate) fn stopping(session: &Session, state: &State, me: NodeId) {
    let go_to = directions(state, me, session.peer());
    let wait = go_to.is_empty().then_some(ALONE);
    let reason = Failure::new(Code::Unavailable, "this control node is stopping; come back to another one");
    session.steer(reason, wait, go_to);
}

/// A worker has stayed on a session that is of no use any more.
pub(crate) fn useless(session: &Session, state: &State, me: NodeId) {
    if is_mine(state, me, session.peer()) {
        return session.close(Failure::new(Code::Timeout, "this session is of no use any more; come back when needed"));
    }
    let reason = Failure::new(Code::NotOwner, "another control node drives you since a while; go there");
    session.steer(reason, None, directions(state, me, session.peer()));
}

/// There is no room for this session: `limit` others stand.
pub(crate) fn full(session: &Session, state: &State, me: NodeId, limit: usize) {
    let peer = session.peer();
    let elsewhere = peer.role != Role::Worker || !is_mine(state, me, peer);
    let go_to = if elsewhere { directions(state, me, peer) } else { Vec::new() };
    // All that came at once must not come back at once.
    let wait = go_to.is_empty().then(|| FULL + Backoff::new(FULL, FULL).next());
    let message = format!("this control node has as many sessions as it may: {limit} (limits.sessions)");
    session.steer(Failure::new(Code::Busy, message), wait, go_to);
}

fn is_mine(state: &State, me: NodeId, peer: &Peer) -> bool {
    state.owner_of(peer.node).is_none_or(|(owner, _)| owner == me)
}

/// Where a peer is sent: first to the worker's owner, then to the other control nodes that are
/// alive, in an order that spreads those that are sent away together.
fn directions(state: &State, me: NodeId, peer: &Peer) -> Vec<ClusterUri> {
    let places = places(state, me, peer.node);
    places.into_iter().filter(|uri| uri.is_known_to(peer.version)).collect()
}

fn places(state: &State, me: NodeId, from: NodeId) -> Vec<ClusterUri> {
    let owner = state.owner_of(from).map(|(owner, _)| owner);
    let mut others: Vec<_> = state.controls().filter(|node| node.id != me && node.alive).collect();
    if !others.is_empty() {
        let turn = usize::from(from.partition().0) % others.len();
        others.rotate_left(turn);
    }
    others.sort_by_key(|node| Some(node.id) != owner);
    others.into_iter().flat_map(|node| node.addresses.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_state::{Command, ControlNode, Proposal};
    use longshore_wire::{ClusterId, RequestId};

    fn apply(state: &mut State, command: Command) {
        let index = state.applied() + 1;
        let proposal = Proposal { request_id: RequestId::from_u128(u128::from(index)), now_ms: 0, command };
        state.apply(index, &[proposal])[0].as_ref().unwrap();
    }

    fn cluster() -> State {
        let mut state = State::default();
        let name = "test".to_owned();
        apply(&mut state, Command::InitCluster { cluster_id: ClusterId::default(), name, verifiers: vec![] });
        for number in 1..=3_u64 {
            let node = NodeId::from(number);
            let address = format!("longshore://c{number}.example").parse().unwrap();
            let (name, boot) = (format!("c{number}"), RequestId::from_u128(number.into()));
            let node = ControlNode { node, name, boot, addresses: vec![address], release: String::new() };
            apply(&mut state, Command::RegisterControl(node));
        }
        state
    }

    #[test]
    fn they_lead_to_the_living_and_spread() {
        let mut state = cluster();
        let (me, dead) = (NodeId::from(1), NodeId::from(2));
        let firsts: std::collections::BTreeSet<String> =
            (10..60_u64).map(|worker| places(&state, me, NodeId::from(worker))[0].to_string()).collect();
        assert_eq!(firsts.len(), 2, "{firsts:?}");
        apply(&mut state, Command::SetAlive { node: dead, alive: false });
        for worker in 10..60_u64 {
            let hosts = places(&state, me, NodeId::from(worker)).into_iter().map(|uri| uri.host);
            assert_eq!(hosts.collect::<Vec<_>>(), ["c3.example"]);
        }
    }

    #[test]
    fn the_owner_comes_first() {
        let mut state = cluster();
        apply(&mut state, Command::SetRing { owners: vec![NodeId::from(3)] });
        for worker in 10..60_u64 {
            assert_eq!(places(&state, NodeId::from(1), NodeId::from(worker))[0].host, "c3.example");
        }
    }
}
