//! The state itself, the one way to change it, and the memory of outcomes.

use crate::apps::Stored;
use crate::command::{Command, Outcome, Proposal, Reply};
use crate::credentials::Credential;
use crate::kv::Store;
use crate::record::{App, Cluster, Instance, Node, Task, Via};
use crate::ring::Ring;
use imbl::{OrdMap, OrdSet, Vector};
use longshore_wire::{Code, Failure, NodeId, RequestId, ShortId};
use std::fmt;
use std::sync::Arc;

/// How many outcomes are remembered for repeats: several seconds of the highest rate of writes, in a few MiB.
pub const REMEMBERED: usize = 65_536;

/// Everything that the control nodes agree on. A clone is cheap and does not change any more.
#[derive(Clone, Default)]
pub struct State {
    pub(crate) applied: u64,
    pub(crate) stamp: u64,
    pub(crate) cluster: Option<Arc<Cluster>>,
    pub(crate) credentials: OrdMap<String, Arc<Credential>>,
    pub(crate) nodes: OrdMap<NodeId, Arc<Node>>,
    pub(crate) short_ids: OrdMap<ShortId, NodeId>,
    pub(crate) resting: OrdMap<ShortId, u64>,
    pub(crate) ring: Ring,
    pub(crate) kv: Store,
    pub(crate) apps: OrdMap<String, Arc<App>>,
    pub(crate) instances: OrdMap<String, Arc<Instance>>,
    pub(crate) tasks: OrdMap<(Arc<str>, NodeId), Arc<Task>>,
    pub(crate) tasks_by_node: OrdSet<(NodeId, Arc<str>)>,
    pub(crate) outcomes: OrdMap<RequestId, Arc<Outcome>>,
    pub(crate) outcome_order: Vector<RequestId>,
    /// Outcomes ever taken into memory by this copy and those that it was cloned from.
    pub(crate) carried_out: u64,
}

/// Where and when a command is applied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    /// Log index.
    pub(crate) index: u64,
    /// The proposer's clock.
    pub(crate) now_ms: u64,
}

impl State {
    /// Applies one log entry: its proposals in order, one outcome each.
    ///
    /// Deterministic and total: the same entries give the same state and outcomes on every node, and whatever cannot
    /// be done is refused in the outcome. A repeat of a remembered request id returns the first outcome.
    pub fn apply(&mut self, index: u64, proposals: &[Proposal]) -> Vec<Outcome> {
        self.applied = index;
        proposals.iter().map(|proposal| self.apply_once(index, proposal)).collect()
    }

    fn apply_once(&mut self, index: u64, proposal: &Proposal) -> Outcome {
        if let Some(first) = self.outcomes.get(&proposal.request_id) {
            return first.as_ref().clone();
        }
        let outcome = self.execute(At { index, now_ms: proposal.now_ms }, &proposal.command);
        self.remember(proposal.request_id, Arc::new(outcome.clone()));
        outcome
    }

    pub(crate) fn remember(&mut self, request: RequestId, outcome: Arc<Outcome>) {
        self.carried_out += 1;
        self.outcomes.insert(request, outcome);
        self.outcome_order.push_back(request);
        while self.outcome_order.len() > REMEMBERED {
            if let Some(oldest) = self.outcome_order.pop_front() {
                self.outcomes.remove(&oldest);
            }
        }
    }

