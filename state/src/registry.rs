//! The cluster itself and its nodes: founding, registration, short ids, liveness, removal.

use crate::command::{ControlNode, Outcome, Reply};
use crate::machine::{At, State};
use crate::record::{CloneAlarm, Cluster, Node, Via};
use longshore_wire::credential::Verifier;
use longshore_wire::task::NodeState;
use longshore_wire::{
    ClusterId, ClusterUri, Code, Epoch, Failure, Generation, Labels, NodeId, RequestId, Role, ShortId,
};
use std::sync::Arc;

/// For so many log indexes the short id of a removed node is given to nobody, so that a name that somebody noted
/// (`greeter-3`, node 3) does not soon mean another machine.
pub const SHORT_ID_REST: u64 = 1_000;
/// Voters of a new cluster.
const DEFAULT_VOTERS: u32 = 3;
/// Most voters: each write waits for a majority of them.
const MAX_VOTERS: u32 = 9;
/// Smallest quota of the key-value store: room for a key and a value at their limits.
const MIN_QUOTA: u64 = 2 * 1024 * 1024;
/// Longest name of a node or cluster, in bytes.
const MAX_NAME: usize = 128;

/// A worker as it registers.
#[derive(Debug)]
pub(crate) struct WorkerNode<'a> {
    pub(crate) node: NodeId,
    pub(crate) name: &'a str,
    pub(crate) boot: RequestId,
    pub(crate) labels: &'a Labels,
    pub(crate) release: &'a str,
    pub(crate) runtimes: &'a [String],
    pub(crate) addresses: &'a [ClusterUri],
}

impl State {
    pub(crate) fn init(&mut self, at: At, id: ClusterId, name: &str, verifiers: &[Verifier]) -> Outcome {
        if let Some(cluster) = &self.cluster {
            if cluster.id == id {
                return Ok(Reply::Done);
            }
            let message = format!(
                "the cluster '{}' ({}) is founded already; a second one needs its own data folders",
                cluster.name, cluster.id
            );
            return Err(Failure::new(Code::Conflict, message));
        }
        check_name("cluster", name)?;
        self.credentials = crate::credentials::founding(verifiers, at.now_ms);
        let (name, founded_ms) = (name.to_owned(), at.now_ms);
        let (kv_quota, kv_brake) = (None, None);
        let cluster = Cluster { id, name, voters_wanted: DEFAULT_VOTERS, founded_ms, kv_quota, kv_brake };
        self.cluster = Some(Arc::new(cluster));
        Ok(Reply::Done)
    }

    pub(crate) fn set_voters(&mut self, wanted: u32) -> Outcome {
        if wanted.is_multiple_of(2) || wanted > MAX_VOTERS {
            let message = format!("{wanted} voters: the number must be odd and at most {MAX_VOTERS}");
            return Err(Failure::new(Code::Invalid, message));
        }
        if let Some(cluster) = &mut self.cluster {
            Arc::make_mut(cluster).voters_wanted = wanted;
        }
        Ok(Reply::Done)
    }

    pub(crate) fn set_quota(&mut self, bytes: Option<u64>) -> Outcome {
        if bytes.is_some_and(|bytes| bytes < MIN_QUOTA) {
            let message = format!("the quota of the key-value store must be at least {MIN_QUOTA} bytes");
            return Err(Failure::new(Code::Invalid, message));
        }
        if let Some(cluster) = &mut self.cluster {
            Arc::make_mut(cluster).kv_quota = bytes;
        }
        self.kv.set_quota(bytes);
        Ok(Reply::Done)
    }

    pub(crate) fn set_brake(&mut self, writes: Option<u32>) -> Outcome {
        if writes == Some(0) {
            return Err(Failure::new(Code::Invalid, "a brake of 0 would refuse every write; the least is 1 a second"));
        }
        if let Some(cluster) = &mut self.cluster {
            Arc::make_mut(cluster).kv_brake = writes;
        }
        Ok(Reply::Done)
    }

