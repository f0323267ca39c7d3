//! A whole control node: its parts, the order in which they start, and the order in which they stop.
//!
//! ```text
//! start:  data folder → archives → sockets → peers → group → proxies, KV, reach → loops, listeners, API
//! leave:  workers go to other nodes, the leadership, the vote, the record; then a stop
//! stop:   1. workers go to other nodes   2. listeners, API and loops (requests under way have 2 s)
//!         3. sessions of workers and clients   4. sessions among control nodes   5. the group
//! ```
//!
//! Owns nothing but the wiring. A part that ends by itself stops the node, and [`ControlNode::stopped`] names it.

use crate::accept::{self, Reception};
use crate::api::{self, ApiError, ApiListener};
use crate::blobs::{Blobs, Supply};
use crate::client_link::ForClients;
use crate::credentials::{Reporter, Sessions};
use crate::departure::Departure;
use crate::dialback::DialBack;
use crate::drain::Drain;
use crate::identity::{DataFolder, FolderError, random_ulid};
use crate::kv::Kv;
use crate::leader::{self, Leading, Presence};
use crate::loops::{Loops, StopReason};
use crate::options::{ApiGuard, ApiListen, Listen, Options, Timers, advertised};
use crate::peer_service::PeerService;
use crate::peers::{Peers, PeersOptions};
use crate::proxy::{Proxies, ProxyOptions};
use crate::raft::{Bootstrapping, Group, GroupError, GroupOptions, Limits};
use crate::reach::Reach;
use crate::relay::Relays;
use crate::room::Room;
use crate::schedule::Schedule;
use crate::vitals::Examiner;
use crate::worker_link::{Attaching, WorkerLinks};
use crate::{register, repair, ring};
use longshore_discovery::{Discovery, DiscoveryError};
use longshore_transport::{
    DialOptions, Identity, Keyring, ListenError, Listener, Secret, ServerTls, SessionOptions, make_verifier,
};
use longshore_wire::credential::{DEFAULT_ITERATIONS, Verifier};
use longshore_wire::peer::Join;
use longshore_wire::{ClusterUri, Failure, NodeId, RequestId, Role, Transport};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A session between two control nodes carries the tunnels and requests of many workers.
const PEER_STREAMS: usize = 4096;
/// See [`PEER_STREAMS`].
const PEER_REQUESTS: usize = 16 * 1024;
/// Time for each of the last two steps of a stop, at least: a log that is being synced must not be cut.
const LAST_STEPS: Duration = Duration::from_secs(1);

/// Why a control node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The folder of archives cannot be used.
    #[error("the folder of archives cannot be opened: {0}")]
    Blobs(std::io::Error),
    /// A listening address cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The API does not listen.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Names cannot be resolved.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// The Raft group cannot start.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// Log or snapshot were damaged, and are out of the way: the next start joins anew.
    #[error("{error}; it is kept in {}, and this node joins the others anew under another node id. When it is back, `longshore node remove {former}`", aside.display())]
    SetAside {
        /// Who the node was.
        former: NodeId,
        /// Where its files are.
        aside: PathBuf,
        /// The damage.
        error: GroupError,
    },
    /// Log or snapshot are damaged, and no other member is known.
    #[error(
        "{error}; this node knows of no other control node, so nothing is touched: restore a saved snapshot into a new folder with `longshore snapshot restore`, or, if there are other control nodes, empty this folder and let it join anew"
    )]
    Alone {
        /// The damage.
        error: GroupError,
    },
    /// Damaged files cannot be moved.
    #[error(
        "{error}; and the damaged files could not be put aside: {cause}; check the disk, then start the node again"
    )]
    NotAside {
        /// The damage.
        error: GroupError,
        /// The cause.
        cause: std::io::Error,
    },
    /// The secret is not text. Cannot happen with one that was read from a file.
    #[error("the control secret cannot be used: {0}")]
    Secret(#[from] longshore_transport::SecretError),
}

/// A running control node.
pub struct ControlNode {
    folder: DataFolder,
    loops: Loops,
    /// Knows the group and the sessions with other control nodes, too.
    drain: Drain,
    departure: Departure,
    api: Vec<ApiListen>,
    listening: Vec<(Transport, SocketAddr)>,
}

/// All sockets, bound before anything else starts: a port in use is the most common mistake.
struct Sockets {
    listeners: Vec<Listener>,
    listening: Vec<(Transport, SocketAddr)>,
    addresses: Vec<ClusterUri>,
    api: Vec<ApiListener>,
    /// The certificate, where TLS is spoken: all show the same one.
    tls: Option<ServerTls>,
}

