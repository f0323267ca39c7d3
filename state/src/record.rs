//! The records of the state, as readers see them.

use crate::On;
use longshore_wire::app::Manifest;
use longshore_wire::task::{Limits, NodeState, RestartPolicy, TaskState, TaskStatus};
use longshore_wire::{
    Blake3, ClusterId, ClusterUri, Digest, Epoch, Generation, Labels, NodeId, Partition, RequestId, Role, ShortId,
    TaskId,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The cluster itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// Its name.
    pub name: String,
    /// How many voters it should have.
    pub voters_wanted: u32,
    /// When it was founded, in Unix milliseconds.
    pub founded_ms: u64,
    /// How many bytes of keys and values the key-value store may hold, if an operator has said so.
    #[serde(default)]
    pub kv_quota: Option<u64>,
    /// How many writes to it operators and apps may make in a second, all together.
    #[serde(default)]
    pub kv_brake: Option<u32>,
}

/// A node: control node, worker, or both in one process. What only a registration changes is shared by all copies of the
/// record: the journal of events keeps older ones, and there are thousands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its name. Names are for people and may repeat.
    pub name: String,
    /// Its short id, unique in the cluster.
    pub short_id: ShortId,
    /// Rises with every boot.
    pub generation: Generation,
    /// The boot under which it last registered, by role.
    pub boots: Arc<BTreeMap<Role, RequestId>>,
    /// What it is.
    pub roles: Arc<BTreeSet<Role>>,
    /// State as a worker; [`NodeState::Launching`] until its owner tells more.
    pub state: NodeState,
    /// Epoch of the owner that told `state` and `via` (workers); a later one has not spoken yet.
    #[serde(default)]
    pub told: Epoch,
    /// Its labels (workers).
    pub labels: Arc<Labels>,
    /// Release of its program.
    pub release: String,
    /// Runtimes that it offers (workers).
    pub runtimes: Arc<[String]>,
    /// Where it can be dialled.
    pub addresses: Arc<[ClusterUri]>,
    /// Its session with its owner (workers).
    pub via: Option<Via>,
    /// Another live process that has its node id (workers).
    #[serde(default)]
    pub clone: Option<CloneAlarm>,
    /// Whether the leader hears from it (control nodes).
    pub alive: bool,
    /// Unix milliseconds of the last change of `state` or `alive`.
    pub since_ms: u64,
}

impl Node {
    /// Whether it is a control node.
    pub fn is_control(&self) -> bool {
        self.roles.contains(&Role::Control)
    }

    /// Whether it is a worker.
    pub fn is_worker(&self) -> bool {
        self.roles.contains(&Role::Worker)
    }

    /// The partition of the ring that it hashes to.
    pub fn partition(&self) -> Partition {
        self.id.partition()
    }

    /// The boot under which it last registered in `role`.
    pub fn boot(&self, role: Role) -> Option<RequestId> {
        self.boots.get(&role).copied()
    }
}

/// How a worker is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Via {
    /// The session's transport.
    pub transport: String,
    /// The worker's address as its owner sees it.
    pub remote: Option<String>,
}

/// A second live process with a worker's node id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneAlarm {
    /// Its boot.
    pub boot: RequestId,
    /// Where it comes from, as the owner sees it.
    pub remote: Option<String>,
}

/// An app with all its versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct App {
    /// Its name.
    pub name: String,
    /// The versions by number. Never empty.
    pub versions: BTreeMap<u32, AppVersion>,
}

impl App {
    /// The newest version.
    pub fn newest(&self) -> Option<&AppVersion> {
        self.versions.values().next_back()
    }
}

/// One version of an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppVersion {
    /// Its number, from 1.
    pub version: u32,
    /// What the archive says of itself.
    pub manifest: Arc<Manifest>,
    /// SHA-256 of the archive.
    pub digest: Digest,
    /// Bytes of the archive.
    pub size: u64,
    /// BLAKE3 of the archive; versions that an older build has installed have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<Blake3>,
    /// When it was installed, in Unix milliseconds.
    pub installed_ms: u64,
}

/// What an operator wants of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// Its tasks run.
    Running,
    /// It has no tasks.
    Stopped,
}

impl Wanted {
    /// The name that scripts see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }
}

/// A flow started with arguments: what each of its tasks runs is fixed here at the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Log index at which it was started; another start under the same name gets a higher one.
    pub revision: u64,
    /// The app.
    pub app: String,
    /// The app's version.
    pub version: u32,
    /// SHA-256 of the archive.
    pub digest: Digest,
    /// The flow.
    pub flow: String,
    /// The runtime.
    pub runtime: String,
    /// Command line, relative to the unpacked archive.
    pub entry: Vec<String>,
    /// All arguments, defaults filled in.
    pub args: BTreeMap<String, Value>,
    /// When a task is started again.
    pub restart: RestartPolicy,
    /// What a task may use.
    pub limits: Limits,
    /// On how many workers.
    pub on: On,
    /// Which workers, as written.
    pub selector: String,
    /// What the operator wants.
    pub wanted: Wanted,
    /// When it was started, in Unix milliseconds.
    pub started_ms: u64,
}

/// One copy of an instance on one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its name.
    pub id: TaskId,
    /// The instance.
    pub instance: String,
    /// The worker.
    pub node: NodeId,
    /// Revision of the assignment; rises when the same worker is assigned again.
    pub revision: u64,
    /// Whether the worker shall run it. When not, the record stays until the worker has reported that it is gone.
    pub assigned: bool,
    /// What the worker last said of it; `None` before the first report.
    pub status: Option<TaskStatus>,
}

impl Task {
    /// Its state; pending until the worker has reported.
    pub fn state(&self) -> TaskState {
        self.status.as_ref().map_or(TaskState::Pending, |status| status.state)
    }
}
