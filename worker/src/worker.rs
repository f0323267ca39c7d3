//! The handle of a running worker. It owns the order in which the parts start and stop, and nothing else.

use crate::{Options, WorkerStatus};
use longshore_wire::NodeId;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;

/// Why a worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error("{path}: {source}")]
    Folder {
        /// What was touched.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another process uses the data folder.
    #[error("{0}: another worker is using this data folder; stop it, or set another node.data_dir")]
    InUse(PathBuf),
    /// A file in the data folder is damaged.
    #[error("{path}: {reason}")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Names cannot be resolved.
    #[error(transparent)]
    Discovery(#[from] longshore_discovery::DiscoveryError),
}

/// A running worker.
pub struct Worker {
    node: NodeId,
    status: watch::Receiver<WorkerStatus>,
}

impl Worker {
    /// Takes the data folder, finds the tasks of a former run again, and begins to seek the cluster. Returns before it
    /// is connected: see [`Worker::status`].
    ///
    /// # Errors
    /// When the data folder or the resolver cannot be used.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        Err(StartError::InUse(options.data_dir))
    }

    /// The worker's persistent id.
    pub const fn node_id(&self) -> NodeId {
        self.node
    }

    /// Follows the worker's state.
    pub fn status(&self) -> watch::Receiver<WorkerStatus> {
        self.status.clone()
    }

    /// Resolves when the worker has stopped, on request or because a part of it ended that never should.
    pub async fn stopped(&self) {
        let mut status = self.status.clone();
        let _ = status.wait_for(|status| status.state == longshore_wire::task::NodeState::Stopped).await;
    }

    /// Stops: tasks as [`Options::on_stop`] says, a last report, the session, the loops; all within `deadline`.
    pub async fn stop(&self, deadline: Duration) {
        tracing::debug!(?deadline, "the worker stops");
    }
}
