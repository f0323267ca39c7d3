//! How a node's part in the group starts: from what it has stored, as founder, or by asking to be taken in.

use super::admission::{self, Admission};
use super::batcher;
use super::confirm::Told;
use super::engine::{Engine, Parts};
use super::group::Group;
use super::log_store::LogStore;
use super::machine_store::MachineStore;
use super::network::Network;
use super::pin::Pin;
use super::reads;
use super::status::{self, Leadership};
use super::transfer::Gate;
use super::types::Raft;
use super::upkeep::{self, Limits};
use crate::founding::{LOG_FOLDER, SNAPSHOT_FOLDER};
use crate::identity::random_ulid;
use crate::log::{Log, LogError};
use crate::machine::{Machine, MachineError};
use crate::peers::Peers;
use crate::room::Room;
use longshore_state::{Command, State};
use longshore_wire::credential::Verifier;
use longshore_wire::{ClusterId, ClusterUri, Failure, NodeId};
use openraft::async_runtime::WatchReceiver as _;
use openraft::{Config, EmptyNode, Instant as _, SnapshotPolicy};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Time for a group to stop that was never part of anything.
const NOTHING_YET: Duration = Duration::from_secs(1);

/// What the group starts with.
#[derive(Debug)]
pub(crate) struct GroupOptions {
    /// Folder of log and snapshots; belongs to this process.
    pub(crate) folder: PathBuf,
    /// This node.
    pub(crate) node: NodeId,
    /// Name of the cluster.
    pub(crate) cluster: String,
    /// Founds a new cluster with these credentials, unless the folder already holds one.
    pub(crate) bootstrap: Option<Bootstrapping>,
    /// Heartbeat of the leader.
    pub(crate) heartbeat: Duration,
    /// Shortest and longest pause before a follower stands for election that has missed the leader for the longest.
    pub(crate) election: (Duration, Duration),
    /// Sessions to the other control nodes.
    pub(crate) peers: Peers,
    /// How large log and snapshots grow.
    pub(crate) limits: Limits,
    /// The disk that they are on.
    pub(crate) room: Room,
}

/// What a new cluster starts with.
#[derive(Debug)]
pub(crate) struct Bootstrapping {
    /// The credentials that it accepts.
    pub(crate) verifiers: Vec<Verifier>,
    /// How many control nodes shall vote.
    pub(crate) voters: u32,
}

/// Why the group cannot start.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogFault),
    /// Log or snapshot are not what was written.
    #[error("{0}")]
    Damaged(String),
    /// The data folder belongs to another cluster.
    #[error("{}: this data folder holds a node of cluster '{found}', not of '{wanted}'; correct cluster.name, or give this node a new data folder", folder.display())]
    OtherCluster {
        /// The folder.
        folder: PathBuf,
        /// The cluster in it.
        found: String,
        /// The cluster configured.
        wanted: String,
    },
    /// Entries are missing between snapshot and log.
    #[error("{}: the log begins behind entry {purged}, but the newest snapshot ends at {snapshot}", folder.display())]
    Incomplete {
        /// The folder.
        folder: PathBuf,
        /// Last purged entry.
        purged: u64,
        /// Last entry within the snapshot, in words.
        snapshot: String,
    },
    /// The Raft engine refuses.
    #[error("the Raft engine does not start: {0}")]
    Engine(String),
    /// It belongs to no cluster and knows nowhere to ask.
    #[error(
        "this control node belongs to no cluster, and cluster.discovery names nobody to ask: set it to where the other control nodes are found; or, if this is the very first control node, start it once with --bootstrap"
    )]
    Nobody,
    /// The new cluster could not be founded.
    #[error("the new cluster could not be founded: {0}")]
    Bootstrap(Failure),
}

/// A fault of the stored log or snapshots, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LogFault(String);

impl GroupError {
    /// Whether what is stored is damaged or incomplete.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Incomplete { .. })
    }
}

impl From<LogError> for GroupError {
    fn from(error: LogError) -> Self {
        if matches!(error, LogError::Damaged { .. }) {
            return Self::Damaged(error.to_string());
        }
        Self::Log(LogFault(error.to_string()))
    }
}

impl From<MachineError> for GroupError {
    fn from(error: MachineError) -> Self {
        if error.is_damage() {
            return Self::Damaged(error.to_string());
        }
        Self::Log(LogFault(error.to_string()))
    }
}

