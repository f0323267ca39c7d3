//! The state itself, and the one way to change it.

use crate::apps::Stored;
use crate::command::{Command, Outcome, Proposal, Reply};
use crate::credentials::Credential;
use crate::kv::Store;
use crate::memory::{Memory, read_bytes};
use crate::record::{App, Cluster, Instance, Node, Task, Via};
use crate::ring::Ring;
use crate::tokens::Token;
use imbl::{OrdMap, OrdSet};
use longshore_wire::kv::MAX_TXN_BYTES;
use longshore_wire::{Code, Failure, NodeId, ShortId};
use std::fmt;
use std::sync::Arc;

/// Most bytes of keys and values that the outcomes of one log entry hold: they travel together.
const ROOM: usize = MAX_TXN_BYTES;

/// Everything that the control nodes agree on. A clone is cheap and does not change any more.
#[derive(Clone, Default)]
pub struct State {
    pub(crate) applied: u64,
    pub(crate) stamp: u64,
    pub(crate) cluster: Option<Arc<Cluster>>,
    pub(crate) credentials: OrdMap<String, Arc<Credential>>,
    pub(crate) tokens: OrdMap<String, Arc<Token>>,
    pub(crate) nodes: OrdMap<NodeId, Arc<Node>>,
    pub(crate) short_ids: OrdMap<ShortId, NodeId>,
    pub(crate) resting: OrdMap<ShortId, u64>,
    pub(crate) ring: Ring,
    pub(crate) kv: Store,
    pub(crate) apps: OrdMap<String, Arc<App>>,
    pub(crate) instances: OrdMap<String, Arc<Instance>>,
    pub(crate) tasks: OrdMap<(Arc<str>, NodeId), Arc<Task>>,
    pub(crate) tasks_by_node: OrdSet<(NodeId, Arc<str>)>,
    pub(crate) memory: Arc<Memory>,
}

/// Where and when a command is applied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    /// Log index.
    pub(crate) index: u64,
    /// The proposer's clock.
    pub(crate) now_ms: u64,
    /// Bytes that the outcome may hold.
    pub(crate) room: usize,
}

impl State {
    /// Applies one log entry: its proposals in order, one outcome each.
    ///
    /// Deterministic and total: the same entries give the same state and outcomes on every node, and whatever cannot
    /// be done is refused in the outcome. A repeat of a remembered request id returns the first outcome.
    pub fn apply(&mut self, index: u64, proposals: &[Proposal]) -> Vec<Outcome> {
        self.applied = index;
        let mut room = ROOM;
        let mut outcomes = Vec::with_capacity(proposals.len());
        for proposal in proposals {
            let outcome = self.apply_once(At { index, now_ms: proposal.now_ms, room }, proposal);
            room = room.saturating_sub(read_bytes(&outcome));
            outcomes.push(outcome);
        }
        outcomes
    }

    fn apply_once(&mut self, at: At, proposal: &Proposal) -> Outcome {
        if let Some(first) = self.memory.get(proposal.request_id) {
            let first = first.outcome();
            if read_bytes(&first) > at.room {
                return Err(Failure::unknown(
                    Code::Busy,
                    "too much is read in this moment; ask again for this outcome",
                ));
            }
            return first.into_owned();
        }
        if matches!(proposal.command, Command::Again(_)) && self.memory.may_have_forgotten(proposal.request_id) {
            let why = "the outcome of the first attempt may be forgotten, so a repeat could do it a second time; read what is there";
            return Err(Failure::unknown(Code::Conflict, why));
        }
        let outcome = self.execute(at, &proposal.command);
        // Who is told to try again may do so under the same id.
        if !matches!(&outcome, Err(failure) if failure.code == Code::Busy) {
            Arc::make_mut(&mut self.memory).remember(proposal.request_id, &outcome);
        }
        outcome
    }

    /// What readers are shown: everything but the remembered outcomes, as if all of them were forgotten.
    pub fn shown(&self) -> Self {
        Self { memory: Arc::new(self.memory.forgetful()), ..self.clone() }
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
            Command::Txn(txn) => self.kv.txn(txn, at.room).map(Reply::Txn),
            Command::GrantLease { ttl_ms } => {
                let id = self.next_stamp(at);
                self.kv.grant(id, *ttl_ms)
            }
            Command::KeepLease { lease } => self.kv.keep(*lease),
            Command::RevokeLease { lease, renewals } => self.kv.revoke(*lease, *renewals),
            Command::SetQuota { bytes } => self.set_quota(*bytes),
            Command::SetBrake { writes } => self.set_brake(*writes),
            // Once is enough: `apply_once` has looked at the outer one.
            Command::Again(again) if matches!(**again, Command::Again(_)) => {
                Err(Failure::new(Code::Invalid, "a repeat of a repeat"))
            }
            Command::Again(again) => self.execute(at, again),
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
            Command::CreateToken(token) => self.create_token(at, token),
            Command::RevokeToken { name } => self.revoke_token(name),
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
    use crate::memory::REMEMBERED;
    use longshore_wire::kv::{Compare, Condition, KvReply, KvRequest, Txn, TxnOp};
    use longshore_wire::{ClusterId, RequestId};

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
            Arc::make_mut(&mut state.memory).remember(RequestId::from_u128(request), &Ok(Reply::Done));
        }
        assert_eq!(state.apply(2, &[put(1, "a")]), [Ok(Reply::Done)], "the first is just remembered");
        state.apply(3, &[put(count + 1, "b")]);
        assert_eq!(state.memory.len(), REMEMBERED);
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

