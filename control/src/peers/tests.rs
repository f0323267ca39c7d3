//! Sessions that cross, end and come back.

use super::*;
use longshore_discovery::ResolverOptions;
use longshore_transport::{
    ClientTls, ClientTlsOptions, Peer, Secret, Stream, make_verifier, memory_pair, prove, verify,
};
use longshore_wire::credential::{MIN_ITERATIONS, Verifier};
use longshore_wire::{RequestId, Role};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

/// Answers every request with its node's id.
struct Name(NodeId);

impl Serve for Name {
    fn request(&self, _from: Peer, _request: PeerRequest) -> Answer<Result<Vec<u8>, Failure>> {
        let name = self.0.to_string().into_bytes();
        Box::pin(async move { Ok(name) })
    }

    fn open(&self, _from: Peer, _head: OpenPeer, stream: Stream) -> Answer<()> {
        Box::pin(async move { stream.reset(Failure::new(Code::Unsupported, "no streams")) })
    }
}

/// Answers when it is told to.
struct Later(CancellationToken);

impl Serve for Later {
    fn request(&self, _from: Peer, _request: PeerRequest) -> Answer<Result<Vec<u8>, Failure>> {
        let told = self.0.clone();
        Box::pin(async move {
            told.cancelled().await;
            Ok(b"later".to_vec())
        })
    }

    fn open(&self, _from: Peer, _head: OpenPeer, stream: Stream) -> Answer<()> {
        Box::pin(async move { stream.reset(Failure::new(Code::Unsupported, "no streams")) })
    }
}

fn secret() -> Secret {
    Secret::from_bytes(b"a secret of the control nodes").unwrap()
}

fn peers(id: u64) -> Peers {
    let node = NodeId::from(id);
    Peers::start(PeersOptions {
        me: Identity::new(node, Role::Control, "test", "0"),
        join: Join {
            node,
            name: String::new(),
            boot: RequestId::default(),
            addresses: Vec::new(),
            release: String::new(),
        },
        keyring: Keyring::new(secret(), "control".to_owned()),
        discovery: Discovery::new(ResolverOptions::default()).unwrap(),
        uris: Vec::new(),
        dial: DialOptions::new(ClientTls::new(ClientTlsOptions::default()).unwrap()),
        session: SessionOptions::default(),
    })
}

async fn connect(dialler: &Peers, acceptor: &Peers, verifier: &Verifier) {
    let (near, far) = memory_pair();
    let find = |_: &str| Some(verifier.clone());
    let options = &dialler.0.options;
    let (proven, verified) = tokio::join!(
        prove(near, &options.me, &options.keyring, Role::Control),
        verify(far, &acceptor.0.options.me, &find)
    );
    for (peers, proven) in [(acceptor, verified.unwrap()), (dialler, proven.unwrap())] {
        let (session, inbound) = Session::start(proven, SessionOptions::default());
        peers.adopt(session, inbound);
    }
}

async fn ask(from: &Peers, to: &Peers) -> Result<Vec<u8>, Failure> {
    let node = to.me().node;
    from.request(node, &PeerRequest::ReadIndex, PATIENCE).await.map(|reply| reply.to_vec())
}

fn of(peers: &Peers, other: &Peers) -> usize {
    peers.0.table.count(other.me().node)
}

async fn until(what: &str, reached: impl Fn() -> bool) {
    let wait = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "{what}");
}

