//! Nodes' states, tasks' specifications and tasks' states.

use crate::{Digest, TaskId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// State of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Known, never seen.
    Launching,
    /// A session is being set up.
    Connecting,
    /// Takes tasks.
    Ready,
    /// Keeps its tasks, takes no new ones.
    Standby,
    /// Takes no new tasks, waits for the running ones to end.
    Stopping,
    /// Runs nothing.
    Stopped,
    /// Has no live session.
    NotConnected,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Launching => "launching",
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::Standby => "standby",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::NotConnected => "not_connected",
        })
    }
}

/// State of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Assigned; the worker has not heard of it, or waits before a restart.
    Pending,
    /// The worker is getting the archive.
    Fetching,
    /// The process is being started.
    Starting,
    /// The process runs.
    Running,
    /// The process is held.
    Paused,
    /// The process has been asked to end.
    Stopping,
    /// The process ended and shall not run again.
    Stopped,
    /// The process cannot be run, or ended badly and shall not run again.
    Failed,
    /// The worker is gone; nobody knows.
    Lost,
}

impl TaskState {
    /// Whether nothing more will happen to the task by itself.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "pending",
            Self::Fetching => "fetching",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Lost => "lost",
        })
    }
}

/// When an ended task is started again, with growing pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// However it ended.
    Always,
    /// When it ended with a code other than 0 or by a signal.
    #[default]
    OnFailure,
    /// Never.
    Never,
}

/// What one task may use. `None` = no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Address space in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
}

/// Everything that a worker must know to run one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The task.
    pub task: TaskId,
    /// Log index of the assignment. A higher one for the same task replaces what runs.
    pub revision: u64,
    /// The instance that it is a copy of.
    pub instance: String,
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
    /// When it is started again.
    pub restart: RestartPolicy,
    /// What it may use.
    pub limits: Limits,
}

/// What a worker says of one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// The task.
    pub task: TaskId,
    /// Revision of the specification that it runs.
    pub revision: u64,
    /// Where it is.
    pub state: TaskState,
    /// Starts after the first one.
    pub restarts: u32,
    /// How the last run ended: 0 to 255, or 128 + the signal's number. `None` while the first run lasts, or unknown.
    pub exit_code: Option<i32>,
    /// Unix milliseconds of the last change of state, by the worker's clock.
    pub since_ms: u64,
    /// Why, where a state needs a reason.
    pub message: Option<String>,
}