    pub(crate) fn register_control(&mut self, at: At, control: &ControlNode) -> Outcome {
        check_name("node", &control.name)?;
        let mut node = self.known_or_new(at, control.node);
        boot(&mut node, Role::Control, control.boot);
        node.name.clone_from(&control.name);
        node.release.clone_from(&control.release);
        node.addresses = control.addresses.as_slice().into();
        if !node.alive {
            node.alive = true;
            node.since_ms = at.now_ms;
        }
        Ok(self.put_node(node))
    }

    pub(crate) fn register_worker(&mut self, at: At, worker: &WorkerNode<'_>) -> Outcome {
        check_name("node", worker.name)?;
        let mut node = self.known_or_new(at, worker.node);
        let is_new = !node.is_worker();
        boot(&mut node, Role::Worker, worker.boot);
        node.name = worker.name.to_owned();
        node.release = worker.release.to_owned();
        node.labels = Arc::new(worker.labels.clone());
        node.runtimes = worker.runtimes.into();
        if !node.is_control() {
            node.addresses = worker.addresses.into();
        }
        let reply = self.put_node(node);
        if is_new {
            self.ring.add_worker(worker.node.partition());
        }
        Ok(reply)
    }

    pub(crate) fn check_owner(&self, worker: NodeId, owner: NodeId, epoch: Epoch) -> Result<(), Failure> {
        match self.owner_of(worker) {
            Some(current) if current == (owner, epoch) => Ok(()),
            current => Err(stale(worker, epoch, current.map(|(_, epoch)| epoch))),
        }
    }

    pub(crate) fn set_connected(
        &mut self,
        at: At,
        worker: NodeId,
        told: Epoch,
        state: NodeState,
        (via, clone): (Option<Via>, Option<CloneAlarm>),
    ) -> Outcome {
        let node = self.worker_mut(worker)?;
        node.told = told;
        if node.state != state {
            node.state = state;
            node.since_ms = at.now_ms;
        }
        node.via = via;
        node.clone = clone;
        Ok(Reply::Done)
    }

    pub(crate) fn set_alive(&mut self, at: At, control: NodeId, alive: bool) -> Outcome {
        match self.nodes.get_mut(&control) {
            Some(node) if node.is_control() => {
                let node = Arc::make_mut(node);
                if node.alive != alive {
                    node.alive = alive;
                    node.since_ms = at.now_ms;
                }
                Ok(Reply::Done)
            }
            _ => Err(Failure::new(Code::NotFound, format!("no control node {control}"))),
        }
    }

    pub(crate) fn set_ring(&mut self, owners: &[NodeId]) -> Outcome {
        let wrong = owners.iter().find(|owner| !self.node(**owner).is_some_and(Node::is_control));
        if let Some(owner) = wrong {
            let message = format!("{owner} is no control node, so it cannot own a part of the ring");
            return Err(Failure::new(Code::Invalid, message));
        }
        if owners.is_empty() {
            return Err(Failure::new(Code::Invalid, "the ring needs at least one owner"));
        }
        Ok(Reply::Ring { moved: self.ring.set_owners(owners) })
    }

    pub(crate) fn remove_node(&mut self, at: At, id: NodeId) -> Outcome {
        let Some(node) = self.nodes.get(&id).cloned() else {
            return Err(Failure::new(Code::NotFound, format!("no node {id}")));
        };
        let owners = self.ring.owners();
        if owners.contains(&id) {
            let rest: Vec<NodeId> = owners.iter().copied().filter(|owner| *owner != id).collect();
            if rest.is_empty() {
                let message =
                    format!("{} is the only control node that drives workers; it cannot be removed", node.name);
                return Err(Failure::new(Code::Conflict, message));
            }
            self.ring.set_owners(&rest);
        }
        if node.is_worker() {
            self.ring.remove_worker(id.partition());
        }
        self.forget_tasks_on(id);
        self.nodes.remove(&id);
        self.short_ids.remove(&node.short_id);
        self.resting.insert(node.short_id, at.index.saturating_add(SHORT_ID_REST));
        Ok(Reply::Done)
    }

