//! The app sockets: an HTTP/1.1 server on a Unix socket for each task, through which it uses the cluster.
//!
//! ```text
//! task ── curl --unix-socket "$LONGSHORE_SOCKET" http://app/v1/kv/greeting ──▶ socket ──▶ Cluster
//! ```
//!
//! A socket belongs to one task, so nobody has to prove who it is; the file is this user's alone. Never reads another
//! app's keys: the owner puts the app's prefix in front of every key.

mod kv;
mod listener;
mod place;
mod problem;

pub(crate) use place::Place;

use crate::cluster::Cluster;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::get;
use listener::Bounded;
use longshore_wire::kv::MAX_VALUE;
use longshore_wire::task::TaskSpec;
use longshore_wire::{Failure, NodeId, ShortId};
use problem::Problem;
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Makes the sockets of a worker's tasks.
#[derive(Clone)]
pub(crate) struct Sockets {
    place: Place,
    cluster: Arc<dyn Cluster>,
    node: NodeId,
    name: String,
    tracker: TaskTracker,
}

/// An open socket; closed and removed when dropped.
pub(crate) struct AppSocket {
    path: PathBuf,
    _running: DropGuard,
}

/// What the handlers of one socket know.
#[derive(Clone)]
struct App {
    cluster: Arc<dyn Cluster>,
    spec: Arc<TaskSpec>,
    node: NodeId,
    name: String,
    short_id: Option<ShortId>,
}

impl Sockets {
    /// Sockets at `place`, for a worker with this id and name.
    pub(crate) fn new(
        place: Place,
        cluster: Arc<dyn Cluster>,
        (node, name): (NodeId, String),
        tracker: TaskTracker,
    ) -> Self {
        Self { place, cluster, node, name, tracker }
    }

    /// Opens a task's socket. Its path is the same at every start of the worker, since the task outlives it.
    pub(crate) fn open(&self, spec: &TaskSpec, short_id: Option<ShortId>) -> io::Result<AppSocket> {
        let path = self.place.of(&spec.task);
        let listener = Bounded::bind(&path)?;
        let token = CancellationToken::new();
        let app = App {
            cluster: Arc::clone(&self.cluster),
            spec: Arc::new(spec.clone()),
            node: self.node,
            name: self.name.clone(),
            short_id,
        };
        let (stop, task) = (token.clone(), spec.task.clone());
        self.tracker.spawn(async move {
            // Ends only by its token: the listener retries what fails.
            let serving = axum::serve(listener, router(app)).into_future();
            tokio::select! {
                () = stop.cancelled() => {}
                ended = serving => tracing::error!(%task, ?ended, "an app socket ended by itself"),
            }
        });
        Ok(AppSocket { path, _running: token.drop_guard() })
    }
}

impl AppSocket {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for AppSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn router(app: App) -> Router {
    Router::new()
        .route("/v1/self", get(describe))
        .route("/v1/kv", get(kv::list))
        .route("/v1/kv/{*key}", get(kv::read).put(kv::write).delete(kv::delete))
        .fallback(async || {
            Problem::from(Failure::new(longshore_wire::Code::NotFound, "no such path on the app socket"))
        })
        .method_not_allowed_fallback(async || Problem::method())
        .layer(DefaultBodyLimit::max(MAX_VALUE))
        .with_state(app)
}

async fn describe(State(app): State<App>) -> axum::Json<Value> {
    let spec = &app.spec;
    axum::Json(json!({
        "node": app.name,
        "node_id": app.node,
        "short_id": app.short_id,
        "app": spec.app,
        "version": spec.version,
        "flow": spec.flow,
        "instance": spec.instance,
        "task": spec.task,
        "args": spec.args,
        "connected": app.cluster.is_connected(),
    }))
}

#[cfg(test)]
mod tests;
