//! What the parts of a worker may ask of the cluster, whoever owns the worker at the moment.

use futures_util::future::BoxFuture;
use longshore_wire::Failure;
use longshore_wire::edge::TaskKv;
use longshore_wire::kv::KvReply;

/// The cluster, seen from a task.
pub(crate) trait Cluster: Send + Sync + 'static {
    /// Carries out a KV operation; waits, within bounds, for a session, and repeats what a lost one left open.
    fn kv(&self, request: TaskKv) -> BoxFuture<'_, Result<KvReply, Failure>>;

    /// Whether a session stands right now.
    fn is_connected(&self) -> bool;
}