    /// A worker's record, to be changed.
    fn worker_mut(&mut self, id: NodeId) -> Result<&mut Node, Failure> {
        match self.nodes.get_mut(&id) {
            Some(node) if node.is_worker() => Ok(Arc::make_mut(node)),
            _ => Err(Failure::new(Code::NotFound, format!("no worker {id}"))),
        }
    }

    fn known_or_new(&mut self, at: At, id: NodeId) -> Node {
        if let Some(node) = self.nodes.get(&id) {
            return node.as_ref().clone();
        }
        Node {
            id,
            name: String::new(),
            short_id: self.free_short_id(at.index),
            generation: Generation(0),
            boots: Default::default(),
            roles: Default::default(),
            state: NodeState::Launching,
            told: Epoch::default(),
            labels: Default::default(),
            release: String::new(),
            runtimes: Default::default(),
            addresses: Default::default(),
            via: None,
            clone: None,
            alive: false,
            since_ms: at.now_ms,
        }
    }

    fn put_node(&mut self, node: Node) -> Reply {
        let reply = Reply::Registered { short_id: node.short_id, generation: node.generation };
        self.short_ids.insert(node.short_id, node.id);
        self.nodes.insert(node.id, Arc::new(node));
        reply
    }

    /// The smallest number that is neither in use nor resting.
    fn free_short_id(&mut self, index: u64) -> ShortId {
        if self.resting.values().any(|until| *until <= index) {
            self.resting =
                self.resting.iter().filter(|(_, until)| **until > index).map(|(id, until)| (*id, *until)).collect();
        }
        let highest = [self.short_ids.get_max().map(|(id, _)| id.0), self.resting.get_max().map(|(id, _)| id.0)];
        let highest = highest.into_iter().flatten().max().unwrap_or(0);
        // Without a gap, as nearly always, there is nothing to search: thousands of workers may register at once.
        if usize::try_from(highest).ok() == Some(self.short_ids.len() + self.resting.len()) {
            return ShortId(highest.saturating_add(1));
        }
        let taken = |id: u32| self.short_ids.contains_key(&ShortId(id)) || self.resting.contains_key(&ShortId(id));
        ShortId((1..u32::MAX).find(|id| !taken(*id)).unwrap_or(u32::MAX))
    }
}

/// Notes the role and the boot; the generation rises with each new boot, and is at least 1.
fn boot(node: &mut Node, role: Role, boot: RequestId) {
    Arc::make_mut(&mut node.roles).insert(role);
    let former = Arc::make_mut(&mut node.boots).insert(role, boot);
    if node.generation == Generation(0) || former.is_some_and(|former| former != boot) {
        node.generation.0 += 1;
    }
}

pub(crate) fn stale(worker: NodeId, epoch: Epoch, current: Option<Epoch>) -> Failure {
    let current = current.map_or_else(|| "nobody drives it".to_owned(), |current| format!("the epoch is {current}"));
    Failure::new(Code::StaleEpoch, format!("worker {worker} is not driven under epoch {epoch} by this node: {current}"))
}

fn check_name(what: &str, name: &str) -> Result<(), Failure> {
    let fine = (1..=MAX_NAME).contains(&name.len())
        && !name.chars().any(|c| c.is_control() || c.is_whitespace() || ",;=!".contains(c));
    if fine {
        return Ok(());
    }
    let shown: String = name.chars().take(80).filter(|c| !c.is_control()).collect();
    let message = format!("the {what}'s name '{shown}' must have 1 to {MAX_NAME} bytes, without blanks and , ; = !");
    Err(Failure::new(Code::Invalid, message))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A worker's record with these labels.
    pub(crate) fn worker(name: &str, labels: &str) -> Node {
        let mut node = State::default().known_or_new(At { index: 1, now_ms: 0, room: 0 }, NodeId::from_u128(1));
        node.name = name.to_owned();
        node.labels = Arc::new(labels.parse().unwrap());
        Arc::make_mut(&mut node.roles).insert(Role::Worker);
        node
    }
}
