//! FROZEN, never to be changed: the messages of version 1, and their encoding. Unknown fields are skipped, unknown variants
//! are not understood, as in version 1.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_bytes::ByteBuf;
use serde_json::Value;
use std::collections::BTreeMap;

/// MessagePack with field names.
pub(crate) fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(message).unwrap()
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    rmp_serde::from_slice(bytes).map_err(|error| error.to_string())
}

/// An address. Version 1 cannot read one of a transport that came later, nor the message around it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Uri(pub(crate) String);

impl<'de> Deserialize<'de> for Uri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let transport = text.split(";transport=").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or("tls");
        match text.starts_with("longshore://") && ["tcp", "tls", "ws", "wss"].contains(&transport) {
            true => Ok(Self(text)),
            false => Err(D::Error::custom(format!("'{text}' is no address that version 1 can read"))),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) versions: (u16, u16),
    pub(crate) node: String,
    pub(crate) role: String,
    pub(crate) peer_role: String,
    pub(crate) cluster: String,
    pub(crate) cluster_id: Option<String>,
    pub(crate) credential: String,
    pub(crate) binding: String,
    pub(crate) nonce: ByteBuf,
    pub(crate) release: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Challenge {
    pub(crate) version: u16,
    pub(crate) node: String,
    pub(crate) role: String,
    pub(crate) cluster: String,
    pub(crate) cluster_id: Option<String>,
    pub(crate) nonce: ByteBuf,
    pub(crate) salt: ByteBuf,
    pub(crate) iterations: u32,
    pub(crate) release: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Proof {
    pub(crate) proof: ByteBuf,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reject {
    pub(crate) code: u16,
    pub(crate) message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromDialler {
    Hello(Hello),
    Proof(Proof),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromAcceptor {
    Challenge(Challenge),
    Welcome(Proof),
    Reject(Reject),
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct RequestHead {
    pub(crate) timeout_ms: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Done,
    NotDone,
    Unknown,
}

impl Failure {
    pub(crate) fn new(code: &str, message: &str) -> Self {
        Self { code: code.to_owned(), message: message.to_owned(), outcome: Outcome::NotDone }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Goodbye {
    pub(crate) reason: Failure,
    pub(crate) retry_after_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) go_to: Vec<Uri>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToControl {
    Attach(Attach),
    Report(Report),
    Kv(TaskKv),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Attach {
    pub(crate) name: String,
    pub(crate) boot: String,
    pub(crate) labels: String,
    pub(crate) release: String,
    pub(crate) runtimes: Vec<String>,
    pub(crate) epoch: u64,
    pub(crate) published: Vec<Uri>,
    pub(crate) report: Report,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AttachReply {
    Accepted(Accepted),
    Elsewhere { owner: String, name: String, addresses: Vec<Uri> },
    Wait { retry_after_ms: u64, reason: String },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Accepted {
    pub(crate) epoch: u64,
    pub(crate) partition: u16,
    pub(crate) short_id: u32,
    pub(crate) generation: u64,
    pub(crate) owner: String,
    pub(crate) owner_name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) state: String,
    pub(crate) tasks: Vec<TaskStatus>,
    pub(crate) archives: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TaskStatus {
    pub(crate) task: String,
    pub(crate) revision: u64,
    pub(crate) state: String,
    pub(crate) restarts: u32,
    pub(crate) exit_code: Option<i32>,
    pub(crate) since_ms: u64,
    pub(crate) message: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TaskKv {
    pub(crate) task: String,
    pub(crate) request_id: String,
    pub(crate) request: KvRequest,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KvRequest {
    Get { key: String, consistency: String },
    Put { key: String, value: ByteBuf },
    Delete { key: String },
    Cas { key: String, value: ByteBuf, expect: Expect },
    List { prefix: String, after: Option<String>, limit: u32, consistency: String },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Expect {
    Absent,
    Revision(u64),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KvReply {
    Entry(Option<KvEntry>),
    Written { revision: u64, created: bool },
    Deleted { revision: u64, existed: bool },
    Entries { entries: Vec<KvEntry>, more: bool },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct KvEntry {
    pub(crate) key: String,
    pub(crate) value: ByteBuf,
    pub(crate) revision: u64,
    pub(crate) created_revision: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToWorker {
    Order { epoch: u64, order: Order },
    Request(ClassRequest),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    Start(Box<TaskSpec>),
    Stop { task: String },
    DropArchives { digests: Vec<String> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TaskSpec {
    pub(crate) task: String,
    pub(crate) revision: u64,
    pub(crate) instance: String,
    pub(crate) app: String,
    pub(crate) version: u32,
    pub(crate) digest: String,
    pub(crate) flow: String,
    pub(crate) runtime: String,
    pub(crate) entry: Vec<String>,
    pub(crate) args: BTreeMap<String, Value>,
    pub(crate) restart: Restart,
    pub(crate) limits: Limits,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Restart {
    Always,
    OnFailure,
    Never,
}

/// Version 1 refuses a limit that it does not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClassRequest {
    pub(crate) class: String,
    pub(crate) body: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NotifyWorker {
    Moved { owner: String, name: String, addresses: Vec<Uri> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OpenWorker {
    Archive { epoch: u64, digest: String, size: u64 },
    Logs(LogRequest),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LogRequest {
    pub(crate) task: String,
    pub(crate) tail: Option<u64>,
    pub(crate) follow: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StreamResult {
    Ok,
    Failed(Failure),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromClient {
    Request { node: String, request: ClassRequest },
}

/// Of the requests among control nodes, those that a node without a log understands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PeerRequest {
    Raft { rpc: String, body: ByteBuf },
    Join(Join),
    Worker { node: String, request: ClassRequest },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Join {
    pub(crate) node: String,
    pub(crate) name: String,
    pub(crate) boot: String,
    pub(crate) addresses: Vec<Uri>,
    pub(crate) release: String,
}
