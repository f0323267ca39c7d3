//! What can be asked of the state machine, and what it answers.
//!
//! These types are stored in the Raft log and travel between control nodes: add fields with a serde default, add
//! variants, never change or reuse one.

use crate::record::CloneAlarm;
use crate::tokens::Token;
use longshore_wire::app::Manifest;
use longshore_wire::credential::Verifier;
use longshore_wire::kv::{KvReply, KvRequest, Txn, TxnReply};
use longshore_wire::task::{NodeState, TaskStatus};
use longshore_wire::{
    Blake3, ClusterId, ClusterUri, Digest, Epoch, Failure, Generation, Labels, NodeId, RequestId, ShortId, TaskId,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// One command on its way into the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// Names the request, retries included: a repeat gets the first outcome and changes nothing.
    pub request_id: RequestId,
    /// Unix milliseconds by the proposer's clock. Shown to people; nothing is decided by it.
    pub now_ms: u64,
    /// What to do.
    pub command: Command,
}

/// What can be done to the state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Founds the cluster. Always the first command; a repeat with the same id is no error.
    InitCluster {
        /// The cluster's id.
        cluster_id: ClusterId,
        /// The cluster's name.
        name: String,
        /// The first credentials.
        verifiers: Vec<Verifier>,
    },
    /// A control node is here. Answer: [`Reply::Registered`].
    RegisterControl(ControlNode),
    /// A worker is here. Answer: [`Reply::Registered`].
    RegisterWorker {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
        /// Random per process start: a change raises the generation.
        boot: RequestId,
        /// Its labels.
        labels: Labels,
        /// Release of its program.
        release: String,
        /// Runtimes that it offers.
        runtimes: Vec<String>,
        /// Where it can be dialled; empty for a worker without listening port.
        #[serde(default)]
        addresses: Vec<ClusterUri>,
    },
    /// The owner of a worker tells how the worker stands. [`longshore_wire::Code::StaleEpoch`] from anybody else.
    SetConnected {
        /// The worker.
        node: NodeId,
        /// Epoch under which `owner` owns it.
        epoch: Epoch,
        /// Who tells.
        owner: NodeId,
        /// How the worker stands.
        state: NodeState,
        /// Transport of its session; empty when it has none.
        transport: String,
        /// Its address as the owner sees it.
        remote: Option<String>,
        /// Another live process that has its node id.
        #[serde(default)]
        clone: Option<CloneAlarm>,
    },
    /// Whether the leader hears from a control node.
    SetAlive {
        /// The control node.
        node: NodeId,
        /// Whether it is heard.
        alive: bool,
    },
    /// Spreads the ring over these control nodes. Answer: [`Reply::Ring`].
    SetRing {
        /// The control nodes; order and repeats do not matter.
        owners: Vec<NodeId>,
    },
    /// How many voters the control group should have.
    SetVoters {
        /// An odd number.
        wanted: u32,
    },
    /// Forgets a node, with its tasks; its short id rests.
    RemoveNode {
        /// Which.
        node: NodeId,
    },
    /// A write to the key-value store; reads never enter the log. Answer: [`Reply::Kv`].
    Kv(KvRequest),
    /// A transaction on the key-value store. Answer: [`Reply::Txn`].
    Txn(Txn),
    /// A lease for keys. Answer: [`Reply::Lease`].
    GrantLease {
        /// How long it lives without being kept alive, in milliseconds.
        ttl_ms: u64,
    },
    /// A lease's holder is there. Answer: [`Reply::Lease`].
    KeepLease {
        /// Which.
        lease: u64,
    },
    /// Ends a lease and deletes its keys. Answer: [`Reply::LeaseEnded`].
    RevokeLease {
        /// Which.
        lease: u64,
        /// Only if it has been kept alive so often and no more: whoever measures time may be late.
        #[serde(default)]
        renewals: Option<u64>,
    },
    /// How many bytes of keys and values the key-value store may hold.
    SetQuota {
        /// So many; `None` for [`crate::KV_QUOTA`].
        bytes: Option<u64>,
    },
    /// How many writes to the key-value store operators and apps may make in a second, all together.
    SetBrake {
        /// So many; `None` for no limit.
        writes: Option<u32>,
    },
    /// The same request once more, by somebody who does not know whether the first was carried out. Refused as unknown when
    /// its first outcome may have been forgotten; [`Proposal::request_id`] must be a ULID.
    Again(Box<Command>),
    /// An archive has been stored. Answer: [`Reply::Installed`].
    InstallApp {
        /// Its manifest.
        manifest: Manifest,
        /// SHA-256 of the archive.
        digest: Digest,
        /// Bytes of the archive.
        size: u64,
        /// BLAKE3 of the archive. Entries of older builds have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        blake3: Option<Blake3>,
    },
    /// Forgets an app with all versions and ended instances.
    RemoveApp {
        /// Which.
        app: String,
    },
    /// Starts a flow. Answer: [`Reply::Started`].
    StartInstance(InstanceSpec),
    /// Ends an instance's tasks. It stays listed as stopped; its name can be used again once its tasks are gone.
    StopInstance {
        /// Which.
        instance: String,
    },
    /// The placer's decision about one instance.
    Assign {
        /// The instance.
        instance: String,
        /// [`crate::Instance::revision`] on which the decision rests; refused when the instance has changed since.
        revision: u64,
        /// Workers that shall run a task of it.
        add: Vec<NodeId>,
        /// Workers that shall no longer.
        drop: Vec<NodeId>,
    },
    /// The owner of a worker tells all tasks that are there. [`longshore_wire::Code::StaleEpoch`] under another epoch.
    ReportTasks {
        /// The worker.
        node: NodeId,
        /// Epoch under which the teller owns it.
        epoch: Epoch,
        /// All its tasks.
        tasks: Vec<TaskStatus>,
        /// Tasks that shall end and have ended ([`crate::State::ended_tasks`]), with their revisions. Named, and not
        /// just missing: a report that is late must not end what was started since.
        #[serde(default)]
        ended: Vec<(TaskId, u64)>,
    },
    /// Makes a credential. Answer: [`Reply::Secret`].
    CreateCredential {
        /// What checks its first secret; holds its name and role.
        verifier: Verifier,
        /// The only node that may use it.
        holder: Option<Holder>,
    },
    /// Lets a second secret of a credential be valid beside the first. Answer: [`Reply::Secret`].
    AddSecret {
        /// What checks it; salt and rounds are the credential's.
        verifier: Verifier,
    },
    /// Ends one of two valid secrets.
    RetireSecret {
        /// The credential.
        credential: String,
        /// Number of the secret.
        secret: u32,
    },
    /// Ends a credential for good.
    RevokeCredential {
        /// Which.
        credential: String,
    },
    /// A node has proven a credential that awaits its node. [`longshore_wire::Code::Forbidden`] when another one was first.
    BindCredential {
        /// Which.
        credential: String,
        /// Who.
        node: NodeId,
    },
    /// Makes a token of the API. Refused when its name is taken.
    CreateToken(Token),
    /// Ends a token at once.
    RevokeToken {
        /// Which.
        name: String,
    },
}