    fn again(id: RequestId, key: &str) -> Proposal {
        let command = Command::Kv(KvRequest::Put { key: key.into(), value: vec![] });
        Proposal { request_id: id, now_ms: 0, command: Command::Again(Box::new(command)) }
    }

    fn ulid(millis: u64, number: u128) -> RequestId {
        RequestId::from_u128((u128::from(millis) << 80) | number)
    }

    #[test]
    fn a_repeat_is_refused_once_its_first_outcome_may_be_forgotten() {
        let mut state = founded();
        // Nothing is forgotten: whether the first attempt came or not, the repeat is safe.
        let late = state.apply(2, &[again(ulid(5_000, 1), "a"), again(ulid(5_000, 1), "a")]);
        assert!(late.iter().all(|outcome| *outcome == Ok(Reply::Kv(KvReply::Written { revision: 1, created: true }))));
        for number in 0..REMEMBERED as u128 {
            Arc::make_mut(&mut state.memory).remember(ulid(9_000, number), &Ok(Reply::Done));
        }
        assert!(state.memory.get(ulid(5_000, 1)).is_none());
        let refused = state.apply(3, &[again(ulid(5_000, 1), "a"), again(ulid(4_000, 7), "b")]);
        for outcome in refused {
            let failure = outcome.unwrap_err();
            assert_eq!((failure.code, failure.outcome), (Code::Conflict, longshore_wire::Outcome::Unknown));
        }
        assert!(state.apply(4, &[again(ulid(5_001, 1), "c")])[0].is_ok(), "none so late is forgotten");
        assert_eq!(state.kv_revision(), 2);
    }

    #[test]
    fn what_is_shown_remembers_nothing_and_knows_it() {
        let mut state = founded();
        state.apply(2, &[again(ulid(5_000, 1), "a")]);
        let mut shown = state.shown();
        assert_eq!((shown.kv_revision(), shown.carried_out()), (state.kv_revision(), state.carried_out()));
        assert!(shown.same_but_for_kv(&state));
        // Were it a state that goes on, from a snapshot of it: it must not carry out anything twice.
        let outcome = shown.apply(3, &[again(ulid(5_000, 1), "a")]).remove(0).unwrap_err();
        assert_eq!((outcome.code, outcome.outcome), (Code::Conflict, longshore_wire::Outcome::Unknown));
        assert!(shown.apply(4, &[again(ulid(5_001, 1), "b")])[0].is_ok(), "none so late is forgotten");
        let first = Ok(Reply::Kv(KvReply::Written { revision: 1, created: true }));
        assert_eq!(state.apply(3, &[again(ulid(5_000, 1), "a")]), [first], "the original remembers");
    }

    #[test]
    fn answers_that_hold_much_are_few_in_an_entry_and_in_memory() {
        let mut state = founded();
        let value = vec![0; 700 * 1024];
        let command = Command::Kv(KvRequest::Put { key: "big".into(), value });
        state.apply(2, &[Proposal { request_id: RequestId::from_u128(2), now_ms: 0, command }]);
        let read = |id: u128| {
            let compare = vec![Compare { key: "big".into(), condition: Condition::Exists }];
            let then =
                vec![TxnOp::Get { key: "big".into() }, TxnOp::Put { key: "n".into(), value: vec![], lease: None }];
            let command = Command::Txn(Txn { compare, then, otherwise: vec![] });
            Proposal { request_id: RequestId::from_u128(id), now_ms: 0, command }
        };
        let outcomes = state.apply(3, &[read(3), read(4), read(3)]);
        assert!(outcomes[0].is_ok());
        assert_eq!(outcomes[1].as_ref().unwrap_err().code, Code::Busy);
        assert_eq!(outcomes[2].as_ref().unwrap_err().outcome, longshore_wire::Outcome::Unknown);
        assert_eq!((state.kv_revision(), state.apply(4, &[read(3)])[0].is_ok()), (2, true));
        assert!(state.apply(5, &[read(4)])[0].is_ok(), "the same id may try again");
        let before = state.carried_out();
        state.apply(6, &[read(5)]);
        assert!(state.carried_out() - before > 2_800, "it counts as many, so that memory stays bounded");
        (7..60).for_each(|index| drop(state.apply(index, &[read(u128::from(index))])));
        assert!(state.memory.len() < 24, "{}", state.memory.len());
    }

    #[test]
    fn debug_shows_no_values() {
        let mut state = founded();
        state.apply(2, &[put(2, "secret-key")]);
        assert!(!format!("{state:?}").contains("secret"));
    }
}
