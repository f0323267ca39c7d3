//! The key-value service, for the API and the proxies alike.
//!
//! Owns the limits and the way of a request: writes through the log, linearizable reads by a read index, local reads
//! from what this node has applied, watches from its history. Never writes to the state itself.

mod brake;
mod watch;

pub(crate) use watch::{Seen, Watch};

use crate::identity::random_ulid;
use crate::raft::Group;
use brake::Brake;
use longshore_state::{Command, Reply, State, check_txn};
use longshore_wire::edge::TaskKv;
use longshore_wire::kv::{Consistency, KvEntry, KvReply, KvRequest, MAX_KEY, MAX_LIST, MAX_VALUE, Txn, TxnReply};
use longshore_wire::{Code, Failure, NodeId, RequestId, TaskId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Semaphore;

/// Most watches on one node.
const MAX_WATCHES: usize = 4096;

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Kv {
    group: Group,
    brake: Arc<Brake>,
    watches: Arc<Semaphore>,
    gaps: Arc<AtomicU64>,
}

/// The name of a write: a repeat under the same one gets the first outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    id: RequestId,
    repeat: bool,
}

impl Ticket {
    /// Of a write that nobody can repeat.
    pub(crate) fn fresh() -> Self {
        Self::first(RequestId::from_u128(random_ulid()))
    }

    /// Of a first attempt.
    pub(crate) const fn first(id: RequestId) -> Self {
        Self { id, repeat: false }
    }

    /// Of a further one: refused rather than carried out twice, should the first outcome be forgotten.
    pub(crate) const fn repeat(id: RequestId) -> Self {
        Self { id, repeat: true }
    }

    /// The command as it goes into the log, under this name.
    fn name(self, command: Command) -> (RequestId, Command) {
        let command = if self.repeat { Command::Again(Box::new(command)) } else { command };
        (self.id, command)
    }
}

impl Kv {
    pub(crate) fn new(group: Group) -> Self {
        Self { group, brake: Arc::default(), watches: Arc::new(Semaphore::new(MAX_WATCHES)), gaps: Arc::default() }
    }

    /// Watches that run on this node.
    pub(crate) fn watching(&self) -> usize {
        MAX_WATCHES - self.watches.available_permits()
    }

    /// How often a watch was told of a gap.
    pub(crate) fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    /// Carries out one operation.
    ///
    /// # Errors
    /// [`Code::Invalid`] and [`Code::TooLarge`] for a request over the limits, [`Code::Conflict`] for a failed
    /// compare-and-set, [`Code::Busy`] under a brake, [`Code::NoQuorum`] when no majority answers.
    pub(crate) async fn execute(&self, ticket: Ticket, request: KvRequest) -> Result<KvReply, Failure> {
        match request {
            KvRequest::Get { key, consistency } => self.get(&key, consistency).await.map(KvReply::Entry),
            list @ KvRequest::List { .. } => self.list(list).await.map(|(_, reply)| reply),
            write => {
                check(&write)?;
                self.write(ticket, Command::Kv(write)).await.and_then(reply_of)
            }
        }
    }

    /// Whether an operation can be begun at once: a write, while a leader is known.
    pub(crate) fn can_begin(&self, request: &KvRequest) -> bool {
        let reads = matches!(request, KvRequest::Get { .. } | KvRequest::List { .. });
        !reads && self.group.has_leader()
    }

    /// As [`Kv::execute`] for a write, without a future: `done` hears the reply, in this call or later, and must not wait.
    pub(crate) fn begin<D>(&self, ticket: Ticket, write: KvRequest, done: D)
    where
        D: FnOnce(Result<KvReply, Failure>) + Send + 'static,
    {
        let admitted = check(&write).and_then(|()| self.brake.admit(&self.group.state()));
        match admitted {
            Ok(()) => {
                let (id, command) = ticket.name(Command::Kv(write));
                self.group.begin(id, command, |outcome| done(outcome.and_then(reply_of)));
            }
            Err(refusal) => done(Err(refusal)),
        }
    }

    /// Reads a key.
    ///
    /// # Errors
    /// As [`Kv::execute`].
    pub(crate) async fn get(&self, key: &str, consistency: Consistency) -> Result<Option<KvEntry>, Failure> {
        check_key(key)?;
        Ok(self.read(consistency).await?.kv_get(key))
    }

    /// Answers what needs no waiting: a read of a key as this node has it.
    pub(crate) fn at_once(&self, request: &KvRequest) -> Option<Result<KvReply, Failure>> {
        let KvRequest::Get { key, consistency: Consistency::Local } = request else { return None };
        Some(check_key(key).map(|()| KvReply::Entry(self.group.state().kv_get(key))))
    }

