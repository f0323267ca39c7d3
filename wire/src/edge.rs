//! The conversation between a worker and a control node, once both are proven.
//!
//! ```text
//! worker ── Attach ──▶ control       "I am here"          → Accepted | Elsewhere | Wait
//! worker ◀── Order ─── proxy         start, stop, …       each with the epoch of the owner
//! worker ── Report ──▶ proxy         what runs here
//! worker ── Kv ──────▶ proxy         a task's KV operation
//! worker ── Tunnel ══▶ control       a stream that is spliced to the owner
//! worker ◀══ Archive ═ proxy         a stream with an archive
//! ```

use crate::kv::KvRequest;
use crate::relay::OutcomeAsk;
use crate::task::{NodeState, TaskSpec, TaskStatus};
use crate::{
    Blake3, ClusterUri, Digest, Epoch, Failure, Generation, Labels, NodeId, Partition, RequestId, ShortId, TaskId,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A request from a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToControl {
    /// Asks to be driven; always first. Reply: [`AttachReply`].
    Attach(Attach),
    /// Says what runs. Reply: nothing (empty body).
    Report(Report),
    /// A KV operation of a task. Reply: [`crate::kv::KvReply`].
    Kv(TaskKv),
}

/// A worker presents itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attach {
    /// Its name, for people.
    pub name: String,
    /// Random per process start: a change raises the generation.
    pub boot: RequestId,
    /// Its labels.
    pub labels: Labels,
    /// Release of its program.
    pub release: String,
    /// Runtimes that it offers.
    pub runtimes: Vec<String>,
    /// Highest epoch that it has obeyed.
    pub epoch: Epoch,
    /// Addresses where it can be dialled; empty for a worker without listening port.
    pub published: Vec<ClusterUri>,
    /// What runs there now.
    pub report: Report,
}

/// The answer to [`Attach`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachReply {
    /// This node's proxy drives you from now on.
    Accepted(Accepted),
    /// Another node owns you: dial it, or, if it cannot be reached, open [`OpenControl::Tunnel`] to it here.
    Elsewhere {
        /// The owner.
        owner: NodeId,
        /// Its name.
        name: String,
        /// Where it can be dialled.
        addresses: Vec<ClusterUri>,
    },
    /// Nobody can drive you now; come back.
    Wait {
        /// After so many milliseconds.
        retry_after_ms: u64,
        /// Why.
        reason: String,
    },
}

/// What an accepted worker learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    /// The owner's epoch; a worker that has seen a higher one drops the session.
    pub epoch: Epoch,
    /// The partition that it hashes to.
    pub partition: Partition,
    /// Its short id.
    pub short_id: ShortId,
    /// Its generation.
    pub generation: Generation,
    /// The owner.
    pub owner: NodeId,
    /// The owner's name.
    pub owner_name: String,
}

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its state.
    pub state: NodeState,
    /// All its tasks.
    pub tasks: Vec<TaskStatus>,
    /// The archives that it holds.
    pub archives: Vec<Digest>,
}

/// A KV operation of a task. Keys are relative to the app's own prefix; the owner adds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskKv {
    /// Who asks.
    pub task: TaskId,
    /// Makes a retry safe.
    pub request_id: RequestId,
    /// What.
    pub request: KvRequest,
}

/// A request to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToWorker {
    /// An order of the owner. Reply: nothing (empty body), or [`crate::Code::StaleEpoch`].
    Order {
        /// The owner's epoch.
        epoch: Epoch,
        /// What to do.
        order: Order,
    },
    /// A request to a job class. Reply: a JSON value.
    Request(ClassRequest),
    /// A request to a job class, from version 2 on. Reply: bytes.
    Relay {
        /// Names it for its whole life; the worker keeps its outcome for a while.
        id: RequestId,
        /// The class: `echo` is built in.
        class: String,
        /// What.
        #[serde(with = "serde_bytes")]
        body: Vec<u8>,
    },
    /// Asks what became of a relay, from version 2 on. Reply: [`crate::relay::OutcomeReply`].
    Outcome(OutcomeAsk),
}

/// What an owner can order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Run this task; a repeat is no error.
    Start(Box<TaskSpec>),
    /// End this task and forget it; a repeat is no error.
    Stop {
        /// Which.
        task: TaskId,
    },
    /// These archives are no longer needed.
    DropArchives {
        /// Which.
        digests: Vec<Digest>,
    },
}

/// A request to a job class of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassRequest {
    /// The class: `echo` is built in.
    pub class: String,
    /// What.
    pub body: Value,
}

/// Without reply, control to worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotifyWorker {
    /// Another node owns you from now on. Keep this session until the new one stands.
    Moved {
        /// The new owner.
        owner: NodeId,
        /// Its name.
        name: String,
        /// Where it can be dialled.
        addresses: Vec<ClusterUri>,
    },
}

/// Opens a stream, worker to control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenControl {
    /// Splice this stream to another control node; a whole handshake and session run inside.
    Tunnel {
        /// To whom.
        to: NodeId,
    },
}

/// Since which version of the protocol an archive may come with its BLAKE3.
pub const BLAKE3_VERSION: u16 = 2;

/// Opens a stream, control to worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenWorker {
    /// An archive: its bytes follow; the worker answers with an encoded [`StreamResult`] and finishes.
    Archive {
        /// The owner's epoch.
        epoch: Epoch,
        /// SHA-256 of the archive: its name.
        digest: Digest,
        /// Bytes.
        size: u64,
        /// BLAKE3 of the archive, whose every rule the sender has checked. Then the worker checks this instead of SHA-256.
        /// Only to peers of version 2.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        blake3: Option<Blake3>,
    },
    /// Wants a task's output: the worker sends bytes and finishes, or goes on when following.
    Logs(LogRequest),
}

/// Which part of a task's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRequest {
    /// The task.
    pub task: TaskId,
    /// Only the last so many lines; `None` for all that is kept.
    pub tail: Option<u64>,
    /// Go on with new output until the task has ended or the stream is reset.
    pub follow: bool,
}

/// What the receiver of a bulk stream answers at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamResult {
    /// All of it is stored.
    Ok,
    /// It is not.
    Failed(Failure),
}
