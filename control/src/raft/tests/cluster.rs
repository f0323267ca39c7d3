//! A group of three over real sessions on loopback.

use crate::peers::{Answer, Peers, PeersOptions, Serve};
use crate::raft::{Bootstrapping, Group, GroupError, GroupOptions, Limits};
use crate::room::Room;
use longshore_discovery::{Discovery, ResolverOptions};
use longshore_state::{Command, ControlNode, Reply};
use longshore_transport::{
    Admission, ClientTls, ClientTlsOptions, DialOptions, Identity, Keyring, ListenOptions, Listener, Peer, Secret,
    Session, SessionOptions, Stream, make_verifier, verify,
};
use longshore_wire::credential::{MIN_ITERATIONS, Verifier};
use longshore_wire::kv::{KvReply, KvRequest};
use longshore_wire::peer::{Join, OpenPeer, PeerRequest};
use longshore_wire::{ClusterUri, Code, Failure, NodeId, RequestId, Role, Transport};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Nothing here may take longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &[u8] = b"a secret of the control nodes";

fn verifier() -> Verifier {
    static MADE: OnceLock<Verifier> = OnceLock::new();
    let secret = || Secret::from_bytes(SECRET).unwrap();
    MADE.get_or_init(|| make_verifier(&secret(), "control", Role::Control, MIN_ITERATIONS)).clone()
}

/// One control node, reduced to its part in the group.
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) address: SocketAddr,
    pub(super) peers: Peers,
    pub(super) group: Group,
    accepting: JoinSet<()>,
}

/// Takes nodes in, as the leader's loop does.
struct TakeIn {
    peers: Peers,
    group: Group,
}

impl Serve for TakeIn {
    fn request(&self, _from: Peer, request: PeerRequest) -> Answer<Result<Vec<u8>, Failure>> {
        let (peers, group) = (self.peers.clone(), self.group.clone());
        Box::pin(async move {
            let PeerRequest::Join(join) = &request else { return Err(Failure::new(Code::Unsupported, "a join only")) };
            let leadership = *group.leadership().borrow();
            match leadership.leader {
                Some(_) if leadership.is_leader => {
                    let node = join.node;
                    group.propose_one(Command::RegisterControl(control(join.clone()))).await?;
                    group.add_learner(node).await?;
                    Ok(Vec::new())
                }
                Some(leader) => peers.request(leader, &request, PATIENCE).await.map(|reply| reply.to_vec()),
                None => Err(Failure::new(Code::NoQuorum, "no leader")),
            }
        })
    }

    fn open(&self, _from: Peer, _head: OpenPeer, stream: Stream) -> Answer<()> {
        Box::pin(async move { stream.reset(Failure::new(Code::Unsupported, "no streams")) })
    }
}

pub(super) fn control(join: Join) -> ControlNode {
    ControlNode { node: join.node, name: join.name, boot: join.boot, addresses: join.addresses, release: join.release }
}

pub(super) fn uri(address: SocketAddr) -> ClusterUri {
    format!("longshore://{address};transport=tcp").parse().unwrap()
}

async fn listen(bind: SocketAddr) -> Listener {
    let options = ListenOptions {
        transport: Transport::Tcp,
        bind,
        path: String::new(),
        tls: None,
        admission: Admission::default(),
    };
    Listener::bind(options).await.unwrap()
}

async fn accept(listener: Listener, me: Identity, peers: Peers) {
    let mut links = JoinSet::new();
    loop {
        let Ok(pending) = listener.accept().await else { return };
        let (me, peers) = (me.clone(), peers.clone());
        links.spawn(async move {
            let Ok(link) = pending.upgrade().await else { return };
            let find = |credential: &str| (credential == "control").then(verifier);
            let Ok(proven) = verify(link, &me, &find).await else { return };
            let (session, inbound) = Session::start(proven, SessionOptions::default());
            peers.adopt(session, inbound);
        });
    }
}

impl Node {
    pub(super) async fn start(
        folder: &Path,
        id: u64,
        bind: SocketAddr,
        uris: Vec<ClusterUri>,
        bootstrap: Option<Bootstrapping>,
    ) -> Result<Self, GroupError> {
        Self::start_within(folder, id, bind, uris, bootstrap, Limits::default()).await
    }

    pub(super) async fn start_within(
        folder: &Path,
        id: u64,
        bind: SocketAddr,
        uris: Vec<ClusterUri>,
        bootstrap: Option<Bootstrapping>,
        limits: Limits,
    ) -> Result<Self, GroupError> {
        let listening = listen(bind).await;
        let addresses = vec![uri(listening.local_addr())];
        Self::start_as(folder, id, listening, addresses, (uris, bootstrap, limits)).await
    }