impl ControlNode {
    /// Starts a node: takes its data folder, restores what is stored, founds the cluster if asked to, joins it otherwise.
    /// Returns when everything runs; whether there is a leader by then is another question.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let folder = DataFolder::open(&options.data_dir)?;
        let blobs = Blobs::open(folder.path()).map_err(StartError::Blobs)?;
        let sockets = Sockets::bind(options.listen, &options.api, &options.api_guard).await?;
        let identity = Identity::new(folder.node(), Role::Control, options.cluster.clone(), options.release.clone());
        let me = Join {
            node: folder.node(),
            name: options.node_name,
            boot: RequestId::from_u128(random_ulid()),
            addresses: sockets.addresses.clone(),
            release: options.release,
        };
        let discovery = Discovery::new(options.resolver)?;
        let dialling = (discovery.clone(), options.dial.clone());
        let own_secret = Secret::from_bytes(options.secret.text().as_bytes())?;
        let peers = Peers::start(PeersOptions {
            me: identity.clone(),
            join: me.clone(),
            keyring: Keyring::new(options.secret, options.credential.clone()),
            discovery,
            uris: options.discovery,
            dial: options.dial,
            session: peer_session(&options.timers.session),
        });
        let loops = Loops::new();
        let room = Room::new(folder.path(), options.disk_low, loops.stop_token().clone());
        let group = Group::start(GroupOptions {
            folder: folder.path().to_owned(),
            node: folder.node(),
            cluster: options.cluster.clone(),
            bootstrap: options.bootstrap.map(|new| Bootstrapping { verifiers: new.verifiers, voters: new.voters }),
            heartbeat: options.timers.heartbeat,
            election: (options.timers.election_min, options.timers.election_max),
            peers: peers.clone(),
            limits: Limits::default(),
            room: room.clone(),
        });
        let group = match group.await {
            Ok(group) => group,
            Err(error) => {
                peers.stop(LAST_STEPS).await;
                return Err(damaged(&folder, error));
            }
        };
        // Before anybody can dial in: a node that still joins would refuse its peers, in words that mislead.
        let own = match group.state().cluster() {
            Some(_) => None,
            None => own_verifier(own_secret, options.credential).await,
        };
        let schedule = Schedule::new(options.snapshots, options.cluster.clone());
        let parts = Parts {
            folder: folder.path().to_owned(),
            me,
            identity,
            cluster: options.cluster,
            max_sessions: options.max_sessions,
            timers: options.timers,
            schedule,
            blobs,
            peers,
            group,
            room,
            loops: loops.clone(),
            own,
            dialling,
        };
        let (api, listening) = (sockets.api.iter().map(ApiListener::address).collect(), sockets.listening.clone());
        let (drain, departure) = parts.run(sockets);
        Ok(Self { folder, loops, drain, departure, api, listening })
    }

    /// Where the API listens.
    pub fn api_addresses(&self) -> &[ApiListen] {
        &self.api
    }

    /// Where workers and control nodes can dial in, with the ports that the system chose.
    pub fn listen_addresses(&self) -> Vec<(Transport, SocketAddr)> {
        self.listening.clone()
    }

    /// The node's persistent id.
    pub fn node_id(&self) -> NodeId {
        self.folder.node()
    }

    /// Resolves when the node has stopped, or cannot go on: then [`ControlNode::stop`] should follow.
    pub async fn stopped(&self) -> StopReason {
        self.loops.stopped().await
    }

    /// Leaves the cluster for good, within about `deadline`: short id and vote are free then. [`ControlNode::stop`] should
    /// follow. A later start on the same folder joins again.
    ///
    /// # Errors
    /// When the cluster needs this node, or nobody can let it go.
    pub async fn leave(&self, deadline: Duration) -> Result<(), Failure> {
        self.departure.leave(deadline).await
    }

    /// Stops the node in order, within about `deadline`. A second call finds nothing left to do.
    pub async fn stop(&self, deadline: Duration) {
        self.drain.run(deadline / 3).await;
        self.drain.group.hand_over(deadline / 4).await;
        if !self.loops.stop(deadline).await {
            tracing::warn!(?deadline, "not every part of the control node ended in time");
        }
        self.drain.peers.stop(LAST_STEPS.max(deadline / 4)).await;
        self.drain.group.stop(LAST_STEPS.max(deadline / 4)).await;
        if self.drain.group.is_damaged() {
            repair::after_damage(&self.folder);
        }
    }
}

impl std::fmt::Debug for ControlNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlNode").field("node", &self.node_id()).finish_non_exhaustive()
    }
}

