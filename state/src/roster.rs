//! Who is there: the nodes as everybody sees them who follows the membership, and what has changed between two moments.
//!
//! Changes come from comparing two states, never from the commands that led from one to the other: every node that applies
//! the same log tells the same story. What is the same in both is passed over by its pointers, so a comparison costs as
//! much as there are differences.

use crate::machine::State;
use crate::read::key;
use crate::record::Node;
use crate::ring::Ring;
use imbl::OrdMap;
use longshore_wire::task::NodeState;
use longshore_wire::{Epoch, NodeId, Partition};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Nodes and owners at one moment. A clone is cheap and holds nothing else of the state.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    nodes: OrdMap<NodeId, Arc<Node>>,
    ring: Ring,
}

/// A node at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its record.
    pub node: Arc<Node>,
    /// How it stands.
    pub state: NodeState,
    /// Who drives it, and under which epoch (workers).
    pub owner: Option<(NodeId, Epoch)>,
}

/// Why a node is no longer what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// It was forgotten; its short id rests.
    Removed,
    /// Its process has started anew: the same node joins again with a higher generation.
    Restarted,
}

/// What has become of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A generation is gone; the node as it was last.
    Left(Standing, Parting),
    /// A new node, or a new generation of one.
    Joined(Standing),
    /// It stands otherwise than before.
    State {
        /// As it is now.
        now: Standing,
        /// As it was.
        before: NodeState,
    },
    /// Somebody else drives it, or under another epoch.
    Owner {
        /// As it is now.
        now: Standing,
        /// Who drove it.
        before: Option<(NodeId, Epoch)>,
    },
}

impl State {
    /// Nodes and owners as they are now.
    pub fn roster(&self) -> Roster {
        Roster { nodes: self.nodes.clone(), ring: self.ring.clone() }
    }
}

impl Roster {
    /// A node.
    pub fn standing(&self, id: NodeId) -> Option<Standing> {
        let node = self.nodes.get(&id)?;
        let owner = if node.is_worker() { self.ring.owner(id.partition()) } else { None };
        Some(Standing { node: Arc::clone(node), state: standing_of(node, owner.map(|(_, epoch)| epoch)), owner })
    }

    /// All nodes, by id.
    pub fn standings(&self) -> impl Iterator<Item = Standing> {
        self.nodes.keys().filter_map(|id| self.standing(*id))
    }

    /// What has changed since `before`: who left, who joined, then states, then owners, each by node id. A short id that
    /// went from one node to another is given back before it is given away.
    pub fn changes_since(&self, before: &Self) -> Vec<Change> {
        let (mut left, mut joined, mut states, mut owners) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for id in self.touched(before) {
            match (before.standing(id), self.standing(id)) {
                (None, None) => (),
                (None, Some(now)) => joined.push(Change::Joined(now)),
                (Some(was), None) => left.push(Change::Left(was, Parting::Removed)),
                (Some(was), Some(now)) if was.node.generation != now.node.generation => {
                    left.push(Change::Left(was, Parting::Restarted));
                    joined.push(Change::Joined(now));
                }
                (Some(was), Some(now)) => {
                    if was.state != now.state {
                        states.push(Change::State { now: now.clone(), before: was.state });
                    }
                    if was.owner != now.owner {
                        owners.push(Change::Owner { now, before: was.owner });
                    }
                }
            }
        }
        left.into_iter().chain(joined).chain(states).chain(owners).collect()
    }

    /// The nodes that may differ.
    fn touched(&self, before: &Self) -> BTreeSet<NodeId> {
        if self.nodes.ptr_eq(&before.nodes) && self.ring.is_same(&before.ring) {
            return BTreeSet::new();
        }
        let mut touched: BTreeSet<NodeId> = self.nodes.diff(&before.nodes).map(|item| *key(&item)).collect();
        let moved: BTreeSet<Partition> = self.ring.moved(&before.ring).collect();
        if !moved.is_empty() {
            touched.extend(self.nodes.keys().filter(|id| moved.contains(&id.partition())));
        }
        touched
    }
}