    /// One that others do not know how to dial.
    pub(super) async fn start_hidden(
        folder: &Path,
        id: u64,
        uris: Vec<ClusterUri>,
        limits: Limits,
    ) -> Result<Self, GroupError> {
        Self::start_as(folder, id, listen(anywhere()).await, vec![], (uris, None, limits)).await
    }

    async fn start_as(
        folder: &Path,
        id: u64,
        listener: Listener,
        addresses: Vec<ClusterUri>,
        (uris, bootstrap, limits): (Vec<ClusterUri>, Option<Bootstrapping>, Limits),
    ) -> Result<Self, GroupError> {
        let id = NodeId::from(id);
        let me = Identity::new(id, Role::Control, "test", "0");
        let address = listener.local_addr();
        let peers = Peers::start(PeersOptions {
            me: me.clone(),
            join: Join {
                node: id,
                name: format!("control-{id}"),
                boot: RequestId::from_u128(id.as_u128()),
                addresses,
                release: "0".to_owned(),
            },
            keyring: Keyring::new(Secret::from_bytes(SECRET).unwrap(), "control".to_owned()),
            discovery: Discovery::new(ResolverOptions::default()).unwrap(),
            uris,
            dial: DialOptions::new(ClientTls::new(ClientTlsOptions::default()).unwrap()),
            session: SessionOptions::default(),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, me, peers.clone()));
        let group = Group::start(GroupOptions {
            folder: folder.to_owned(),
            node: id,
            cluster: "test".to_owned(),
            bootstrap,
            heartbeat: Duration::from_millis(100),
            election: (Duration::from_millis(400), Duration::from_millis(800)),
            peers: peers.clone(),
            limits,
            room: Room::new(folder, 0, CancellationToken::new()),
        })
        .await?;
        peers.serve(Arc::new(TakeIn { peers: peers.clone(), group: group.clone() }));
        Ok(Self { id, address, peers, group, accepting })
    }

    async fn register(&self) {
        let record = ControlNode {
            node: self.id,
            name: format!("control-{}", self.id),
            boot: RequestId::from_u128(self.id.as_u128()),
            addresses: vec![uri(self.address)],
            release: "0".to_owned(),
        };
        self.group.propose_one(Command::RegisterControl(record)).await.unwrap();
    }

    /// Cuts all its sessions and stops it.
    pub(super) async fn stop(mut self) {
        self.accepting.shutdown().await;
        self.peers.stop(PATIENCE).await;
        self.group.stop(PATIENCE).await;
    }

