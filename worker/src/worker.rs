//! The handle of a running worker. It owns the order in which the parts start and stop, and nothing else.

use crate::cache::Cache;
use crate::callers::{Doors, Porter};
use crate::fence::Fence;
use crate::folder::Folder;
use crate::link::{Connector, Desk, Link, LinkState, Presence, Relays, Reporter};
use crate::socket::{Place, Sockets};
use crate::supervisor::machine::STOP_GRACE;
use crate::supervisor::{Ground, Supervisor};
use crate::uplink::Uplink;
use crate::vital::Vital;
use crate::{OnStop, Options, WorkerStatus};
use longshore_discovery::Discovery;
use longshore_transport::{Identity, Keyring, Session};
use longshore_wire::task::{NodeState, TaskStatus};
use longshore_wire::{ClusterUri, NodeId, RequestId, Role};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use ulid::Ulid;

/// Kept of a stop's deadline for the last report and the goodbye.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why a worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error("{path}: {source}")]
    Folder {
        /// What was touched.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
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
    /// A listener cannot be opened.
    #[error(transparent)]
    Listen(#[from] longshore_transport::ListenError),
    /// Names cannot be resolved.
    #[error(transparent)]
    Discovery(#[from] longshore_discovery::DiscoveryError),
}

/// A running worker. Dropped without [`Worker::stop`], it ends as if killed: its tasks go on.
pub struct Worker {
    node: NodeId,
    status: watch::Receiver<WorkerStatus>,
    inner: Arc<Inner>,
    _abandon: DropGuard,
}

/// What stopping needs.
struct Inner {
    state: watch::Sender<NodeState>,
    session: watch::Receiver<Option<Session>>,
    supervisor: Supervisor,
    reporter: Reporter,
    vital: Vital,
    tracker: TaskTracker,
    on_stop: OnStop,
    stopped: OnceCell<()>,
    ended: CancellationToken,
    _folder: Folder,
}

impl Worker {
    /// Takes the data folder, finds the tasks of a former run again, and begins to seek the cluster. Returns before it
    /// is connected: see [`Worker::status`].
    ///
    /// # Errors
    /// When the data folder or the resolver cannot be used.
    pub async fn start(mut options: Options) -> Result<Self, StartError> {
        let doors = Doors::open(std::mem::take(&mut options.listen)).await?;
        let discovery = Discovery::new(options.resolver.clone())?;
        let data = options.data_dir.clone();
        let (folder, cluster) = (move || Folder::open(&data), options.cluster.clone());
        let opened = tokio::task::spawn_blocking(move || open(folder()?, &cluster)).await;
        let Opened { folder, node, fence, cache, place } = opened.unwrap_or_else(|error| {
            Err(StartError::Folder { path: options.data_dir.clone(), source: io::Error::other(error) })
        })?;
        tracing::info!(%node, name = options.name, "the worker starts");

        let (vital, tracker) = (Vital::default(), TaskTracker::new());
        let (session, sessions) = watch::channel(None);
        let state = watch::channel(NodeState::Ready).0;
        let uplink = Arc::new(Uplink::new(sessions.clone()));
        let ground = Ground {
            paths: folder.paths(),
            cache: Arc::clone(&cache),
            fence: Arc::clone(&fence),
            sockets: Sockets::new(place, uplink, (node, options.name.clone()), tracker.clone()),
            name: options.name.clone(),
            runtimes: options.runtimes.clone(),
        };
        let supervisor = Supervisor::start(ground, &tracker, vital.clone())
            .await
            .map_err(|source| StartError::Folder { path: folder.paths().tasks(), source })?;
        let reporter =
            Reporter { state: state.subscribe(), statuses: supervisor.statuses(), cache: Arc::clone(&cache) };
        let on_stop = options.on_stop;
        let link_state = watch::channel(LinkState::default()).0;
        let links = link_state.subscribe();
        let published = doors.published.clone();
        let relays = Arc::new(Relays::new(RequestId::from_u128(Ulid::generate().into())));
        let desk = Desk::new(&fence, &supervisor, cache, &relays, &tracker);
        let reporting = reporter.clone();
        let parts = Parts { node, discovery, fence, published, reporter: reporting, relays, tracker: tracker.clone() };
        let pauses = crate::link::Pauses::new(options.backoff.clone());
        let connector = connector(options, parts);
        let porter = Porter::of(&connector, links.clone());
        let link = Link {
            calls: doors.serve(porter, &tracker, &vital),
            connector,
            desk: Arc::new(desk),
            reporter: reporter.clone(),
            pauses,
            session,
            state: link_state,
            tracker: tracker.clone(),
        };
        tracker.spawn(vital.clone().watch("link", link.run(vital.stop.clone())));

        let ended = CancellationToken::new();
        let (status, watched) = watch::channel(status_of(NodeState::Ready, &LinkState::default(), &[]));
        let board = Board { state: state.subscribe(), links, tasks: supervisor.statuses(), status };
        tracker.spawn(board.run(ended.clone()));
        let inner = Arc::new(Inner {
            state,
            session: sessions,
            supervisor,
            reporter,
            vital: vital.clone(),
            tracker: tracker.clone(),
            on_stop,
            stopped: OnceCell::new(),
            ended,
            _folder: folder,
        });
        tracker.spawn(stop_when_failed(Arc::clone(&inner)));
        Ok(Self { node, status: watched, inner, _abandon: vital.stop.drop_guard() })
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
        self.inner.ended.cancelled().await;
    }

    /// Stops: tasks as [`Options::on_stop`] says, a last report, the session, the loops; all within `deadline`.
    pub async fn stop(&self, deadline: Duration) {
        self.inner.stop(self.inner.on_stop, deadline).await;
    }
}

impl Inner {
    /// Stops once; whoever comes second waits for the first.
    async fn stop(&self, on_stop: OnStop, deadline: Duration) {
        self.stopped.get_or_init(|| self.stop_now(on_stop, deadline)).await;
    }

    async fn stop_now(&self, on_stop: OnStop, deadline: Duration) {
        let end = Instant::now() + deadline;
        let farewell = FAREWELL.min(deadline / 2);
        self.state.send_replace(NodeState::Stopping);
        if on_stop == OnStop::StopTasks {
            let grace = STOP_GRACE.min(deadline.saturating_sub(farewell * 2));
            if timeout_at(end - farewell, self.supervisor.stop_all(grace)).await.is_err() {
                tracing::error!("not all tasks have ended in time; the next start finds those that still run");
            }
            self.state.send_replace(NodeState::Stopped);
            self.say_stopped(farewell / 2).await;
        }
        self.vital.stop.cancel();
        self.state.send_replace(NodeState::Stopped);
        self.ended.cancel();
        self.tracker.close();
        if timeout_at(end, self.tracker.wait()).await.is_err() {
            tracing::warn!(left = self.tracker.len(), "not all loops have ended in time");
        }
    }

    async fn say_stopped(&self, time: Duration) {
        let session = self.session.borrow().clone();
        let Some(session) = session else { return };
        match timeout(time, self.reporter.send(&session)).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::warn!(message = failure.message, "the owner did not take the last report"),
            Err(_) => tracing::warn!("the owner did not take the last report in time"),
        }
    }
}

async fn stop_when_failed(inner: Arc<Inner>) {
    tokio::select! {
        () = inner.vital.stop.cancelled() => {}
        () = inner.vital.failed.cancelled() => {
            // Not through the tracker: this very loop is tracked, and stopping waits for all that are.
            inner.vital.stop.cancel();
            inner.state.send_replace(NodeState::Stopped);
            inner.ended.cancel();
        }
    }
}

/// What the data folder holds.
struct Opened {
    folder: Folder,
    node: NodeId,
    fence: Arc<Fence>,
    cache: Arc<Cache>,
    place: Place,
}

/// Reads the data folder. Blocks.
fn open(folder: Folder, cluster: &str) -> Result<Opened, StartError> {
    let paths = folder.paths();
    let fail = |path: PathBuf| move |source| StartError::Folder { path, source };
    Ok(Opened {
        node: folder.node_id()?,
        fence: Arc::new(Fence::open(&paths.cluster(), cluster)?),
        cache: Arc::new(Cache::open(paths.cache()).map_err(fail(paths.cache()))?),
        place: Place::choose(paths.root()).map_err(fail(paths.root().to_owned()))?,
        folder,
    })
}

struct Parts {
    node: NodeId,
    discovery: Discovery,
    fence: Arc<Fence>,
    published: Vec<ClusterUri>,
    reporter: Reporter,
    relays: Arc<Relays>,
    tracker: TaskTracker,
}

fn connector(options: Options, parts: Parts) -> Connector {
    let identity = Identity::new(parts.node, Role::Worker, options.cluster, options.release.clone());
    if let Some(id) = parts.fence.known().cluster_id {
        // The cell is new and empty, so this always holds.
        let _ = identity.cluster_id.set(id);
    }
    Connector {
        identity,
        keyring: Keyring::new(options.secret, options.credential),
        discovery: parts.discovery,
        uris: options.discovery,
        dial: options.dial,
        session: options.session,
        fence: parts.fence,
        presence: Presence {
            name: options.name,
            boot: parts.relays.boot(),
            labels: options.labels,
            release: options.release,
            runtimes: options.runtimes,
            published: parts.published,
        },
        reporter: parts.reporter,
        relays: parts.relays,
        tracker: parts.tracker,
    }
}

/// Makes one status of what the parts say.
struct Board {
    state: watch::Receiver<NodeState>,
    links: watch::Receiver<LinkState>,
    tasks: watch::Receiver<Vec<TaskStatus>>,
    status: watch::Sender<WorkerStatus>,
}

impl Board {
    async fn run(mut self, ended: CancellationToken) {
        loop {
            let now = status_of(
                *self.state.borrow_and_update(),
                &self.links.borrow_and_update(),
                &self.tasks.borrow_and_update(),
            );
            self.status.send_if_modified(|before| {
                *before != now && {
                    *before = now;
                    true
                }
            });
            tokio::select! {
                biased;
                Ok(()) = self.state.changed() => {}
                Ok(()) = self.links.changed() => {}
                Ok(()) = self.tasks.changed() => {}
                () = ended.cancelled() => return,
                else => return,
            }
        }
    }
}

fn status_of(state: NodeState, link: &LinkState, tasks: &[TaskStatus]) -> WorkerStatus {
    let state = if state == NodeState::Ready && link.status.is_none() { NodeState::Connecting } else { state };
    WorkerStatus { state, link: link.status.clone(), tasks: tasks.len(), trouble: link.trouble.clone() }
}
