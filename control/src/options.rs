//! What a control node is started with: plain values, already validated.
//!
//! Owns no file format: the binary turns its configuration into these. Never holds a value that can change while the
//! node runs; what may change lives in the replicated state.

use crate::schedule::Scheduled;
use longshore_discovery::ResolverOptions;
use longshore_transport::{DialOptions, ListenOptions, Secret, ServerTls, SessionOptions};
use longshore_wire::credential::Verifier;
use longshore_wire::{ClusterUri, Transport};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that a control node needs to know at its start.
#[derive(Debug)]
pub struct Options {
    /// The node's name, for people.
    pub node_name: String,
    /// Folder of its identity, log, snapshots and archives; made when absent.
    pub data_dir: PathBuf,
    /// Name of the cluster.
    pub cluster: String,
    /// Makes a new cluster out of this node; only on the very first control node, once.
    pub bootstrap: Option<Bootstrap>,
    /// Where the other control nodes are found.
    pub discovery: Vec<ClusterUri>,
    /// How names are resolved.
    pub resolver: ResolverOptions,
    /// The control nodes' common secret.
    pub secret: Secret,
    /// Name of the credential that the secret belongs to; `control` unless the cluster has others.
    pub credential: String,
    /// Where workers and other control nodes dial in.
    pub listen: Vec<Listen>,
    /// How others are dialled.
    pub dial: DialOptions,
    /// Where the HTTP API listens.
    pub api: Vec<ApiListen>,
    /// What guards those of its addresses that are no Unix sockets.
    pub api_guard: ApiGuard,
    /// Proven sessions of workers and clients that may stand at once.
    pub max_sessions: usize,
    /// Deadlines and graces.
    pub timers: Timers,
    /// Release of the program, for people.
    pub release: String,
    /// With fewer bytes free below the data folder the node takes no writes and does not lead; 0 = whatever is free.
    pub disk_low: u64,
    /// How hard data is pressed onto the disk.
    pub storage: Disk,
    /// Snapshots that are saved by the clock.
    pub snapshots: Option<Scheduled>,
}

/// What a new cluster starts with.
#[derive(Debug)]
pub struct Bootstrap {
    /// The credentials that it accepts.
    pub verifiers: Vec<Verifier>,
    /// How many control nodes shall vote; odd.
    pub voters: u32,
}

/// One listening address of the session protocol.
#[derive(Debug)]
pub struct Listen {
    /// Where to bind and what to speak.
    pub options: ListenOptions,
    /// What others are told to dial; `None` = the bound address itself.
    pub advertise: Option<ClusterUri>,
}

/// What others are told to dial when nothing else is configured. A wildcard address tells nobody anything.
pub(crate) fn advertised(transport: Transport, local: SocketAddr, path: String) -> Option<ClusterUri> {
    if local.ip().is_unspecified() {
        tracing::warn!(%local, "this listener has no `advertise`: workers can reach this node only through discovery or a tunnel");
        return None;
    }
    Some(ClusterUri {
        host: local.ip().to_string(),
        port: Some(local.port()),
        transport: Some(transport),
        path: transport.is_websocket().then_some(path),
        tls_verify: None,
    })
}

/// One listening address of the HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiListen {
    /// HTTP over TCP, guarded by [`Options::api_guard`].
    Tcp(SocketAddr),
    /// A Unix socket that only its owner may open (mode 0600).
    Unix(PathBuf),
}

/// What guards the TCP addresses of the HTTP API.
#[derive(Debug, Clone)]
pub struct ApiGuard {
    /// HTTPS with this certificate; without it plain HTTP.
    pub tls: Option<ServerTls>,
    /// Whether callers from this machine need a token. All others always do.
    pub loopback: Loopback,
}

/// What a loopback address of the API asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Loopback {
    /// Nothing: every user of this machine commands the cluster.
    Open,
    /// A token, as everywhere else.
    #[default]
    Token,
}

/// Deadlines and graces of a control node.
#[derive(Debug, Clone)]
pub struct Timers {
    /// Heartbeat of the Raft leader.
    pub heartbeat: Duration,
    /// Shortest random pause before a follower that misses the leader stands for election.
    pub election_min: Duration,
    /// Longest such pause; and the silence after which a leader is missed.
    pub election_max: Duration,
    /// A control node without session for so long leaves the ring.
    pub ring_grace: Duration,
    /// A voter without session for so long is replaced by a healthy learner.
    pub voter_grace: Duration,
    /// An owner waits so long for its worker to come before it reports it as not connected.
    pub attach_grace: Duration,
    /// Pings of the sessions.
    pub session: SessionOptions,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(200),
            election_max: Duration::from_millis(500),
            ring_grace: Duration::from_secs(2),
            voter_grace: Duration::from_secs(10),
            attach_grace: Duration::from_secs(15),
            session: SessionOptions::default(),
        }
    }
}

/// How hard data is pressed onto the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Disk {
    /// Acknowledged means synced, on a majority. There is no weaker choice: a voter that forgets its vote breaks Raft.
    #[default]
    Durable,
}
