//! What can be read from the state. Nothing here changes anything.

use crate::credentials::Credential;
use crate::kv::{KvGap, KvRecord, Lease};
use crate::machine::State;
use crate::record::{App, Cluster, Instance, Node, Task};
use crate::ring::Ring;
use imbl::ordmap::DiffItem;
use longshore_wire::kv::KvEntry;
use longshore_wire::task::TaskSpec;
use longshore_wire::{Blake3, Code, Digest, Epoch, Failure, NodeId, Partition, ShortId, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many candidates an ambiguity names.
const SHOWN_CANDIDATES: usize = 5;

impl State {
    /// Index of the last log entry applied; 0 before the first.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// How many proposals this copy has carried out; repeats do not count. Only differences between states of the same
    /// node mean something: one that comes from a snapshot counts anew.
    pub fn carried_out(&self) -> u64 {
        self.memory.carried_out()
    }

    /// The cluster; `None` before it is founded.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_deref()
    }

    /// A credential, revoked ones included.
    pub fn credential(&self, name: &str) -> Option<&Credential> {
        self.credentials.get(name).map(Arc::as_ref)
    }

    /// All credentials, by name, revoked ones included.
    pub fn credentials(&self) -> impl Iterator<Item = &Credential> {
        self.credentials.values().map(Arc::as_ref)
    }

    /// Whether the credentials cannot differ from those of `other`, an earlier or later clone. Compares pointers.
    pub fn same_credentials(&self, other: &Self) -> bool {
        self.credentials.ptr_eq(&other.credentials)
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().map(Arc::as_ref)
    }

    /// All control nodes, by id.
    pub fn controls(&self) -> impl Iterator<Item = &Node> {
        self.nodes().filter(|node| node.is_control())
    }

    /// All workers, by id.
    pub fn workers(&self) -> impl Iterator<Item = &Node> {
        self.nodes().filter(|node| node.is_worker())
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id).map(Arc::as_ref)
    }

    /// The node that has a short id.
    pub fn node_by_short_id(&self, short_id: ShortId) -> Option<&Node> {
        self.short_ids.get(&short_id).and_then(|id| self.node(*id))
    }

    /// The node that an operator means: its name, its node id, its short id, or a prefix of its node id.
    ///
    /// A number is never taken for a prefix: who means node 1, which is gone, must not hit node 12.
    ///
    /// # Errors
    /// [`Code::NotFound`] when there is none, [`Code::Conflict`] with the candidates when there are several.
    pub fn find_node(&self, text: &str) -> Result<&Node, Failure> {
        let id = text.to_ascii_uppercase();
        let exact = |node: &&Node| node.name == text || node.id.to_string() == id || node.short_id.to_string() == text;
        let mut found: Vec<&Node> = self.nodes().filter(exact).collect();
        let number = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
        if found.is_empty() && !number {
            found = self.nodes().filter(|node| node.id.to_string().starts_with(&id)).collect();
        }
        match found.as_slice() {
            [node] => Ok(node),
            [] => Err(Failure::new(Code::NotFound, format!("no node '{text}'; see `longshore node list`"))),
            several => Err(ambiguous(text, several)),
        }
    }

    /// The ring.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Who drives a worker, and under which epoch; `None` while nobody does.
    pub fn owner_of(&self, worker: NodeId) -> Option<(NodeId, Epoch)> {
        self.ring.owner(worker.partition())
    }

    /// All apps, by name.
    pub fn apps(&self) -> impl Iterator<Item = &App> {
        self.apps.values().map(Arc::as_ref)
    }

    /// An app.
    pub fn app(&self, name: &str) -> Option<&App> {
        self.apps.get(name).map(Arc::as_ref)
    }

    /// Every archive that some version of some app needs, with its size in bytes.
    pub fn blobs(&self) -> BTreeMap<Digest, u64> {
        self.apps().flat_map(|app| app.versions.values()).map(|version| (version.digest, version.size)).collect()
    }

    /// BLAKE3 of an archive, if one was installed with it.
    pub fn blake3(&self, digest: Digest) -> Option<Blake3> {
        let mut versions = self.apps().flat_map(|app| app.versions.values());
        versions.find_map(|version| version.blake3.filter(|_| version.digest == digest))
    }

    /// All instances, by name.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values().map(Arc::as_ref)
    }

    /// An instance.
    pub fn instance(&self, name: &str) -> Option<&Instance> {
        self.instances.get(name).map(Arc::as_ref)
    }

    /// All tasks, by instance; those that shall end ([`Task::assigned`] is false) included.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values().map(Arc::as_ref)
    }

    /// All tasks of an instance; those that shall end included.
    pub fn tasks_of_instance(&self, instance: &str) -> impl Iterator<Item = &Task> {
        let instance: Arc<str> = instance.into();
        let first = (Arc::clone(&instance), NodeId::default());
        self.tasks.range(first..).take_while(move |(key, _)| key.0 == instance).map(|(_, task)| task.as_ref())
    }

    /// What a worker shall run: its assigned tasks. Whatever else runs there shall end.
    pub fn tasks_of(&self, worker: NodeId) -> impl Iterator<Item = &Task> {
        self.tasks_on(worker).filter(|task| task.assigned)
    }

    /// All tasks of a worker; those that shall end included.
    pub fn tasks_on(&self, worker: NodeId) -> impl Iterator<Item = &Task> {
        let first: (NodeId, Arc<str>) = (worker, "".into());
        self.tasks_by_node
            .range(first..)
            .take_while(move |(node, _)| *node == worker)
            .filter_map(|(node, instance)| self.tasks.get(&(Arc::clone(instance), *node)).map(Arc::as_ref))
    }

    /// A task.
    pub fn task(&self, id: &TaskId) -> Option<&Task> {
        let (instance, short_id) = id.as_str().rsplit_once('-')?;
        let node = self.short_ids.get(&ShortId(short_id.parse().ok()?))?;
        self.tasks.get(&(instance.into(), *node)).map(Arc::as_ref).filter(|task| task.id == *id)
    }

    /// What a worker must know to run a task; `None` when its instance is gone.
    pub fn task_spec(&self, task: &Task) -> Option<TaskSpec> {
        self.instance(&task.instance).map(|instance| instance.task_spec(task))
    }

    /// Whether nothing but the key-value store can differ from `other`, an earlier or later clone. Compares pointers, so
    /// it is cheap enough for every change; a change that undid itself counts as a difference.
    pub fn same_but_for_kv(&self, other: &Self) -> bool {
        let cluster = match (&self.cluster, &other.cluster) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            (None, None) => true,
            _ => false,
        };
        cluster
            && self.credentials.ptr_eq(&other.credentials)
            && self.tokens.ptr_eq(&other.tokens)
            && self.nodes.ptr_eq(&other.nodes)
            && self.ring.is_same(&other.ring)
            && self.apps.ptr_eq(&other.apps)
            && self.instances.ptr_eq(&other.instances)
            && self.tasks.ptr_eq(&other.tasks)
    }

    /// The workers to whose proxies something may be new compared with `other`, an earlier clone: their record, a task of
    /// theirs, or their owner. `None` stands for all of them. What is the same in both is passed over, so the cost is that of
    /// the differences.
    pub fn touched(&self, other: &Self) -> Option<BTreeSet<NodeId>> {
        if !self.apps.ptr_eq(&other.apps) || !self.instances.ptr_eq(&other.instances) {
            return None;
        }
        let mut touched: BTreeSet<NodeId> = self.nodes.diff(&other.nodes).map(|item| *key(&item)).collect();
        touched.extend(self.tasks.diff(&other.tasks).map(|item| key(&item).1));
        let moved: BTreeSet<Partition> = self.ring.moved(&other.ring).collect();
        if !moved.is_empty() {
            touched.extend(self.workers().map(|worker| worker.id).filter(|id| moved.contains(&id.partition())));
        }
        Some(touched)
    }

    /// Revision of the last write to the key-value store; 0 before the first.
    pub fn kv_revision(&self) -> u64 {
        self.kv.revision()
    }

    /// A key, as this node knows it.
    pub fn kv_get(&self, key: &str) -> Option<KvEntry> {
        self.kv.get(key)
    }

    /// Keys that start with `prefix`, behind `after`, in byte order, and whether more follow.
    ///
    /// At most `limit` entries, [`longshore_wire::kv::MAX_LIST`] in any case, and no more than fit in one message.
    pub fn kv_list(&self, prefix: &str, after: Option<&str>, limit: u32) -> (Vec<KvEntry>, bool) {
        self.kv.list(prefix, after, limit)
    }
}

