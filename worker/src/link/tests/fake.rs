//! A control node that does what a test tells it: real TCP, handshake and sessions, no cluster behind them.

use crate::testing::{accepted, eventually};
use crate::{OnStop, Options, Worker};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use longshore_transport::{
    Admission, Backoff, ClientTls, ClientTlsOptions, DialOptions, Identity, Inbound, Incoming, Link, ListenOptions,
    Listener, Request, Secret, Session, SessionOptions, Verifiers, make_verifier, verify,
};
use longshore_wire::credential::{MIN_ITERATIONS, Verifier};
use longshore_wire::edge::{
    Attach, AttachReply, NotifyWorker, OpenControl, Order, Report, TaskKv, ToControl, ToWorker,
};
use longshore_wire::kv::KvReply;
use longshore_wire::{ClusterUri, Epoch, Failure, NodeId, Role, Transport, decode, encode};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio_util::task::TaskTracker;

pub(super) const SECRET: &[u8] = b"a secret of the workers";

/// What the node answers to a KV operation.
pub(super) enum OnKv {
    /// This.
    Answer(KvReply),
    /// Nothing: it cuts the session.
    Cut,
}

/// A fake control node.
pub(super) struct Fake {
    pub(super) node: NodeId,
    pub(super) name: String,
    port: u16,
    verifier: Verifier,
    /// Answers to attaches; the last one stays.
    pub(super) attach: Mutex<VecDeque<AttachReply>>,
    pub(super) on_kv: Mutex<VecDeque<OnKv>>,
    pub(super) attached: Mutex<Vec<Attach>>,
    pub(super) reports: Mutex<Vec<Report>>,
    pub(super) kv: Mutex<Vec<TaskKv>>,
    pub(super) sessions: Mutex<Vec<Session>>,
    /// Where a tunnel leads.
    pub(super) beyond: OnceLock<Arc<Fake>>,
    tracker: TaskTracker,
}

impl Fake {
    /// Listens on loopback and accepts every worker with `epoch`, until told otherwise.
    pub(super) async fn start(number: u128, epoch: u64) -> Arc<Self> {
        let options = ListenOptions {
            transport: Transport::Tcp,
            bind: "127.0.0.1:0".parse().unwrap(),
            path: "/".into(),
            tls: None,
            admission: Admission::default(),
        };
        let listener = Listener::bind(options).await.unwrap();
        let secret = Secret::from_bytes(SECRET).unwrap();
        let fake = Arc::new(Self {
            node: NodeId::from_u128(number),
            name: format!("c{number}"),
            port: listener.local_addr().port(),
            verifier: make_verifier(&secret, "worker", Role::Worker, MIN_ITERATIONS),
            attach: Mutex::default(),
            on_kv: Mutex::default(),
            attached: Mutex::default(),
            reports: Mutex::default(),
            kv: Mutex::default(),
            sessions: Mutex::default(),
            beyond: OnceLock::new(),
            tracker: TaskTracker::new(),
        });
        fake.attach.lock().unwrap().push_back(fake.accepts(epoch));
        let accepting = Arc::clone(&fake);
        fake.tracker.spawn(async move {
            loop {
                let pending = listener.accept().await.unwrap();
                let link = pending.upgrade().await.unwrap();
                let fake = Arc::clone(&accepting);
                accepting.tracker.spawn(async move { fake.meet(link).await });
            }
        });
        fake
    }

    pub(super) fn accepts(&self, epoch: u64) -> AttachReply {
        let (owner, owner_name) = (self.node, self.name.clone());
        AttachReply::Accepted(longshore_wire::edge::Accepted { owner, owner_name, ..accepted(epoch) })
    }

    /// Sends workers to `other`, which may be dialled at `addresses`.
    pub(super) fn sends_to(&self, other: &Self, addresses: &[ClusterUri]) {
        let reply =
            AttachReply::Elsewhere { owner: other.node, name: other.name.clone(), addresses: addresses.to_vec() };
        *self.attach.lock().unwrap() = [reply].into();
    }

    pub(super) fn uri(&self) -> ClusterUri {
        format!("longshore://127.0.0.1:{};transport=tcp", self.port).parse().unwrap()
    }