impl Sockets {
    async fn bind(listen: Vec<Listen>, api: &[ApiListen], guard: &ApiGuard) -> Result<Self, StartError> {
        let tls = guard.tls.clone();
        let mut sockets = Self { listeners: vec![], listening: vec![], addresses: vec![], api: vec![], tls };
        for Listen { options, advertise } in listen {
            sockets.tls = sockets.tls.or_else(|| options.tls.clone());
            let (transport, path) = (options.transport, options.path.clone());
            let listener = Listener::bind(options).await?;
            let local = listener.local_addr();
            sockets.addresses.extend(advertise.or_else(|| advertised(transport, local, path)));
            sockets.listening.push((transport, local));
            sockets.listeners.push(listener);
        }
        for each in api {
            sockets.api.push(ApiListener::bind(each, guard).await?);
        }
        Ok(sockets)
    }
}

/// Puts damaged files aside where that is safe; the next start then joins anew.
fn damaged(folder: &DataFolder, error: GroupError) -> StartError {
    if !error.is_damage() {
        return error.into();
    }
    match repair::set_aside(folder) {
        Ok(Some(aside)) => StartError::SetAside { former: folder.node(), aside, error },
        Ok(None) => StartError::Alone { error },
        Err(cause) => StartError::NotAside { error, cause },
    }
}

fn peer_session(session: &SessionOptions) -> SessionOptions {
    SessionOptions { max_requests: PEER_REQUESTS, max_streams: PEER_STREAMS, ..session.clone() }
}

/// Makes the verifier of this node's own secret.
async fn own_verifier(secret: Secret, credential: String) -> Option<Arc<Verifier>> {
    let making =
        tokio::task::spawn_blocking(move || make_verifier(&secret, &credential, Role::Control, DEFAULT_ITERATIONS));
    match making.await {
        Ok(verifier) => Some(Arc::new(verifier)),
        Err(error) => {
            tracing::error!(%error, "the own verifier could not be made; this node cannot be dialled until it has joined");
            None
        }
    }
}

/// What is wired together.
struct Parts {
    folder: PathBuf,
    me: Join,
    identity: Identity,
    cluster: String,
    max_sessions: usize,
    timers: Timers,
    schedule: Schedule,
    blobs: Blobs,
    peers: Peers,
    group: Group,
    room: Room,
    loops: Loops,
    own: Option<Arc<Verifier>>,
    /// What dialling workers needs.
    dialling: (Discovery, DialOptions),
}

/// What this node does for others; handles, cheap to clone.
struct Services {
    supply: Arc<Supply>,
    proxies: Proxies,
    reach: Reach,
    relays: Relays,
    kv: Kv,
    sessions: Sessions,
    credentials: Reporter,
    vitals: Examiner,
    presence: Arc<Presence>,
}

impl Parts {
    fn run(self, sockets: Sockets) -> (Drain, Departure) {
        let services = self.services();
        let reception = self.reception(&services);
        self.serve_peers(&services, &reception);
        let leaving = watch::Sender::new(false);
        self.follow(&services, &leaving);
        let Self { me, cluster, schedule, blobs, peers, group, loops, dialling, .. } = self;
        let stop = loops.stop_token().clone();
        let Services { supply, proxies, reach, relays, kv, credentials, vitals, presence, .. } = services;
        let drain =
            Drain { me: me.node, group: group.clone(), peers: peers.clone(), proxies: proxies.clone(), presence };
        let departure = Departure::new(drain.clone(), loops.clone(), leaving);
        let (discovery, dial) = dialling;
        let dialback = DialBack { reception: Arc::clone(&reception), discovery, dial };
        loops.spawn("worker dialler", dialback.clone().run(stop.clone()));
        for listener in sockets.listeners {
            loops.spawn("listener", accept::run(Arc::clone(&reception), listener, stop.clone()));
        }
        let context = api::Context {
            me: me.node,
            cluster,
            group,
            peers,
            proxies,
            reach,
            relays,
            kv,
            blobs,
            supply,
            credentials,
            vitals,
            requests: api::Requests::default(),
            readers: api::Readers::default(),
            traffic: Arc::clone(&reception.session.traffic),
            tls: sockets.tls,
            dialback,
            schedule,
            departure: departure.clone(),
            stop,
        };
        serve_api(&loops, sockets.api, context);
        (drain, departure)
    }

