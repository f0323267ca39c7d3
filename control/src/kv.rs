//! The key-value service, for the API and the proxies alike.
//!
//! Owns the limits and the way of a request: writes through the log, linearizable reads by a read index, local reads
//! from what this node has applied. Never writes to the state itself.

use crate::raft::Group;
use longshore_state::{Command, Reply, State};
use longshore_wire::edge::TaskKv;
use longshore_wire::kv::{Consistency, KvReply, KvRequest, MAX_KEY, MAX_LIST, MAX_VALUE};
use longshore_wire::{Code, Failure, NodeId, RequestId, TaskId};

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Kv {
    group: Group,
}

impl Kv {
    pub(crate) fn new(group: Group) -> Self {
        Self { group }
    }

    /// Carries out one operation. A repeat of a write with the same id gets the first outcome.
    ///
    /// # Errors
    /// [`Code::Invalid`] and [`Code::TooLarge`] for a request over the limits, [`Code::Conflict`] for a failed
    /// compare-and-set, [`Code::NoQuorum`] when no majority answers.
    pub(crate) async fn execute(&self, id: RequestId, request: KvRequest) -> Result<KvReply, Failure> {
        check(&request)?;
        match request {
            KvRequest::Get { key, consistency } => {
                let state = self.read(consistency).await?;
                Ok(KvReply::Entry(state.kv_get(&key)))
            }
            KvRequest::List { prefix, after, limit, consistency } => {
                let state = self.read(consistency).await?;
                let (entries, more) = state.kv_list(&prefix, after.as_deref(), limit);
                Ok(KvReply::Entries { entries, more })
            }
            write => match self.group.propose_as(id, Command::Kv(write)).await? {
                Reply::Kv(reply) => Ok(reply),
                other => Err(Failure::unknown(Code::Internal, format!("a KV write was answered by {other:?}"))),
            },
        }
    }

    /// Carries out a task's operation: inside `apps/<app>/`, and only for a task of this worker.
    ///
    /// # Errors
    /// [`Code::Forbidden`] when the worker has no such task; else as [`Kv::execute`].
    pub(crate) async fn execute_for(&self, worker: NodeId, asked: TaskKv) -> Result<KvReply, Failure> {
        let prefix = app_prefix(&self.group.state(), worker, &asked.task)?;
        let reply = self.execute(asked.request_id, inside(&prefix, asked.request)).await?;
        Ok(outside(&prefix, reply))
    }

    async fn read(&self, consistency: Consistency) -> Result<std::sync::Arc<State>, Failure> {
        if consistency == Consistency::Linearizable {
            self.group.read_index().await?;
        }
        Ok(self.group.state())
    }
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
    use longshore_wire::kv::KvEntry;

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
        let entry = KvEntry { key: "apps/x/a".to_owned(), value: vec![], revision: 1, created_revision: 1 };
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