    /// Lists keys; with the revision of the store at which that was, for a watch that goes on from there.
    ///
    /// # Errors
    /// As [`Kv::execute`].
    pub(crate) async fn list(&self, request: KvRequest) -> Result<(u64, KvReply), Failure> {
        check(&request)?;
        let KvRequest::List { prefix, after, limit, consistency } = request else {
            return Err(Failure::new(Code::Internal, "this is no listing"));
        };
        let state = self.read(consistency).await?;
        let (entries, more) = state.kv_list(&prefix, after.as_deref(), limit);
        Ok((state.kv_revision(), KvReply::Entries { entries, more }))
    }

    /// Carries out a transaction.
    ///
    /// # Errors
    /// As [`Kv::execute`]; comparisons that do not hold are no error.
    pub(crate) async fn txn(&self, ticket: Ticket, txn: Txn) -> Result<TxnReply, Failure> {
        check_txn(&txn)?;
        match self.write(ticket, Command::Txn(txn)).await? {
            Reply::Txn(reply) => Ok(reply),
            _ => Err(other_request()),
        }
    }

    /// Grants a lease; its id.
    ///
    /// # Errors
    /// [`Code::Invalid`] for a time to live over the limits, [`Code::TooLarge`] when there are too many leases.
    pub(crate) async fn grant(&self, ticket: Ticket, ttl_ms: u64) -> Result<u64, Failure> {
        match self.commit(ticket, Command::GrantLease { ttl_ms }).await? {
            Reply::Lease { lease, .. } => Ok(lease),
            _ => Err(other_request()),
        }
    }

    /// Keeps a lease alive; its time to live in milliseconds.
    ///
    /// # Errors
    /// [`Code::NotFound`] when it has ended.
    pub(crate) async fn keep(&self, lease: u64) -> Result<u64, Failure> {
        match self.commit(Ticket::fresh(), Command::KeepLease { lease }).await? {
            Reply::Lease { ttl_ms, .. } => Ok(ttl_ms),
            _ => Err(other_request()),
        }
    }

    /// Ends a lease; how many keys went with it.
    ///
    /// # Errors
    /// [`Code::NotFound`] when it has ended.
    pub(crate) async fn revoke(&self, ticket: Ticket, lease: u64) -> Result<u32, Failure> {
        match self.commit(ticket, Command::RevokeLease { lease, renewals: None }).await? {
            Reply::LeaseEnded { keys } => Ok(keys),
            _ => Err(other_request()),
        }
    }

    /// Watches the keys that start with `prefix`, from a revision on; from now on without one.
    ///
    /// # Errors
    /// [`Code::Busy`] when there are too many watches on this node, [`Code::NoQuorum`] when no majority answers.
    pub(crate) async fn watch(
        &self,
        prefix: String,
        from: Option<u64>,
        consistency: Consistency,
    ) -> Result<Watch, Failure> {
        if prefix.len() > MAX_KEY {
            return Err(too_long("the prefix", prefix.len(), MAX_KEY));
        }
        let full = || {
            let message =
                format!("{MAX_WATCHES} watches run on this node already; use another one, or try again later");
            Failure::new(Code::Busy, message)
        };
        let place = Arc::clone(&self.watches).try_acquire_owned().map_err(|_| full())?;
        let state = self.read(consistency).await?;
        let after = from.map_or_else(|| state.kv_revision(), |from| from.saturating_sub(1));
        // A revision that no read has seen can only come from another life of the cluster.
        let strange = consistency == Consistency::Linearizable && after > state.kv_revision();
        let start = if strange { Err(state.kv_revision()) } else { Ok(after) };
        Ok(Watch::new(self.group.clone(), prefix, start, place, Arc::clone(&self.gaps)))
    }

    async fn write(&self, ticket: Ticket, command: Command) -> Result<Reply, Failure> {
        self.brake.admit(&self.group.state())?;
        self.commit(ticket, command).await
    }

    async fn commit(&self, ticket: Ticket, command: Command) -> Result<Reply, Failure> {
        let (id, command) = ticket.name(command);
        self.group.propose_as(id, command).await
    }

    /// Carries out a task's operation: inside `apps/<app>/`, and only for a task of this worker.
    ///
    /// # Errors
    /// [`Code::Forbidden`] when the worker has no such task; else as [`Kv::execute`].
    pub(crate) async fn execute_for(&self, worker: NodeId, asked: TaskKv) -> Result<KvReply, Failure> {
        let prefix = app_prefix(&self.group.state(), worker, &asked.task)?;
        let reply = self.execute(Ticket::first(asked.request_id), inside(&prefix, asked.request)).await?;
        Ok(outside(&prefix, reply))
    }

    async fn read(&self, consistency: Consistency) -> Result<Arc<State>, Failure> {
        if consistency == Consistency::Linearizable {
            self.group.read_index().await?;
        }
        Ok(self.group.state())
    }
}

