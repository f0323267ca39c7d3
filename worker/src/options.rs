//! What a worker is told at its start, and what it tells of itself. Plain values: no file, no socket.

use crate::callers::Listen;
use longshore_discovery::ResolverOptions;
use longshore_transport::{Backoff, Carrier, DialOptions, Secret, SessionOptions};
use longshore_wire::task::NodeState;
use longshore_wire::{ClusterUri, Epoch, Labels, NodeId, ShortId};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Everything that a worker needs.
pub struct Options {
    /// Its name, for people.
    pub name: String,
    /// Its own folder; made when absent. Not to be shared with a control node's.
    pub data_dir: PathBuf,
    /// Name of the cluster.
    pub cluster: String,
    /// Its labels.
    pub labels: Labels,
    /// Where the cluster is found.
    pub discovery: Vec<ClusterUri>,
    /// How names are resolved.
    pub resolver: ResolverOptions,
    /// Where control nodes can dial it; empty for a worker without listening port, as most are.
    pub listen: Vec<Listen>,
    /// What it proves itself with.
    pub secret: Secret,
    /// Name of the credential that the secret belongs to; `worker` unless the cluster has others.
    pub credential: String,
    /// How control nodes are dialled.
    pub dial: DialOptions,
    /// Runtimes that it offers; `exec` runs an archive's own program.
    pub runtimes: Vec<String>,
    /// Pings and limits of its sessions.
    pub session: SessionOptions,
    /// Pauses between attempts to reach the cluster.
    pub backoff: Backoff,
    /// Release of the program.
    pub release: String,
    /// What becomes of the tasks when the worker is stopped.
    pub on_stop: OnStop,
}

/// What becomes of the tasks when the worker is stopped on request. When it is killed, they always go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnStop {
    /// They are stopped, and started again at the worker's next start unless their restart policy is `never`.
    #[default]
    StopTasks,
    /// They go on, and the worker's next start finds them.
    KeepTasks,
}

/// Where a worker is in its life, and who drives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Connecting, ready, stopping or stopped.
    pub state: NodeState,
    /// The session in use.
    pub link: Option<LinkStatus>,
    /// How many tasks it has.
    pub tasks: usize,
    /// Why the last attempt to reach the cluster failed; `None` while connected.
    pub trouble: Option<String>,
}

/// Who drives a worker, and over what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// The owner.
    pub owner: NodeId,
    /// The owner's name.
    pub owner_name: String,
    /// Its epoch.
    pub epoch: Epoch,
    /// The worker's short id.
    pub short_id: ShortId,
    /// What carries the session; [`Carrier::Tunnel`] when another control node stands between.
    pub carrier: Carrier,
    /// The address at the other end, where there is a socket.
    pub remote: Option<SocketAddr>,
}