impl Group {
    /// Starts this node's part: restores what is stored; founds the cluster if asked to and there is none; otherwise,
    /// without a stored membership, asks to be taken in until it is. Returns before the latter is over.
    ///
    /// # Errors
    /// See [`GroupError`].
    pub(crate) async fn start(options: GroupOptions) -> Result<Self, GroupError> {
        let (log, machine) = open(options.folder.clone()).await?;
        check_cluster(&options, &machine.view().state())?;
        let (view, snapshots) = (machine.view(), machine.snapshots().clone());
        let (pin, told) = (Pin::default(), Told::default());
        let peers = options.peers.clone();
        let network = Network { peers, pin: pin.clone(), snapshots: snapshots.clone(), told: told.clone() };
        let store = MachineStore { machine, pin: pin.clone(), room: options.room.clone() };
        let raft = Raft::new(options.node, Arc::new(config(&options)?), network, LogStore(log.clone()), store);
        let raft = raft.await.map_err(|error| GroupError::Engine(error.to_string()))?;
        check_cluster(&options, &view.state())?;
        let engine = Engine(Arc::new(Parts {
            node: options.node,
            raft,
            log,
            view,
            snapshots,
            peers: options.peers.clone(),
            leadership: watch::Sender::new(Leadership::default()),
            heard: Mutex::new(Instant::now()),
            heard_again: Notify::new(),
            fault: watch::Sender::new(None),
            stop: CancellationToken::new(),
            gate: Gate::default(),
            installs: AtomicU64::new(0),
            pin,
            told,
            tally: Arc::default(),
            limits: options.limits,
            room: options.room,
            admission: Admission::default(),
        }));
        let group = spawn(engine, options.election.1 * 2);
        options.peers.serve_group(Arc::new(group.clone()));
        group.spawn(admission::run(group.clone()));
        let initialized =
            group.engine().0.raft.is_initialized().await.map_err(|error| GroupError::Engine(error.to_string()))?;
        match options.bootstrap {
            Some(bootstrap) => found(&group, &options.cluster, bootstrap, initialized).await?,
            None if initialized && group.knows_others().await? => {}
            None if !options.peers.has_seeds() => {
                group.stop(NOTHING_YET).await;
                return Err(GroupError::Nobody);
            }
            None => options.peers.seek_membership(until_member(&group)),
        }
        Ok(group)
    }
}

impl Group {
    /// Whether this node belongs to the group, or knows a cluster whose nodes it can dial. One that stopped after it had
    /// been taken in, but before it got any of the log, knows nobody: if it has moved, nobody finds it either.
    async fn knows_others(&self) -> Result<bool, GroupError> {
        let node = self.engine().0.node;
        let member =
            self.engine().0.raft.with_raft_state(move |state| {
                state.membership_state.effective().membership().get_node(&node).is_some()
            });
        let member = member.await.map_err(|error| GroupError::Engine(error.to_string()))?;
        Ok(member || self.state().cluster().is_some())
    }
}

/// Opens log and machine on a thread that may block, and checks that nothing is missing between them.
async fn open(folder: PathBuf) -> Result<(Log, Machine), GroupError> {
    let shown = folder.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let io = |cause: std::io::Error| GroupError::Log(LogFault(format!("{}: {cause}", folder.display())));
        std::fs::create_dir_all(&folder).map_err(io)?;
        let machine = Machine::restore(&folder.join(SNAPSHOT_FOLDER))?;
        let log = Log::open(&folder.join(LOG_FOLDER))?;
        // The engine would end by the error.
        log.wait_for_space();
        check_complete(&folder, &log, &machine)?;
        Ok((log, machine))
    });
    // The first release's log is read by redb, which trusts the inner pages of its file: some damage shows as a panic only.
    opened.await.map_err(|error| {
        GroupError::Damaged(format!("{}: reading log and snapshots panicked: {error}", shown.display()))
    })?
}

/// A hole between snapshot and log would never be noticed later.
fn check_complete(folder: &Path, log: &Log, machine: &Machine) -> Result<(), GroupError> {
    let (Some(purged), _) = log.ends() else { return Ok(()) };
    let applied = machine.meta().applied.map(|position| position.index);
    if applied.is_some_and(|applied| applied >= purged.index) {
        return Ok(());
    }
    let snapshot = applied.map_or_else(|| "nothing: there is none".to_owned(), |applied| format!("entry {applied}"));
    Err(GroupError::Incomplete { folder: folder.to_owned(), purged: purged.index, snapshot })
}

fn check_cluster(options: &GroupOptions, state: &State) -> Result<(), GroupError> {
    match state.cluster() {
        Some(cluster) if cluster.name != options.cluster => Err(GroupError::OtherCluster {
            folder: options.folder.clone(),
            found: cluster.name.clone(),
            wanted: options.cluster.clone(),
        }),
        _ => Ok(()),
    }
}

fn config(options: &GroupOptions) -> Result<Config, GroupError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: options.cluster.clone(),
        heartbeat_interval: millis(options.heartbeat),
        election_timeout_min: millis(options.election.0),
        election_timeout_max: millis(options.election.1),
        // The whole transfer and install of a snapshot of up to 1 GiB.
        install_snapshot_timeout: 300_000,
        max_payload_entries: 1024,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.limits.entries),
        // The upkeep purges: it knows which snapshot is being sent.
        max_in_snapshot_log_to_keep: u64::MAX,
        enable_pre_vote: Some(true),
        // A leader that went on after a restart would not know what it had committed, and give out old read indexes.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().map_err(|error| GroupError::Engine(error.to_string()))
}

