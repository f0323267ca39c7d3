//! The effective configuration: every value typed, every default filled in.

use crate::values::duration;
use crate::{Listen, Proxy};
use longshore_wire::uri::TlsVerify;
use longshore_wire::{ClusterUri, Labels, Role};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The effective configuration of a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// `[node]`
    pub node: Node,
    /// `[cluster]`
    pub cluster: Cluster,
    /// `[auth]`
    pub auth: Auth,
    /// `[tls]`
    pub tls: Tls,
    /// `[proxy]`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// `[api]`
    pub api: Api,
    /// `[dns]`
    pub dns: Dns,
    /// `[control]`
    pub control: Control,
    /// `[worker]`
    pub worker: Worker,
    /// `[limits]`
    pub limits: Limits,
    /// `[snapshots]`
    pub snapshots: Snapshots,
    /// `[timers]`
    pub timers: Timers,
    /// `[[listen]]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<Listen>,
}

impl Config {
    /// Whether the node has this role.
    pub fn has_role(&self, role: Role) -> bool {
        self.node.roles.contains(&role)
    }

    /// All effective values as TOML, secrets redacted.
    pub fn show(&self) -> String {
        toml::to_string(self).expect("every value is of a kind that TOML has")
    }
}

/// Who this node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// For people; default: the host name.
    pub name: String,
    /// Control, worker or both; never empty.
    pub roles: Vec<Role>,
    /// Where everything of this node is kept.
    pub data_dir: PathBuf,
    /// Metadata, for selectors.
    pub labels: Labels,
}

/// Which cluster it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// Compared in every handshake.
    pub name: String,
    /// Where control nodes are found. Never empty on a worker.
    pub discovery: Vec<ClusterUri>,
}

/// How it proves itself. Only paths: the secrets stay in their files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Auth {
    /// The secret of the node's role; of the control role if it has both.
    pub secret_file: PathBuf,
    /// Name of the credential that `secret_file` belongs to; default: the role's name.
    pub credential: String,
    /// The worker's secret on a node with both roles, since credentials are bound to one role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_secret_file: Option<PathBuf>,
    /// Name of the credential that the worker role presents.
    pub worker_credential: String,
    /// JSON list of verifiers that `--bootstrap` puts into the new cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verifiers_file: Option<PathBuf>,
}

impl Auth {
    /// The secret file of the worker role.
    pub fn worker_secret(&self) -> &PathBuf {
        self.worker_secret_file.as_ref().unwrap_or(&self.secret_file)
    }
}

/// Certificates, and what vouches for a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// Certificate chain (PEM) that listeners present; without it a node makes its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// Its key (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Roots (PEM) for `verify = "ca"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The one certificate (PEM) for `verify = "pin"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin_file: Option<PathBuf>,
    /// What vouches for a dialled peer unless its URI says otherwise.
    pub verify: TlsVerify,
}

/// The HTTP API of a control node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Api {
    /// Addresses; empty for the socket only.
    pub listen: Vec<SocketAddr>,
    /// The Unix socket of the local command line.
    pub socket: PathBuf,
    /// What its loopback addresses ask for.
    pub loopback: Loopback,
    /// Whether its addresses speak HTTPS, with the listeners' certificate.
    pub tls: ApiTls,
}

/// What a loopback address of the API asks for. Every other address asks for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loopback {
    /// Nothing: every user of this machine commands the cluster.
    Open,
    /// A token.
    #[default]
    Token,
}

/// Whether the API speaks HTTPS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApiTls {
    /// Plain HTTP.
    #[default]
    Off,
    /// HTTPS.
    On,
}

/// How names are resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dns {
    /// DNS servers; empty for those of the system.
    pub nameservers: Vec<SocketAddr>,
    /// For one question.
    #[serde(serialize_with = "duration::serialize")]
    pub timeout: Duration,
}

/// Of the control group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Control {
    /// How many control nodes vote; odd. Used when the cluster is bootstrapped.
    pub voters: u32,
    /// What becomes of the node's membership when its process is asked to end.
    pub on_stop: Parting,
}

/// What becomes of a control node's membership when its process is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parting {
    /// It stays a member, and comes back as who it was.
    #[default]
    Stay,
    /// It leaves the cluster.
    Leave,
}

/// Of the worker role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Worker {
    /// Runtimes that it offers.
    pub runtimes: Vec<String>,
    /// What becomes of tasks when the worker's process ends.
    pub on_stop: OnStop,
}

/// What becomes of tasks when the worker's process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStop {
    /// They run on, and the next process finds them again.
    #[default]
    Keep,
    /// They are stopped.
    Stop,
}

/// Snapshots that a control node saves by the clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshots {
    /// Where; without it none are saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Time between two.
    #[serde(serialize_with = "duration::serialize")]
    pub every: Duration,
    /// How many are kept.
    pub keep: u32,
}

/// What others may take of a control node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Connections that may be unproven, in all.
    pub pending: u32,
    /// Unproven connections of one address (IPv6: of one /64) that are worked on at once.
    pub pending_per_address: u32,
    /// Proven sessions of workers and clients.
    pub sessions: u32,
    /// MiB free below the data folder under which a control node takes no writes and does not lead.
    pub disk_low_mib: u32,
}

/// Times that are fit for a LAN; a WAN wants some of them longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Timers {
    /// Between two pings of a session.
    #[serde(serialize_with = "duration::serialize")]
    pub ping_every: Duration,
    /// For the answer to a ping.
    #[serde(serialize_with = "duration::serialize")]
    pub ping_deadline: Duration,
    /// A session over which nothing came for so long is lost.
    #[serde(serialize_with = "duration::serialize")]
    pub session_lost_after: Duration,
    /// For a connection to be made.
    #[serde(serialize_with = "duration::serialize")]
    pub connect_timeout: Duration,
    /// Pause before the first new attempt to connect.
    #[serde(serialize_with = "duration::serialize")]
    pub reconnect_min: Duration,
    /// Longest pause between attempts.
    #[serde(serialize_with = "duration::serialize")]
    pub reconnect_max: Duration,
    /// Between two heartbeats of the leader.
    #[serde(serialize_with = "duration::serialize")]
    pub heartbeat: Duration,
    /// A follower that misses the leader waits so long at least …
    #[serde(serialize_with = "duration::serialize")]
    pub election_min: Duration,
    /// … and so long at most before it stands for election. After so long a silence the leader is missed.
    #[serde(serialize_with = "duration::serialize")]
    pub election_max: Duration,
    /// A voter dead for so long is replaced.
    #[serde(serialize_with = "duration::serialize")]
    pub voter_grace: Duration,
}