/// The only node that may use a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    /// This one.
    Node(NodeId),
    /// A node that is still to come, by this name: the first one that proves the credential becomes its holder.
    Awaited(String),
}

/// A control node as it registers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlNode {
    /// Who.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Random per process start: a change raises the generation.
    pub boot: RequestId,
    /// Where others can dial it.
    pub addresses: Vec<ClusterUri>,
    /// Release of its program.
    pub release: String,
}

/// A flow to start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// Name of the instance.
    pub instance: String,
    /// The app; its newest version is taken.
    pub app: String,
    /// The flow of the app.
    pub flow: String,
    /// Arguments that differ from the flow's defaults.
    pub args: BTreeMap<String, Value>,
    /// On how many workers.
    pub on: On,
    /// Which workers: see [`crate::selector`]. Empty for all.
    pub selector: String,
}

/// On how many workers an instance runs. Text: `all`, `one`, or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// Every worker that matches, present or future.
    All,
    /// Exactly one.
    One,
    /// So many.
    Count(NonZeroU32),
}

impl On {
    /// The most tasks at a time; `None` for no limit.
    pub fn limit(self) -> Option<usize> {
        match self {
            Self::All => None,
            Self::One => Some(1),
            Self::Count(count) => Some(usize::try_from(count.get()).unwrap_or(usize::MAX)),
        }
    }
}

/// A text that is not an [`On`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}': an instance runs on `all`, `one` or a number of workers")]
pub struct OnError(String);

impl FromStr for On {
    type Err = OnError;

    fn from_str(text: &str) -> Result<Self, OnError> {
        match text {
            "all" => Ok(Self::All),
            "one" => Ok(Self::One),
            other => other.parse().map(Self::Count).map_err(|_| OnError(other.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.pad("all"),
            Self::One => f.pad("one"),
            Self::Count(count) => f.pad(&count.to_string()),
        }
    }
}

impl Serialize for On {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for On {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// What a command that was carried out answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done; there is nothing to add.
    Done,
    /// To `RegisterControl` and `RegisterWorker`.
    Registered {
        /// The node's short id.
        short_id: ShortId,
        /// The node's generation.
        generation: Generation,
    },
    /// To `SetRing`.
    Ring {
        /// How many partitions have another owner now.
        moved: u32,
    },
    /// To `Kv`.
    Kv(KvReply),
    /// To `Txn`.
    Txn(TxnReply),
    /// To `GrantLease` and `KeepLease`.
    Lease {
        /// The lease.
        lease: u64,
        /// How long it lives without being kept alive, in milliseconds.
        ttl_ms: u64,
    },
    /// To `RevokeLease`.
    LeaseEnded {
        /// How many keys went with it.
        keys: u32,
    },
    /// To `InstallApp`.
    Installed {
        /// The app's name.
        app: String,
        /// The version that this archive is.
        version: u32,
    },
    /// To `StartInstance`.
    Started {
        /// The instance's revision.
        revision: u64,
        /// The app's version that it runs.
        version: u32,
    },
    /// To `CreateCredential` and `AddSecret`.
    Secret {
        /// Number of the new secret within its credential.
        number: u32,
    },
}

/// What became of a proposal. A refusal is an outcome, never a fault of the store.
pub type Outcome = Result<Reply, Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_is_all_one_or_a_number() {
        for text in ["all", "one", "12"] {
            assert_eq!(text.parse::<On>().unwrap().to_string(), text);
        }
        for wrong in ["", "0", "-1", "some", "vnodes:4", "99999999999"] {
            assert!(wrong.parse::<On>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn proposals_round_trip_as_messagepack() {
        let on = On::Count(NonZeroU32::new(3).unwrap());
        let (instance, app, flow) = ("i".to_owned(), "a".to_owned(), "main".to_owned());
        let args = BTreeMap::from([("list".to_owned(), Value::from(vec![1, 2])), ("float".to_owned(), 1.5.into())]);
        let spec = InstanceSpec { instance, app, flow, args, on, selector: "core".into() };
        let command = Command::StartInstance(spec);
        let proposal = Proposal { request_id: RequestId::from_u128(7), now_ms: 3, command };
        let decoded: Proposal = longshore_wire::decode(&longshore_wire::encode(&proposal)).unwrap();
        assert_eq!(decoded, proposal);
    }
}