    /// A session inside a session: boxed, since the futures would contain each other.
    fn meet_boxed(self: Arc<Self>, link: Link) -> BoxFuture<'static, ()> {
        self.meet(link).boxed()
    }

    async fn meet(self: Arc<Self>, link: Link) {
        let identity = Identity::new(self.node, Role::Control, "prod", "test");
        let _ = identity.cluster_id.set(longshore_wire::ClusterId::from_u128(77));
        let verifier = self.verifier.clone();
        let find = move |credential: &str| (credential == "worker").then(|| verifier.clone());
        let Ok(proven) = verify(link, &identity, &find as &dyn Verifiers).await else { return };
        let (session, inbound) = Session::start(proven, SessionOptions::default());
        self.sessions.lock().unwrap().push(session.clone());
        self.serve(session, inbound).await;
    }

    async fn serve(self: Arc<Self>, session: Session, mut inbound: Inbound) {
        while let Some(incoming) = inbound.next().await {
            match incoming {
                Incoming::Request(request) => self.request(&session, request),
                Incoming::Open { head, mut stream } => {
                    let OpenControl::Tunnel { to } = decode(&head).unwrap();
                    let beyond = Arc::clone(self.beyond.get().expect("a tunnel is expected"));
                    assert_eq!(to, beyond.node);
                    let (mut near, far) = tokio::io::duplex(64 * 1024);
                    self.tracker.spawn(beyond.meet_boxed(Link::tunnel(far)));
                    self.tracker.spawn(async move {
                        let _ = tokio::io::copy_bidirectional(&mut stream, &mut near).await;
                    });
                }
                Incoming::Notify(_) => panic!("a worker notifies nobody"),
            }
        }
    }

    fn request(&self, session: &Session, request: Request) {
        match decode(&request.body).unwrap() {
            ToControl::Attach(attach) => {
                self.attached.lock().unwrap().push(attach);
                let mut replies = self.attach.lock().unwrap();
                let reply = if replies.len() > 1 { replies.pop_front() } else { replies.front().cloned() };
                request.reply(Ok(encode(&reply.unwrap())));
            }
            ToControl::Report(report) => {
                self.reports.lock().unwrap().push(report);
                request.reply(Ok(Vec::new()));
            }
            ToControl::Kv(kv) => {
                self.kv.lock().unwrap().push(kv);
                match self.on_kv.lock().unwrap().pop_front().expect("no KV operation is expected") {
                    OnKv::Answer(reply) => request.reply(Ok(encode(&reply))),
                    OnKv::Cut => session.abort(),
                }
            }
        }
    }

    /// The newest session.
    pub(super) fn session(&self) -> Session {
        self.sessions.lock().unwrap().last().expect("a worker has come").clone()
    }

    pub(super) async fn order(&self, epoch: u64, order: Order) -> Result<(), Failure> {
        let order = ToWorker::Order { epoch: Epoch(epoch), order };
        self.session().request(encode(&order), Duration::from_secs(10)).await.map(drop)
    }

    pub(super) async fn moved(&self, to: &Self, addresses: &[ClusterUri]) {
        let moved = NotifyWorker::Moved { owner: to.node, name: to.name.clone(), addresses: addresses.to_vec() };
        self.session().notify(encode(&moved)).await.unwrap();
    }
}

/// A worker that knows only these nodes.
pub(super) fn options(dir: &Path, known: &[&Fake]) -> Options {
    let tls = ClientTls::new(ClientTlsOptions::default()).unwrap();
    Options {
        name: "w1".into(),
        data_dir: dir.to_owned(),
        cluster: "prod".into(),
        labels: "core".parse().unwrap(),
        listen: Vec::new(),
        discovery: known.iter().map(|fake| fake.uri()).collect(),
        resolver: longshore_discovery::ResolverOptions::default(),
        secret: Secret::from_bytes(SECRET).unwrap(),
        credential: "worker".into(),
        dial: DialOptions::new(tls),
        runtimes: vec!["exec".into()],
        session: SessionOptions::default(),
        backoff: Backoff::new(Duration::from_millis(10), Duration::from_millis(100)),
        release: "test".into(),
        on_stop: OnStop::StopTasks,
    }
}

/// Waits until the worker is driven by `owner` with `epoch`.
pub(super) async fn driven(worker: &Worker, owner: &Fake, epoch: u64) -> crate::LinkStatus {
    let status = worker.status();
    eventually(&format!("driven by {}: {:?}", owner.name, status.borrow().clone()), || {
        let link = status.borrow().link.clone()?;
        (link.owner == owner.node && link.epoch == Epoch(epoch)).then_some(link)
    })
    .await
}
