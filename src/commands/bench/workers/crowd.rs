//! Simulated workers: each dials, proves itself, attaches and reports as a real one does, and comes back when its session
//! is lost. They run nothing.

use super::super::bare;
use super::super::children::CLUSTER;
use crate::RELEASE;
use bytes::Bytes;
use longshore_transport::{
    Backoff, DialOptions, Handler, Identity, Keyring, Request, Secret, Session, SessionOptions, Stream, dial, prove,
};
use longshore_wire::edge::{Attach, AttachReply, Report, ToControl};
use longshore_wire::task::NodeState;
use longshore_wire::{Endpoint, Epoch, Labels, NodeId, RequestId, Role, Transport, decode, encode};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

/// As a worker's.
const ATTACH: Duration = Duration::from_secs(10);
/// As a worker's.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// As a worker's.
const REPORT: Duration = Duration::from_secs(5);
/// As a worker's: a session that lasted so long makes the next pause short.
const SETTLED: Duration = Duration::from_secs(5);

/// All of them.
pub(super) struct Crowd {
    shared: Arc<Shared>,
    workers: TaskTracker,
}

struct Shared {
    endpoint: Endpoint,
    keyring: Keyring,
    /// Raised when the control node is killed: who was driven before counts no longer.
    round: AtomicU32,
    driven: AtomicU32,
    sessions: Mutex<HashMap<NodeId, Session>>,
    lost: AtomicU64,
    failed: AtomicU64,
    /// When the latest worker was taken on.
    last: Mutex<Option<Instant>>,
    /// Why the latest attempt failed, or the latest session ended.
    example: Mutex<Option<String>>,
}