fn spawn(engine: Engine, patience: Duration) -> Group {
    let (proposals, submitted) = mpsc::channel(batcher::QUEUE);
    let (reads, asked) = mpsc::channel(reads::QUEUE);
    let tracker = TaskTracker::new();
    tracker.spawn(batcher::run(engine.clone(), submitted, tracker.clone()));
    tracker.spawn(reads::run(engine.clone(), asked));
    tracker.spawn(watch_metrics(engine.clone(), patience));
    tracker.spawn(watch_state(engine.clone()));
    tracker.spawn(upkeep::run(engine.clone()));
    Group::new(engine, proposals, reads, tracker)
}

/// Tells who leads, and notices when the engine or the log has ended.
async fn watch_metrics(engine: Engine, patience: Duration) {
    // The whole of the metrics changes with every entry.
    let mut standing = engine.0.raft.server_metrics();
    let metrics = engine.0.raft.metrics();
    let failed = engine.0.log.failed();
    loop {
        let (acked, running) = {
            let metrics = metrics.borrow_watched();
            (metrics.last_quorum_acked.as_ref().map(|acked| acked.elapsed()), metrics.running_state.clone())
        };
        let now = status::leadership(&standing.borrow_and_update(), acked, engine.silence(), patience);
        if let Err(fatal) = running {
            let reason = engine.0.log.fault().map_or_else(|| fatal.to_string(), |fault| fault.to_string());
            engine.fail(reason);
        }
        engine.0.tally.led(now);
        let before = engine.0.leadership.send_replace(now);
        if before != now {
            tracing::info!(leader = ?now.leader, term = now.term, "the control group's leader");
        }
        tokio::select! {
            biased;
            () = engine.0.stop.cancelled() => return,
            () = failed.cancelled() => {
                engine.fail(engine.0.log.fault().map_or_else(String::new, |fault| fault.to_string()));
                return;
            }
            changed = standing.changed() => if changed.is_err() {
                engine.fail(metrics.borrow_watched().running_state.as_ref().err().map_or_else(
                    || "the Raft engine has ended".to_owned(),
                    |fatal| fatal.to_string(),
                ));
                return;
            },
            () = engine.0.heard_again.notified() => (),
            // A leader that has fallen silent changes nothing that could be waited for.
            () = sleep(patience / 8) => (),
        }
    }
}

/// Tells the peers who belongs to the group and where, and the handshake which cluster this is.
async fn watch_state(engine: Engine) {
    let mut changed = engine.0.view.changed();
    let mut standing = engine.0.raft.server_metrics();
    loop {
        changed.borrow_and_update();
        let members = status::members(&standing.borrow_and_update());
        let state = engine.0.view.state();
        let mut known: BTreeMap<NodeId, Vec<ClusterUri>> = members.into_iter().map(|node| (node, Vec::new())).collect();
        known.extend(state.controls().map(|node| (node.id, node.addresses.to_vec())));
        engine.0.peers.know(known);
        if let Some(cluster) = state.cluster() {
            let _ = engine.0.peers.me().cluster_id.set(cluster.id);
        }
        tokio::select! {
            biased;
            () = engine.0.stop.cancelled() => return,
            changed = changed.changed() => if changed.is_err() { return },
            changed = standing.changed() => if changed.is_err() { return },
        }
    }
}

/// Cancelled once this node belongs to the group.
fn until_member(group: &Group) -> CancellationToken {
    let done = CancellationToken::new();
    let (engine, member) = (group.engine().clone(), done.clone());
    group.spawn(async move {
        let mut standing = engine.0.raft.server_metrics();
        tokio::select! {
            biased;
            () = engine.0.stop.cancelled() => (),
            () = async {
                while !status::members(&standing.borrow_and_update()).contains(&engine.0.node)
                    && standing.changed().await.is_ok()
                {}
            } => (),
        }
        member.cancel();
    });
    done
}

/// Founds the cluster: a group of this one node, and its first entry. Takes up again what a crash left half done.
async fn found(group: &Group, cluster: &str, bootstrap: Bootstrapping, initialized: bool) -> Result<(), GroupError> {
    let engine = group.engine();
    if initialized {
        let members = status::members(&engine.0.raft.server_metrics().borrow_watched());
        if group.state().cluster().is_some() || members.len() > 1 {
            tracing::info!(cluster, "the data folder already holds this cluster; it goes on, bootstrap is not needed");
            return Ok(());
        }
    } else {
        let first = BTreeMap::from([(engine.0.node, EmptyNode {})]);
        engine.0.raft.initialize(first).await.map_err(|error| GroupError::Engine(error.to_string()))?;
    }
    group.read_index().await.map_err(GroupError::Bootstrap)?;
    if group.state().cluster().is_some() {
        return Ok(());
    }
    let cluster_id = ClusterId::from_u128(random_ulid());
    let init = Command::InitCluster { cluster_id, name: cluster.to_owned(), verifiers: bootstrap.verifiers };
    let voters = Command::SetVoters { wanted: bootstrap.voters };
    for outcome in group.propose(vec![init, voters]).await.map_err(GroupError::Bootstrap)? {
        outcome.map_err(GroupError::Bootstrap)?;
    }
    tracing::info!(cluster, id = %cluster_id, "a new cluster has been founded");
    Ok(())
}
