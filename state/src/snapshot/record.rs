//! Records: the state taken apart and put together again. Indexes and sums are not written but worked out anew.

use crate::command::Outcome;
use crate::credentials::Credential;
use crate::kv::Lease;
use crate::machine::State;
use crate::record::{App, Cluster, Instance, Node, Task};
use crate::ring::{Ring, Slot};
use crate::tokens::Token;
use longshore_wire::credential::Verifier;
use longshore_wire::kv::KvEntry;
use longshore_wire::{NodeId, RequestId, ShortId};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io;
use std::sync::Arc;

/// One record of a snapshot. Names of variants and fields are part of the format.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record<'a> {
    Head {
        applied: u64,
        stamp: u64,
        kv_revision: u64,
        cluster: Option<Cow<'a, Cluster>>,
        /// Since format 3.
        #[serde(default)]
        forgotten_ms: u64,
    },
    Ring {
        owners: Cow<'a, [NodeId]>,
        slots: Cow<'a, [Slot]>,
    },
    /// Format 1 only; later ones hold credentials instead.
    Verifier(Cow<'a, Verifier>),
    Credential(Cow<'a, Credential>),
    Token(Cow<'a, Token>),
    Node(Cow<'a, Node>),
    Resting {
        short_id: ShortId,
        until: u64,
    },
    /// Since format 3. Leases come before the keys that go with them.
    Lease(Lease),
    Kv(KvEntry),
    App(Cow<'a, App>),
    Instance(Cow<'a, Instance>),
    Task(Cow<'a, Task>),
    Outcome {
        request: RequestId,
        outcome: Cow<'a, Outcome>,
    },
    End {
        records: u64,
    },
}

/// Hands every record of a state to `push`, in a fixed order, the trailer excepted.
pub(super) fn each<'a>(state: &'a State, mut push: impl FnMut(Record<'a>) -> io::Result<()>) -> io::Result<()> {
    push(Record::Head {
        applied: state.applied,
        stamp: state.stamp,
        kv_revision: state.kv.revision(),
        cluster: state.cluster().map(Cow::Borrowed),
        forgotten_ms: state.memory.forgotten_ms(),
    })?;
    push(Record::Ring { owners: Cow::Borrowed(state.ring.owners()), slots: Cow::Borrowed(state.ring.slots()) })?;
    let credentials = state.credentials().map(|each| Record::Credential(Cow::Borrowed(each)));
    let tokens = state.tokens().map(|token| Record::Token(Cow::Borrowed(token)));
    let nodes = state.nodes().map(|node| Record::Node(Cow::Borrowed(node)));
    let resting = state.resting.iter().map(|(id, until)| Record::Resting { short_id: *id, until: *until });
    let apps = state.apps().map(|app| Record::App(Cow::Borrowed(app)));
    let instances = state.instances().map(|instance| Record::Instance(Cow::Borrowed(instance)));
    let tasks = state.tasks().map(|task| Record::Task(Cow::Borrowed(task)));
    let outcomes = state.memory.iter().map(|(request, outcome)| Record::Outcome { request, outcome });
    let leases = state.leases().map(|(lease, _)| Record::Lease(lease));
    let kv = leases.chain(state.kv.iter().map(Record::Kv));
    let mut all = credentials
        .chain(tokens)
        .chain(nodes)
        .chain(resting)
        .chain(apps)
        .chain(instances)
        .chain(tasks)
        .chain(outcomes)
        .chain(kv);
    all.try_for_each(push)
}

/// Puts one record back.
pub(super) fn restore(state: &mut State, record: Record<'_>) {
    match record {
        Record::Head { applied, stamp, kv_revision, cluster, forgotten_ms } => {
            Arc::make_mut(&mut state.memory).begin(forgotten_ms);
            state.applied = applied;
            state.stamp = stamp;
            state.kv.restore_revision(kv_revision);
            state.kv.set_quota(cluster.as_ref().and_then(|cluster| cluster.kv_quota));
            state.cluster = cluster.map(|cluster| Arc::new(cluster.into_owned()));
        }
        Record::Ring { owners, slots } => state.ring = Ring::restore(owners.into_owned(), slots.into_owned()),
        Record::Verifier(verifier) => {
            // The head came first, so the cluster is known.
            let founded = state.cluster().map_or(0, |cluster| cluster.founded_ms);
            let credential = Credential::of_verifier(&verifier, founded);
            state.credentials.insert(credential.name.clone(), Arc::new(credential));
        }
        Record::Credential(credential) => {
            state.credentials.insert(credential.name.clone(), Arc::new(credential.into_owned()));
        }
        Record::Token(token) => {
            state.tokens.insert(token.name.clone(), Arc::new(token.into_owned()));
        }
        Record::Node(node) => {
            state.short_ids.insert(node.short_id, node.id);
            state.nodes.insert(node.id, Arc::new(node.into_owned()));
        }
        Record::Resting { short_id, until } => {
            state.resting.insert(short_id, until);
        }
        Record::Lease(lease) => state.kv.restore_lease(lease),
        Record::Kv(entry) => state.kv.restore(entry),
        Record::App(app) => {
            state.apps.insert(app.name.clone(), Arc::new(app.into_owned()));
        }
        Record::Instance(instance) => {
            state.instances.insert(instance.name.clone(), Arc::new(instance.into_owned()));
        }
        Record::Task(task) => state.insert_task(task.into_owned()),
        Record::Outcome { request, outcome } => Arc::make_mut(&mut state.memory).remember(request, &outcome),
        // The trailer carries nothing of the state; the reader has compared its count.
        Record::End { .. } => {}
    }
}

/// Works out what is not written, once all records are back.
pub(super) fn finish(state: &mut State) {
    let partitions: Vec<_> = state.workers().map(Node::partition).collect();
    for partition in partitions {
        state.ring.count_worker(partition);
    }
}