#[tokio::test]
async fn of_two_crossing_sessions_one_stays() {
    let (a, b) = (peers(1), peers(2));
    let verifier = make_verifier(&secret(), "control", Role::Control, MIN_ITERATIONS);
    let early = {
        connect(&a, &b, &verifier).await;
        ask(&a, &b).await.unwrap_err()
    };
    assert_eq!((early.code, early.outcome), (Code::Unavailable, longshore_wire::Outcome::NotDone), "no handler yet");
    for peers in [&a, &b] {
        peers.serve_group(Arc::new(Name(peers.me().node)));
    }
    connect(&b, &a, &verifier).await;
    assert_eq!((of(&a, &b), of(&b, &a)), (2, 2));
    until("the older one is closed", || of(&a, &b) == 1 && of(&b, &a) == 1).await;
    assert_eq!(ask(&a, &b).await, Ok(b.me().node.to_string().into_bytes()));
    assert_eq!(ask(&b, &a).await, Ok(a.me().node.to_string().into_bytes()));
    a.stop(PATIENCE).await;
    until("the other side notices", || b.connected().is_empty()).await;
    let gone = ask(&b, &a).await.unwrap_err();
    assert_eq!((gone.code, gone.outcome), (Code::Unavailable, longshore_wire::Outcome::NotDone));
    b.stop(PATIENCE).await;
}

#[tokio::test]
async fn the_older_session_stays_when_the_newer_one_does_not_last() {
    let (a, b) = (peers(1), peers(2));
    let verifier = make_verifier(&secret(), "control", Role::Control, MIN_ITERATIONS);
    for peers in [&a, &b] {
        peers.serve_group(Arc::new(Name(peers.me().node)));
    }
    connect(&a, &b, &verifier).await;
    let older = a.session(b.me().node).unwrap();
    connect(&b, &a, &verifier).await;
    a.session(b.me().node).unwrap().abort();
    until("the newer one is gone", || of(&a, &b) == 1 && of(&b, &a) == 1).await;
    let closed = timeout(serve::DRAIN * 2, older.closed()).await;
    assert!(closed.is_err(), "the only session was closed: {closed:?}");
    assert_eq!(ask(&b, &a).await, Ok(a.me().node.to_string().into_bytes()));
    a.stop(PATIENCE).await;
    b.stop(PATIENCE).await;
}

/// Asks one way over a session that a newer one supersedes meanwhile.
async fn superseded_meanwhile(asker: usize) {
    let nodes = [peers(1), peers(2)];
    let [a, b] = &nodes;
    let verifier = make_verifier(&secret(), "control", Role::Control, MIN_ITERATIONS);
    let tell = CancellationToken::new();
    for peers in &nodes {
        peers.serve_group(Arc::new(Later(tell.clone())));
    }
    connect(a, b, &verifier).await;
    let older = a.session(b.me().node).unwrap();
    let asked = async { ask(&nodes[asker], &nodes[1 - asker]).await };
    let meanwhile = async {
        until("the request is under way", || older.calls() + older.served() == 1).await;
        connect(b, a, &verifier).await;
        let closed = timeout(serve::DRAIN * 2, older.closed()).await;
        assert!(closed.is_err(), "a request was under way: {closed:?}");
        tell.cancel();
    };
    assert_eq!(tokio::join!(asked, meanwhile).0, Ok(b"later".to_vec()));
    until("the older one is closed", || of(a, b) == 1 && of(b, a) == 1).await;
    a.stop(PATIENCE).await;
    b.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_superseded_session_finishes_what_is_under_way() {
    tokio::join!(superseded_meanwhile(0), superseded_meanwhile(1));
}

#[tokio::test]
async fn a_peer_that_took_the_other_session_for_the_newer_loses_nothing() {
    let (a, b) = (peers(1), peers(2));
    let verifier = make_verifier(&secret(), "control", Role::Control, MIN_ITERATIONS);
    for peers in [&a, &b] {
        peers.serve_group(Arc::new(Name(peers.me().node)));
    }
    connect(&a, &b, &verifier).await;
    connect(&b, &a, &verifier).await;
    // As when both were made at once: here they arrived in the other order.
    b.0.table.stand_back(a.me().node, b.0.table.newest(a.me().node));
    while of(&b, &a) > 1 || of(&a, &b) > 1 {
        assert_eq!(ask(&b, &a).await, Ok(a.me().node.to_string().into_bytes()));
    }
    a.stop(PATIENCE).await;
    b.stop(PATIENCE).await;
}
