//! The nodes of `longshore dev`: each a component of this process, joined over loopback sockets.

use crate::RELEASE;
use crate::args::local::Dev;
use crate::run::make_folder;
use anyhow::Context as _;
use longshore_control::{ApiGuard, ApiListen, Bootstrap, ControlNode, Disk, Listen, Loopback, Timers};
use longshore_discovery::ResolverOptions;
use longshore_transport::{
    Admission, Backoff, ClientTls, ClientTlsOptions, DialOptions, ListenOptions, Secret, ServerTls, SessionOptions,
    make_verifier,
};
use longshore_wire::credential::MIN_ITERATIONS;
use longshore_wire::uri::{DEFAULT_WS_PATH, TlsVerify};
use longshore_wire::{ClusterUri, Labels, Role, Transport};
use longshore_worker::{OnStop, Worker};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinSet;

/// A file system that lies in memory, on Linux.
const MEMORY: &str = "/dev/shm";
/// Name of the cluster.
const CLUSTER: &str = "dev";
/// How many control nodes vote, as in a real cluster.
const VOTERS: u32 = 3;
/// Sessions of workers and clients with one control node.
const MAX_SESSIONS: usize = 1000;
/// Port of the API if it is free.
const API_PORT: u16 = 8138;

/// A running cluster.
pub(super) struct Town {
    controls: Vec<ControlNode>,
    workers: Vec<Worker>,
    socket: String,
    api: String,
    /// Removed with the last mention of it.
    _temporary: Option<TempDir>,
}

impl Town {
    /// Starts all nodes; they find each other in their own time.
    pub(super) async fn start(args: &Dev) -> anyhow::Result<Self> {
        let temporary = if args.data.is_none() { Some(temporary(args)?) } else { None };
        let folder = match (&args.data, &temporary) {
            (Some(dir), _) => std::path::absolute(dir)?,
            (None, temporary) => temporary.as_ref().expect("made above").path().to_owned(),
        };
        make_folder(&folder)?;
        let plan = Plan::new(args, folder)?;
        let socket = format!("unix://{}", plan.socket(1).display());
        let mut town =
            Self { controls: Vec::new(), workers: Vec::new(), api: socket.clone(), socket, _temporary: temporary };
        if let Err(error) = town.fill(args, &plan).await {
            town.stop(crate::run::STOP_DEADLINE).await;
            return Err(error);
        }
        Ok(town)
    }

    async fn fill(&mut self, args: &Dev, plan: &Plan) -> anyhow::Result<()> {
        let mut known = Vec::new();
        for number in 1..=args.control {
            let options = plan.control(number, &known)?;
            let control = ControlNode::start(options).await.with_context(|| format!("control-{number}"))?;
            known.extend(control.listen_addresses().iter().map(|(transport, address)| uri(*transport, *address)));
            if number == 1 {
                plan.mark_founded()?;
                let tcp = control.api_addresses().iter().find_map(|address| match address {
                    ApiListen::Tcp(address) => Some(format!("http://{address}")),
                    ApiListen::Unix(_) => None,
                });
                self.api = tcp.unwrap_or_else(|| self.socket.clone());
            }
            self.controls.push(control);
        }
        for number in 1..=args.workers {
            let options = plan.worker(number, &known)?;
            self.workers.push(Worker::start(options).await.with_context(|| format!("worker-{number}"))?);
        }
        Ok(())
    }

    /// The API on its Unix socket.
    pub(super) fn socket(&self) -> &str {
        &self.socket
    }

    /// The API as people reach it.
    pub(super) fn api(&self) -> &str {
        &self.api
    }

    /// Resolves when a node has ended by itself, which none should; says which and why.
    pub(super) async fn stopped(&self) -> String {
        // Polled in place of spawned, since the nodes are borrowed.
        let mut ends: Vec<std::pin::Pin<Box<dyn Future<Output = String> + Send + '_>>> = Vec::new();
        for (number, control) in self.controls.iter().enumerate() {
            ends.push(Box::pin(
                async move { format!("control-{} has stopped: {}", number + 1, control.stopped().await) },
            ));
        }
        for (number, worker) in self.workers.iter().enumerate() {
            ends.push(Box::pin(async move {
                worker.stopped().await;
                format!("worker-{} has stopped", number + 1)
            }));
        }
        std::future::poll_fn(move |context| {
            ends.iter_mut()
                .find_map(|end| match end.as_mut().poll(context) {
                    std::task::Poll::Ready(why) => Some(std::task::Poll::Ready(why)),
                    std::task::Poll::Pending => None,
                })
                .unwrap_or(std::task::Poll::Pending)
        })
        .await
    }

    /// Stops the workers together, then the control nodes together.
    pub(super) async fn stop(mut self, deadline: Duration) {
        let mut stopping = JoinSet::new();
        for worker in self.workers.drain(..) {
            stopping.spawn(async move { worker.stop(deadline).await });
        }
        while stopping.join_next().await.is_some() {}
        for control in self.controls.drain(..) {
            stopping.spawn(async move { control.stop(deadline).await });
        }
        while stopping.join_next().await.is_some() {}
    }
}