/// How a node stands, if its worker is driven under `epoch`.
///
/// A control node has no state of its own beside being heard. What a former owner told of a worker is out of date: until
/// the present one has spoken, the worker is on its way to it.
pub fn standing_of(node: &Node, epoch: Option<Epoch>) -> NodeState {
    match (node.is_worker(), node.alive) {
        (true, _) if node.via.is_some() && epoch.is_some_and(|epoch| node.told != epoch) => NodeState::Connecting,
        (true, _) => node.state,
        (false, true) => NodeState::Ready,
        (false, false) => NodeState::NotConnected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, ControlNode, Proposal};
    use longshore_wire::{ClusterId, Generation, RequestId};

    /// Applies one command as one entry, and tells what changed.
    fn step(state: &mut State, index: u64, command: Command) -> Vec<Change> {
        let before = state.roster();
        let proposal = Proposal { request_id: RequestId::from_u128(u128::from(index)), now_ms: 0, command };
        assert!(state.apply(index, &[proposal]).iter().all(Result::is_ok));
        state.roster().changes_since(&before)
    }

    fn founded() -> State {
        let mut state = State::default();
        let init = Command::InitCluster { cluster_id: ClusterId::default(), name: "c".into(), verifiers: vec![] };
        assert!(step(&mut state, 1, init).is_empty());
        state
    }

    fn control(node: u128, boot: u128) -> Command {
        Command::RegisterControl(ControlNode {
            node: NodeId::from_u128(node),
            name: format!("control-{node}"),
            boot: RequestId::from_u128(boot),
            addresses: vec![],
            release: String::new(),
        })
    }

    fn worker(node: u128, boot: u128) -> Command {
        Command::RegisterWorker {
            node: NodeId::from_u128(node),
            name: format!("worker-{node}"),
            boot: RequestId::from_u128(boot),
            labels: Default::default(),
            release: String::new(),
            runtimes: vec![],
            addresses: vec![],
        }
    }

    #[test]
    fn a_generation_joins_once_and_leaves_once() {
        let mut state = founded();
        let joined = step(&mut state, 2, control(1, 10));
        let [Change::Joined(first)] = joined.as_slice() else { panic!("{joined:?}") };
        assert_eq!((first.node.generation, first.state), (Generation(1), NodeState::Ready));
        assert!(step(&mut state, 3, control(1, 10)).is_empty(), "the same boot is no news");
        let again = step(&mut state, 4, control(1, 11));
        let [Change::Left(was, Parting::Restarted), Change::Joined(now)] = again.as_slice() else {
            panic!("{again:?}")
        };
        assert_eq!((was.node.generation, now.node.generation), (Generation(1), Generation(2)));
        let down = step(&mut state, 5, Command::SetAlive { node: NodeId::from_u128(1), alive: false });
        let [Change::State { now, before: NodeState::Ready }] = down.as_slice() else { panic!("{down:?}") };
        assert_eq!(now.state, NodeState::NotConnected);
        let gone = step(&mut state, 6, Command::RemoveNode { node: NodeId::from_u128(1) });
        assert!(matches!(gone.as_slice(), [Change::Left(_, Parting::Removed)]), "{gone:?}");
    }

    #[test]
    fn a_new_owner_is_told_with_its_epoch() {
        let mut state = founded();
        step(&mut state, 2, control(1, 10));
        step(&mut state, 3, control(2, 20));
        step(&mut state, 4, Command::SetRing { owners: vec![NodeId::from_u128(1)] });
        let [Change::Joined(joined)] = &step(&mut state, 5, worker(7, 70))[..] else { panic!("the worker joins") };
        let (first, epoch) = joined.owner.unwrap();
        assert_eq!(first, NodeId::from_u128(1));
        let moved = step(&mut state, 6, Command::SetRing { owners: vec![NodeId::from_u128(2)] });
        let [Change::Owner { now, before }] = moved.as_slice() else { panic!("{moved:?}") };
        assert_eq!(*before, Some((first, epoch)));
        assert_eq!(now.owner.map(|(owner, now)| (owner, now > epoch)), Some((NodeId::from_u128(2), true)));
    }

    #[test]
    fn in_one_entry_a_short_id_is_given_back_before_it_is_given_away() {
        let mut before = founded();
        step(&mut before, 2, worker(9, 90));
        let mut after = before.clone();
        step(&mut after, 3, Command::RemoveNode { node: NodeId::from_u128(9) });
        step(&mut after, 5_000, worker(1, 10));
        let changes = after.roster().changes_since(&before.roster());
        let [Change::Left(was, _), Change::Joined(now)] = changes.as_slice() else { panic!("{changes:?}") };
        assert_eq!(was.node.short_id, now.node.short_id);
    }
}