impl Shared {
    fn sessions(&self) -> MutexGuard<'_, HashMap<NodeId, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Crowd {
    pub(super) fn new(transport: Transport, address: SocketAddr, secret: &Secret) -> anyhow::Result<Self> {
        let shared = Shared {
            endpoint: bare::endpoint(transport, address),
            keyring: Keyring::new(Secret::from_bytes(secret.text().as_bytes())?, Role::Worker.name().to_owned()),
            round: AtomicU32::new(0),
            driven: AtomicU32::new(0),
            sessions: Mutex::default(),
            lost: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last: Mutex::default(),
            example: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared), workers: TaskTracker::new() })
    }

    /// Starts one worker. It runs until the process ends.
    pub(super) fn start(&self, number: u32) -> anyhow::Result<()> {
        let node = NodeId::from_u128(ulid::Ulid::generate().into());
        let worker = Worker {
            shared: Arc::clone(&self.shared),
            name: format!("simulated-{number}"),
            identity: Identity::new(node, Role::Worker, CLUSTER, RELEASE),
            boot: RequestId::from_u128(ulid::Ulid::generate().into()),
            // Each has its own, since each would have its own TLS sessions to resume. And its own address: a control node
            // lets only some strangers of one address in at a time.
            dial: DialOptions { source: Some(address(number).into()), ..bare::dial_options()? },
        };
        self.workers.spawn(worker.run());
        Ok(())
    }

    /// How many are driven now.
    pub(super) fn driven(&self) -> u32 {
        self.shared.driven.load(Relaxed)
    }

    /// The control node was killed: nobody is driven until it has attached again.
    pub(super) fn forget(&self) {
        self.shared.round.fetch_add(1, Relaxed);
        self.shared.driven.store(0, Relaxed);
    }

    /// How many have a session in which a ping was answered.
    pub(super) fn pinged(&self) -> usize {
        self.shared.sessions().values().filter(|session| session.rtt().is_some()).count()
    }

    /// How many sessions have ended so far.
    pub(super) fn lost(&self) -> u64 {
        self.shared.lost.load(Relaxed)
    }

    /// How many attempts have failed so far.
    pub(super) fn failed(&self) -> u64 {
        self.shared.failed.load(Relaxed)
    }

    /// When the latest worker was taken on.
    pub(super) fn last(&self) -> Option<Instant> {
        *self.shared.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the latest attempt failed, or the latest session ended.
    pub(super) fn example(&self) -> Option<String> {
        self.shared.example.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An address of the loopback network for every worker; so many are there.
fn address(number: u32) -> Ipv4Addr {
    const FIRST: u32 = u32::from_be_bytes([127, 16, 0, 1]);
    Ipv4Addr::from(FIRST + number)
}

struct Worker {
    shared: Arc<Shared>,
    name: String,
    identity: Identity,
    boot: RequestId,
    dial: DialOptions,
}

/// Why an attempt came to nothing, and how long the cluster asks to stay away.
struct Refused(String, Option<Duration>);

impl Refused {
    fn new(why: impl ToString) -> Self {
        Self(why.to_string(), None)
    }
}

impl Worker {
    async fn run(self) {
        let mut pauses = Backoff::default();
        loop {
            let asked = match self.enter().await {
                Ok(session) => {
                    let since = Instant::now();
                    self.driven(&session).await;
                    if since.elapsed() >= SETTLED {
                        pauses.reset();
                    }
                    None
                }
                Err(Refused(why, wait)) => {
                    self.shared.failed.fetch_add(1, Relaxed);
                    *self.shared.example.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                    wait
                }
            };
            sleep(asked.unwrap_or_default() + pauses.next()).await;
        }
    }

    async fn enter(&self) -> Result<Session, Refused> {
        let link = dial(&self.shared.endpoint, &self.dial).await.map_err(Refused::new)?;
        let proven = prove(link, &self.identity, &self.shared.keyring, Role::Control).await;
        let proven = proven.map_err(|error| Refused(error.to_string(), error.retry_after()))?;
        let session = Session::serve(proven, SessionOptions::default(), Arc::new(Idler));
        let attach = Attach {
            name: self.name.clone(),
            boot: self.boot,
            labels: Labels::default(),
            release: RELEASE.to_owned(),
            runtimes: vec!["exec".to_owned()],
            epoch: Epoch(0),
            published: Vec::new(),
            report: report(),
        };
        let reply = session.request(encode(&ToControl::Attach(attach)), ATTACH).await.map_err(Refused::new)?;
        match decode(&reply).map_err(Refused::new)? {
            AttachReply::Accepted(_) => Ok(session),
            AttachReply::Elsewhere { name, .. } => Err(Refused(format!("sent on to {name}"), None)),
            AttachReply::Wait { retry_after_ms, reason } => {
                Err(Refused(reason, Some(Duration::from_millis(retry_after_ms))))
            }
        }
    }

    /// Is driven until the session ends.
    async fn driven(&self, session: &Session) {
        let round = self.shared.round.load(Relaxed);
        self.shared.driven.fetch_add(1, Relaxed);
        *self.shared.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.shared.sessions().insert(self.identity.node, session.clone());
        let mut pause = Duration::ZERO;
        let reason = loop {
            if let Ok(reason) = timeout(pause, session.closed()).await {
                break reason;
            }
            // The first report follows at once, as a worker's does.
            if session.request(encode(&ToControl::Report(report())), REPORT).await.is_err() {
                tracing::debug!(worker = self.name, "a report was not taken");
            }
            pause = REPORT_EVERY;
        };
        *self.shared.example.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.message);
        self.shared.lost.fetch_add(1, Relaxed);
        self.shared.sessions().remove(&self.identity.node);
        if self.shared.round.load(Relaxed) == round {
            self.shared.driven.fetch_sub(1, Relaxed);
        }
    }
}

fn report() -> Report {
    Report { state: NodeState::Ready, tasks: Vec::new(), archives: Vec::new() }
}

/// Does what it is told by doing nothing.
struct Idler;

impl Handler for Idler {
    fn request(&self, request: Request) {
        request.answer(Bytes::new());
    }

    fn notify(&self, _: Bytes) {}

    fn open(&self, _: Bytes, _: Stream) {}
}