/// A folder that goes with the cluster.
fn temporary(args: &Dev) -> anyhow::Result<TempDir> {
    let parent = if args.memory { PathBuf::from(MEMORY) } else { std::env::temp_dir() };
    let made = tempfile::Builder::new().prefix("longshore-dev-").tempdir_in(&parent);
    made.with_context(|| format!("no folder can be made in {}", parent.display()))
}

fn uri(transport: Transport, address: SocketAddr) -> ClusterUri {
    ClusterUri {
        host: address.ip().to_string(),
        port: Some(address.port()),
        transport: Some(transport),
        path: None,
        tls_verify: None,
    }
}

/// What all nodes have in common.
struct Plan {
    folder: PathBuf,
    transport: Transport,
    control: Secret,
    worker: Secret,
    founded: bool,
}

impl Plan {
    fn new(args: &Dev, folder: PathBuf) -> anyhow::Result<Self> {
        Ok(Self {
            transport: args.transport,
            control: secret(&folder.join("control.secret"))?,
            worker: secret(&folder.join("worker.secret"))?,
            founded: folder.join(FOUNDED).exists(),
            folder,
        })
    }

    /// From now on the cluster exists; another start must not make another one.
    fn mark_founded(&self) -> anyhow::Result<()> {
        let path = self.folder.join(FOUNDED);
        std::fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))
    }

    fn socket(&self, number: u8) -> PathBuf {
        self.folder.join(format!("api-{number}.sock"))
    }

    fn control(&self, number: u8, known: &[ClusterUri]) -> anyhow::Result<longshore_control::Options> {
        let mut api = vec![ApiListen::Unix(self.socket(number))];
        if number == 1 {
            api.push(ApiListen::Tcp(free_address(API_PORT)));
        }
        let bootstrap = (number == 1 && !self.founded).then(|| Bootstrap {
            verifiers: [(&self.control, Role::Control), (&self.worker, Role::Worker)]
                // A generated secret needs no stretching, and nobody waits for it here.
                .map(|(secret, role)| make_verifier(secret, role.name(), role, MIN_ITERATIONS))
                .to_vec(),
            voters: VOTERS,
        });
        let encrypted = self.transport.is_encrypted();
        let localhost = [Ipv4Addr::LOCALHOST.to_string()];
        let options = ListenOptions {
            transport: self.transport,
            bind: (Ipv4Addr::LOCALHOST, 0).into(),
            path: DEFAULT_WS_PATH.to_owned(),
            tls: encrypted.then(|| ServerTls::self_signed(&localhost, None)).transpose()?,
            admission: Admission::default(),
        };
        Ok(longshore_control::Options {
            node_name: format!("control-{number}"),
            data_dir: self.folder.join(format!("control-{number}")),
            disk_low: 0,
            cluster: CLUSTER.to_owned(),
            bootstrap,
            discovery: known.to_vec(),
            resolver: ResolverOptions::default(),
            secret: self.control.clone(),
            credential: Role::Control.name().to_owned(),
            listen: vec![Listen { options, advertise: None }],
            dial: dial_options()?,
            api,
            // A cluster for trying things out, on this machine only.
            api_guard: ApiGuard { tls: None, loopback: Loopback::Open },
            max_sessions: MAX_SESSIONS,
            timers: Timers::default(),
            release: RELEASE.to_owned(),
            storage: Disk::default(),
            snapshots: None,
        })
    }

    fn worker(&self, number: u8, known: &[ClusterUri]) -> anyhow::Result<longshore_worker::Options> {
        Ok(longshore_worker::Options {
            name: format!("worker-{number}"),
            data_dir: self.folder.join(format!("worker-{number}")),
            cluster: CLUSTER.to_owned(),
            labels: Labels::default(),
            listen: Vec::new(),
            discovery: known.to_vec(),
            resolver: ResolverOptions::default(),
            secret: self.worker.clone(),
            credential: Role::Worker.name().to_owned(),
            dial: dial_options()?,
            runtimes: vec!["exec".to_owned()],
            session: SessionOptions::default(),
            backoff: Backoff::default(),
            release: RELEASE.to_owned(),
            on_stop: OnStop::StopTasks,
        })
    }
}

/// Empty file that says that the cluster in this folder has been founded.
const FOUNDED: &str = "founded";

fn dial_options() -> anyhow::Result<DialOptions> {
    let options = ClientTlsOptions { verify: TlsVerify::Binding, ca_file: None, pin_file: None };
    Ok(DialOptions::new(ClientTls::new(options)?))
}

/// The secret of a former run, or a new one.
fn secret(path: &Path) -> anyhow::Result<Secret> {
    if path.exists() {
        return Ok(Secret::from_file(path)?);
    }
    let secret = Secret::generate()?;
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    written
        .and_then(|mut file| writeln!(file, "{}", secret.text()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(secret)
}

/// The wanted port if nobody has it, else one that the system chooses.
fn free_address(port: u16) -> SocketAddr {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if TcpListener::bind(wanted).is_ok() { wanted } else { (Ipv4Addr::LOCALHOST, 0).into() }
}