    fn services(&self) -> Services {
        let (node, group, peers) = (self.me.node, &self.group, &self.peers);
        let supply = Arc::new(Supply::new(node, self.blobs.clone(), group.clone(), peers.clone()));
        let proxies = Proxies::new(ProxyOptions {
            me: node,
            group: group.clone(),
            blobs: self.blobs.clone(),
            supply: Arc::clone(&supply),
            loops: self.loops.clone(),
            attach_grace: self.timers.attach_grace,
        });
        let reach = Reach::new(node, group.clone(), peers.clone(), proxies.clone());
        let sessions = Sessions::new(group.clone(), peers.clone(), self.max_sessions);
        Services {
            supply,
            proxies,
            relays: Relays::new(reach.clone(), self.loops.clone()),
            reach,
            kv: Kv::new(group.clone()),
            credentials: Reporter { me: node, group: group.clone(), peers: peers.clone(), sessions: sessions.clone() },
            sessions,
            vitals: Examiner {
                me: node,
                folder: self.folder.clone(),
                group: group.clone(),
                peers: peers.clone(),
                room: self.room.clone(),
            },
            presence: Arc::default(),
        }
    }

    fn reception(&self, services: &Services) -> Arc<Reception> {
        let attaching = attaching(&self.me, &self.group, &self.peers, &services.proxies);
        Arc::new(Reception {
            me: self.identity.clone(),
            group: self.group.clone(),
            peers: self.peers.clone(),
            clients: ForClients { relays: services.relays.clone(), kv: services.kv.clone(), loops: self.loops.clone() },
            workers: WorkerLinks::new(attaching, services.kv.clone()),
            loops: self.loops.clone(),
            sessions: services.sessions.clone(),
            session: self.timers.session.clone(),
            peer_session: peer_session(&self.timers.session),
            own: self.own.clone(),
        })
    }

    fn serve_peers(&self, services: &Services, reception: &Arc<Reception>) {
        self.peers.serve(Arc::new(PeerService {
            group: self.group.clone(),
            reach: services.reach.clone(),
            relays: services.relays.clone(),
            supply: Arc::clone(&services.supply),
            reception: Arc::clone(reception),
            credentials: services.credentials.clone(),
            presence: Arc::clone(&services.presence),
            vitals: services.vitals.clone(),
        }));
    }

    /// Spawns what follows the state, and what leads when this node does.
    fn follow(&self, services: &Services, leaving: &watch::Sender<bool>) {
        let (loops, stop) = (&self.loops, self.loops.stop_token());
        loops.spawn("disk watch", self.room.clone().run());
        loops.spawn("credential loop", services.sessions.clone().watch(stop.clone()));
        loops.spawn("archive loop", Arc::clone(&services.supply).run(stop.clone()));
        follow_group(loops, &self.group, &services.proxies);
        let registering = register::run(self.group.clone(), self.me.clone(), leaving.subscribe(), stop.clone());
        loops.spawn("registration loop", registering);
        let (group, peers) = (self.group.clone(), self.peers.clone());
        let returning = register::return_when_forgotten(group, peers, leaving.subscribe(), stop.clone());
        loops.spawn("return loop", returning);
        let leading = Leading {
            me: self.me.node,
            group: self.group.clone(),
            peers: self.peers.clone(),
            timers: Arc::new(self.timers.clone()),
            presence: Arc::clone(&services.presence),
        };
        leader::spawn(loops, &leading);
        let noting = repair::note_members(self.folder.clone(), self.group.clone(), stop.clone());
        loops.spawn("members file", noting);
        loops.spawn("snapshot schedule", self.schedule.clone().run(self.group.clone(), stop.clone()));
    }
}

/// Spawns what follows the group's state.
fn follow_group(loops: &Loops, group: &Group, proxies: &Proxies) {
    let stop = loops.stop_token();
    loops.spawn("control group", watch_group(group.clone(), loops.clone()));
    loops.spawn("ring loop", ring::follow(group.clone(), proxies.clone(), stop.clone()));
}

fn serve_api(loops: &Loops, listeners: Vec<ApiListener>, context: api::Context) {
    let context = Arc::new(context);
    for listener in listeners {
        let router = api::router(Arc::clone(&context), listener.guard());
        loops.spawn("API", listener.serve(router, loops.stop_token().clone()));
    }
}

fn attaching(me: &Join, group: &Group, peers: &Peers, proxies: &Proxies) -> Attaching {
    let (group, peers, proxies) = (group.clone(), peers.clone(), proxies.clone());
    Attaching { me: me.node, name: me.name.clone(), group, peers, proxies }
}

/// Passes a fault of the group on.
async fn watch_group(group: Group, loops: Loops) {
    let stop = loops.stop_token().clone();
    tokio::select! {
        biased;
        () = stop.cancelled() => (),
        fault = group.stopped() => loops.fail("control group", fault),
    }
}