    fn execute(&mut self, at: At, command: &Command) -> Outcome {
        if self.cluster.is_none() && !matches!(command, Command::InitCluster { .. }) {
            return Err(Failure::new(
                Code::Conflict,
                "the cluster is not founded yet; bootstrap its first control node",
            ));
        }
        match command {
            Command::InitCluster { cluster_id, name, verifiers } => self.init(at, *cluster_id, name, verifiers),
            Command::SetVoters { wanted } => self.set_voters(*wanted),
            Command::RegisterControl(control) => self.register_control(at, control),
            Command::RegisterWorker { node, name, boot, labels, release, runtimes, addresses } => {
                let worker = crate::registry::WorkerNode {
                    node: *node,
                    name,
                    boot: *boot,
                    labels,
                    release,
                    runtimes,
                    addresses,
                };
                self.register_worker(at, &worker)
            }
            Command::SetConnected { node, epoch, owner, state, transport, remote, clone } => {
                self.check_owner(*node, *owner, *epoch)?;
                let via = Via { transport: transport.clone(), remote: remote.clone() };
                let via = (!transport.is_empty()).then_some(via);
                self.set_connected(at, *node, *epoch, *state, (via, clone.clone()))
            }
            Command::SetAlive { node, alive } => self.set_alive(at, *node, *alive),
            Command::SetRing { owners } => self.set_ring(owners),
            Command::RemoveNode { node } => self.remove_node(at, *node),
            Command::Kv(request) => self.kv.apply(request).map(Reply::Kv),
            Command::InstallApp { manifest, digest, size, blake3 } => {
                self.install_app(at, manifest, Stored { digest: *digest, size: *size, blake3: *blake3 })
            }
            Command::RemoveApp { app } => self.remove_app(app),
            Command::StartInstance(spec) => self.start_instance(at, spec),
            Command::StopInstance { instance } => self.stop_instance(instance),
            Command::Assign { instance, revision, add, drop } => self.assign(at, instance, *revision, add, drop),
            Command::ReportTasks { node, epoch, tasks, ended } => self.report_tasks(*node, *epoch, tasks, ended),
            Command::CreateCredential { verifier, holder } => self.create_credential(at, verifier, holder.as_ref()),
            Command::AddSecret { verifier } => self.add_secret(at, verifier),
            Command::RetireSecret { credential, secret } => self.retire_secret(at, credential, *secret),
            Command::RevokeCredential { credential } => self.revoke_credential(at, credential),
            Command::BindCredential { credential, node } => self.bind_credential(credential, *node),
        }
    }

    /// A number above all handed out before, and at least the log index: one log entry may hold several commands.
    pub(crate) fn next_stamp(&mut self, at: At) -> u64 {
        self.stamp = at.index.max(self.stamp + 1);
        self.stamp
    }
}

impl fmt::Debug for State {
    /// Counts only: values may be secrets, and there may be very many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("applied", &self.applied)
            .field("cluster", &self.cluster)
            .field("nodes", &self.nodes.len())
            .field("apps", &self.apps.len())
            .field("instances", &self.instances.len())
            .field("tasks", &self.tasks.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_wire::ClusterId;
    use longshore_wire::kv::{KvReply, KvRequest};

    fn put(id: u128, key: &str) -> Proposal {
        let command = Command::Kv(KvRequest::Put { key: key.into(), value: vec![1] });
        Proposal { request_id: RequestId::from_u128(id), now_ms: 0, command }
    }

    fn founded() -> State {
        let mut state = State::default();
        let command = Command::InitCluster { cluster_id: ClusterId::default(), name: "c".into(), verifiers: vec![] };
        let proposal = Proposal { request_id: RequestId::from_u128(1), now_ms: 0, command };
        assert_eq!(state.apply(1, &[proposal]), [Ok(Reply::Done)]);
        state
    }

    #[test]
    fn a_repeat_within_one_entry_counts_once() {
        let mut state = founded();
        let first = Ok(Reply::Kv(KvReply::Written { revision: 1, created: true }));
        assert_eq!(state.apply(2, &[put(2, "a"), put(2, "a")]), [first.clone(), first]);
        assert_eq!((state.kv_revision(), state.applied(), state.carried_out()), (1, 2, 2));
    }

    #[test]
    fn the_memory_of_outcomes_is_bounded_and_drops_the_oldest() {
        let mut state = founded();
        let count = u128::try_from(REMEMBERED).unwrap();
        for request in 2..=count {
            state.remember(RequestId::from_u128(request), Arc::new(Ok(Reply::Done)));
        }
        assert_eq!(state.apply(2, &[put(1, "a")]), [Ok(Reply::Done)], "the first is just remembered");
        state.apply(3, &[put(count + 1, "b")]);
        assert_eq!((state.outcomes.len(), state.outcome_order.len()), (REMEMBERED, REMEMBERED));
        state.apply(4, &[put(1, "a")]);
        assert!(state.kv_get("a").is_some(), "forgotten, so it is carried out");
    }

    #[test]
    fn a_clone_stays_as_it_was_and_can_be_shared() {
        fn shared<T: Send + Sync + 'static>(_: &T) {}
        let mut state = founded();
        let before = state.clone();
        shared(&before);
        state.apply(2, &[put(2, "a")]);
        assert!(before.kv_get("a").is_none() && state.kv_get("a").is_some());
        assert!(state.same_but_for_kv(&before));
    }

    #[test]
    fn debug_shows_no_values() {
        let mut state = founded();
        state.apply(2, &[put(2, "secret-key")]);
        assert!(!format!("{state:?}").contains("secret"));
    }
}