fn reply_of(reply: Reply) -> Result<KvReply, Failure> {
    match reply {
        Reply::Kv(reply) => Ok(reply),
        _ => Err(other_request()),
    }
}

fn other_request() -> Failure {
    Failure::unknown(Code::Conflict, "the request id belongs to another request; each write needs an id of its own")
}

/// What a task's keys start with.
fn app_prefix(state: &State, worker: NodeId, task: &TaskId) -> Result<String, Failure> {
    let known = state.task(task).filter(|task| task.node == worker);
    let instance = known.and_then(|task| state.instance(&task.instance));
    let Some(instance) = instance else {
        return Err(Failure::new(Code::Forbidden, format!("task {task} is not one of this worker's tasks")));
    };
    Ok(format!("apps/{}/", instance.app))
}

fn inside(prefix: &str, request: KvRequest) -> KvRequest {
    let full = |key: String| format!("{prefix}{key}");
    match request {
        KvRequest::Get { key, consistency } => KvRequest::Get { key: full(key), consistency },
        KvRequest::Put { key, value } => KvRequest::Put { key: full(key), value },
        KvRequest::Delete { key } => KvRequest::Delete { key: full(key) },
        KvRequest::Cas { key, value, expect } => KvRequest::Cas { key: full(key), value, expect },
        KvRequest::List { prefix, after, limit, consistency } => {
            KvRequest::List { prefix: full(prefix), after: after.map(full), limit, consistency }
        }
    }
}

fn outside(prefix: &str, mut reply: KvReply) -> KvReply {
    let strip = |key: &mut String| {
        if key.starts_with(prefix) {
            key.drain(..prefix.len());
        }
    };
    match &mut reply {
        KvReply::Entry(Some(entry)) => strip(&mut entry.key),
        KvReply::Entries { entries, .. } => entries.iter_mut().for_each(|entry| strip(&mut entry.key)),
        KvReply::Entry(None) | KvReply::Written { .. } | KvReply::Deleted { .. } => (),
    }
    reply
}

/// Refuses early what apply would refuse anyway, so that nothing oversized enters the log.
fn check(request: &KvRequest) -> Result<(), Failure> {
    match request {
        KvRequest::Get { key, .. } | KvRequest::Delete { key } => check_key(key),
        KvRequest::Put { key, value } | KvRequest::Cas { key, value, .. } => {
            check_key(key)?;
            check_value(value.len())
        }
        KvRequest::List { prefix, after, limit, .. } => {
            let longest = prefix.len().max(after.as_ref().map_or(0, String::len));
            if longest > MAX_KEY {
                return Err(too_long("a prefix or key", longest, MAX_KEY));
            }
            match (1..=MAX_LIST).contains(limit) {
                true => Ok(()),
                false => Err(Failure::new(Code::Invalid, format!("limit is {limit}; allowed are 1 to {MAX_LIST}"))),
            }
        }
    }
}

fn check_key(key: &str) -> Result<(), Failure> {
    match key.len() {
        0 => Err(Failure::new(Code::Invalid, "the key is empty")),
        length if length > MAX_KEY => Err(too_long("the key", length, MAX_KEY)),
        _ => Ok(()),
    }
}

/// Refuses a value over the limit.
pub(crate) fn check_value(length: usize) -> Result<(), Failure> {
    if length > MAX_VALUE { Err(too_long("the value", length, MAX_VALUE)) } else { Ok(()) }
}

fn too_long(what: &str, length: usize, limit: usize) -> Failure {
    Failure::new(Code::TooLarge, format!("{what} has {length} bytes; the limit is {limit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_stays_inside_its_app() {
        let list = KvRequest::List {
            prefix: "a".to_owned(),
            after: Some("ab".to_owned()),
            limit: 1,
            consistency: Consistency::Local,
        };
        let KvRequest::List { prefix, after, .. } = inside("apps/x/", list) else { panic!("still a listing") };
        assert_eq!((prefix.as_str(), after.as_deref()), ("apps/x/a", Some("apps/x/ab")));
        let entry =
            KvEntry { key: "apps/x/a".to_owned(), value: vec![], revision: 1, created_revision: 1, lease: None };
        let KvReply::Entry(Some(entry)) = outside("apps/x/", KvReply::Entry(Some(entry))) else { panic!("an entry") };
        assert_eq!(entry.key, "a");
    }

    #[test]
    fn limits() {
        let put = |key: usize, value: usize| check(&KvRequest::Put { key: "k".repeat(key), value: vec![0; value] });
        assert!(put(1, 0).is_ok() && put(MAX_KEY, MAX_VALUE).is_ok());
        assert_eq!(put(0, 0).unwrap_err().code, Code::Invalid);
        assert_eq!(put(MAX_KEY + 1, 0).unwrap_err().code, Code::TooLarge);
        assert_eq!(put(1, MAX_VALUE + 1).unwrap_err().code, Code::TooLarge);
    }
}