    pub(super) async fn until(&self, what: &str, reached: impl Fn(&Group) -> bool) {
        let wait = async {
            while !reached(&self.group) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(timeout(PATIENCE, wait).await.is_ok(), "{what}: {:?}", self.group.status());
    }

    pub(super) async fn put(&self, key: &str, value: &str) -> Result<u64, Failure> {
        match self.group.propose_one(Command::Kv(put(key, value))).await? {
            Reply::Kv(KvReply::Written { revision, .. }) => Ok(revision),
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn get(&self, key: &str) -> Option<String> {
        self.group.read_index().await.unwrap();
        self.group.state().kv_get(key).map(|entry| String::from_utf8(entry.value).unwrap())
    }
}

pub(super) fn put(key: &str, value: &str) -> KvRequest {
    KvRequest::Put { key: key.to_owned(), value: value.as_bytes().to_vec() }
}

pub(super) fn bootstrap() -> Option<Bootstrapping> {
    Some(Bootstrapping { verifiers: vec![verifier()], voters: 3 })
}

pub(super) fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Three voters; nodes 2 and 3 know only the address of node 1.
pub(super) async fn three() -> (Vec<TempDir>, Vec<Node>) {
    let folders: Vec<TempDir> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let first = Node::start(folders[0].path(), 1, anywhere(), vec![], bootstrap()).await.unwrap();
    first.register().await;
    let known = vec![uri(first.address)];
    let mut nodes = vec![first];
    for id in 2..=3 {
        let folder = folders[usize::try_from(id).unwrap() - 1].path();
        nodes.push(Node::start(folder, id, anywhere(), known.clone(), None).await.unwrap());
    }
    let all: BTreeSet<NodeId> = nodes.iter().map(|node| node.id).collect();
    nodes[0].until("both are taken in", |group| group.status().learners.len() == 2).await;
    nodes[0].group.set_voters(all.clone()).await.unwrap();
    for node in &nodes {
        node.until("all vote", |group| group.status().voters == all && group.status().leader.is_some()).await;
    }
    (folders, nodes)
}

pub(super) fn leader_of(nodes: &[Node]) -> usize {
    let leads = |node: &Node| node.group.leadership().borrow().is_leader;
    nodes.iter().position(leads).expect("one of them leads")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_and_reads_from_any_node() {
    let (_folders, nodes) = three().await;
    for (number, node) in nodes.iter().enumerate() {
        node.put("key", &number.to_string()).await.unwrap();
        for reader in &nodes {
            assert_eq!(reader.get("key").await, Some(number.to_string()), "read at {}", reader.id);
        }
    }
    let follower = &nodes[(leader_of(&nodes) + 1) % 3];
    let id = RequestId::from_u128(77);
    let first = follower.group.propose_as(id, Command::Kv(put("once", "a"))).await;
    let repeat = nodes[leader_of(&nodes)].group.propose_as(id, Command::Kv(put("once", "b"))).await;
    assert_eq!(first, repeat, "a repeat gets the first outcome, wherever it is asked");
    assert_eq!(follower.get("once").await, Some("a".to_owned()));
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_proposals_share_entries() {
    const WRITES: usize = 2000;
    let (_folders, nodes) = three().await;
    let follower = &nodes[(leader_of(&nodes) + 1) % 3];
    let before = follower.group.status().last.unwrap();
    let mut writes = JoinSet::new();
    for number in 0..WRITES {
        let group = follower.group.clone();
        writes.spawn(async move { group.propose_one(Command::Kv(put(&format!("k{number}"), "v"))).await });
    }
    while let Some(written) = writes.join_next().await {
        written.unwrap().unwrap();
    }
    follower.group.read_index().await.unwrap();
    assert_eq!(follower.group.state().kv_list("k", None, 1000).0.len(), 1000);
    let entries = follower.group.status().last.unwrap() - before;
    assert!(entries < WRITES as u64 / 10, "{entries} entries for {WRITES} writes");
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_called_hears_what_became_of_it() {
    let (_folders, mut nodes) = three().await;
    let begin = |node: &Node, id: u128, command: Command| {
        let (heard, hears) = oneshot::channel();
        node.group.begin(RequestId::from_u128(id), command, |outcome| heard.send(outcome).unwrap());
        async { timeout(PATIENCE, hears).await.unwrap().unwrap() }
    };
    for (node, number) in nodes.iter().zip(1_u64..) {
        let write = |key: &str| Command::Kv(put(key, "v"));
        let first = begin(node, number.into(), write(&format!("k{number}"))).await;
        assert_eq!(first, Ok(Reply::Kv(KvReply::Written { revision: number, created: true })));
        assert_eq!(begin(node, number.into(), write("another")).await, first, "the same name, the same outcome");
        let large = begin(node, 100, Command::Kv(put("k", &"v".repeat(2 * 1024 * 1024)))).await.unwrap_err();
        assert_eq!((large.code, large.outcome), (Code::TooLarge, longshore_wire::Outcome::NotDone));
    }
    let leader = nodes.swap_remove(leader_of(&nodes));
    for node in nodes {
        node.stop().await;
    }
    let unheard = begin(&leader, 200, Command::Kv(put("k", "v")));
    leader.stop().await;
    let failure = unheard.await.unwrap_err();
    assert_eq!(failure.code, Code::Unavailable, "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_index_covers_what_others_may_have_applied_first() {
    let (_folders, nodes) = three().await;
    let leader = leader_of(&nodes);
    nodes[leader].put("k", "v").await.unwrap();
    // A follower that is told so may apply it, and show it, before the leader has.
    let told = nodes[leader].group.status().last.unwrap() + 1000;
    nodes[leader].group.engine().0.told.note(told);
    for node in &nodes {
        let index = node.group.ask_read_index().await.unwrap();
        assert!(index >= Some(told), "{index:?}, and others may show {told}");
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_dies_and_comes_back() {
    let (folders, mut nodes) = three().await;
    nodes[1].put("before", "1").await.unwrap();
    let dead = nodes.remove(leader_of(&nodes));
    let (id, address) = (dead.id, dead.address);
    dead.stop().await;
    assert!(nodes[0].put("during", "2").await.is_ok(), "the other two go on by themselves");
    assert_eq!(nodes[1].get("before").await, Some("1".to_owned()));

    let number = usize::try_from(id.as_u128()).unwrap() - 1;
    let low = u64::try_from(id.as_u128()).unwrap();
    // The founder's unit file still says bootstrap: that must harm nothing.
    let back = Node::start(folders[number].path(), low, address, vec![], bootstrap()).await.unwrap();
    back.until("it catches up", |group| group.state().kv_get("during").is_some()).await;
    assert_eq!(back.get("during").await, Some("2".to_owned()));
    back.put("after", "3").await.unwrap();
    for node in nodes {
        assert_eq!(node.get("after").await, Some("3".to_owned()));
        node.stop().await;
    }
    back.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leadership_is_handed_over() {
    let (_folders, nodes) = three().await;
    let leader = &nodes[leader_of(&nodes)];
    leader.put("before", "1").await.unwrap();
    let term = leader.group.status().term;
    leader.group.hand_over(PATIENCE).await;
    let now = leader.group.status();
    assert!(now.leader.is_some_and(|other| other != leader.id), "another one leads as soon as this returns: {now:?}");
    assert_eq!(now.term, term + 1, "by one election");
    leader.put("after", "2").await.unwrap();
    for node in &nodes {
        assert_eq!(node.get("after").await, Some("2".to_owned()));
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_stop_and_come_back_with_everything() {
    let (folders, nodes) = three().await;
    nodes[2].put("kept", "1").await.unwrap();
    let places: Vec<SocketAddr> = nodes.iter().map(|node| node.address).collect();
    for node in nodes {
        node.stop().await;
    }
    let mut again = Vec::new();
    for (number, place) in places.iter().enumerate() {
        let id = number as u64 + 1;
        again.push(Node::start(folders[number].path(), id, *place, vec![], None).await.unwrap());
    }
    for node in &again {
        assert_eq!(node.get("kept").await, Some("1".to_owned()));
    }
    for node in again {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_promised() {
    let (_folders, mut nodes) = three().await;
    let last = nodes.remove((leader_of(&nodes) + 1) % 3);
    for node in nodes {
        node.stop().await;
    }
    last.until("the leader is missed", |group| group.leadership().borrow().leader.is_none()).await;
    let refused = last.put("key", "value").await.unwrap_err();
    assert_eq!((refused.code, refused.outcome), (Code::NoQuorum, longshore_wire::Outcome::NotDone), "{refused}");
    last.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_brings_a_late_node_up_to_date() {
    let (folders, mut nodes) = three().await;
    let late = nodes.remove((leader_of(&nodes) + 1) % 3);
    let (id, address) = (late.id, late.address);
    late.stop().await;
    let leader = &nodes[leader_of(&nodes)];
    leader.put("key", "value").await.unwrap();
    leader.put("other", &"x".repeat(600_000)).await.unwrap();
    for node in &nodes {
        let raft = &node.group.engine().0.raft;
        let applied = node.group.status().applied.unwrap();
        raft.trigger().snapshot().await.unwrap();
        node.until("a snapshot is taken", |group| group.status().snapshot >= Some(applied)).await;
        raft.trigger().purge_log(applied).await.unwrap();
        node.until("the log behind it is purged", |group| group.status().purged >= Some(applied)).await;
    }
    let number = usize::try_from(id.as_u128()).unwrap() - 1;
    let low = u64::try_from(id.as_u128()).unwrap();
    let back = Node::start(folders[number].path(), low, address, vec![], None).await.unwrap();
    back.until("it catches up", |group| group.state().kv_get("other").is_some()).await;
    back.until("that was by a snapshot: the entries are gone", |group| group.status().snapshot.is_some()).await;
    assert_eq!(back.get("key").await, Some("value".to_owned()));
    back.stop().await;

    // A start from that snapshot and the log behind it.
    let again = Node::start(folders[number].path(), low, address, vec![], None).await.unwrap();
    assert_eq!(again.get("key").await, Some("value".to_owned()));
    again.stop().await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_folder_of_another_cluster_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = Node::start(folder.path(), 1, anywhere(), vec![], bootstrap()).await.unwrap();
    first.put("key", "value").await.unwrap();
    let peers = first.peers.clone();
    first.stop().await;
    let refused = Group::start(GroupOptions {
        folder: folder.path().to_owned(),
        node: NodeId::from(1),
        cluster: "other".to_owned(),
        bootstrap: bootstrap(),
        heartbeat: Duration::from_millis(100),
        election: (Duration::from_millis(400), Duration::from_millis(800)),
        peers,
        limits: Limits::default(),
        room: Room::new(folder.path(), 0, CancellationToken::new()),
    })
    .await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("holds a node of cluster 'test', not of 'other'"), "{error}");
}