impl State {
    /// The changes of the key-value store behind a revision, oldest first: each once, revisions without a hole.
    ///
    /// # Errors
    /// When some of them are forgotten, or were before this node's last snapshot.
    pub fn kv_changes(&self, after: u64) -> Result<impl Iterator<Item = &KvRecord>, KvGap> {
        self.kv.changes(after)
    }

    /// The last revision whose change is forgotten.
    pub fn kv_compacted(&self) -> u64 {
        self.kv.compacted()
    }

    /// Bytes of keys and values in the key-value store, and its quota.
    pub fn kv_usage(&self) -> (u64, u64) {
        self.kv.usage()
    }

    /// All leases, each with the number of its keys.
    pub fn leases(&self) -> impl Iterator<Item = (Lease, usize)> {
        self.kv.leases()
    }

    /// A lease with its keys.
    pub fn lease(&self, id: u64) -> Option<(Lease, impl Iterator<Item = &str>)> {
        self.kv.lease(id)
    }
}

pub(crate) fn key<'a, K, V>(item: &DiffItem<'a, 'a, K, V>) -> &'a K {
    match item {
        DiffItem::Add(key, _) | DiffItem::Remove(key, _) | DiffItem::Update { old: (key, _), .. } => key,
    }
}

fn ambiguous(text: &str, candidates: &[&Node]) -> Failure {
    let shown: Vec<String> = candidates
        .iter()
        .take(SHOWN_CANDIDATES)
        .map(|node| format!("{} (short id {}, {})", node.name, node.short_id, node.id))
        .collect();
    let more = match candidates.len().saturating_sub(SHOWN_CANDIDATES) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    Failure::new(Code::Conflict, format!("'{text}' can mean several nodes: {}{more}", shown.join(", ")))
}
