//! A cluster of child processes for a benchmark, thrown away at its end.

use crate::args::local::Init;
use crate::client::{Call, Client};
use crate::commands::{init, items};
use anyhow::Context as _;
use longshore_transport::Secret;
use longshore_wire::credential::MIN_ITERATIONS;
use longshore_wire::{Role, Transport};
use serde_json::Value;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Name of the cluster.
pub(super) const CLUSTER: &str = "bench";
/// Time for the whole cluster to come up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(50);

/// Children and their folder.
pub(super) struct Children {
    // Killed when dropped, and dropped before the folder goes: fields go in this order.
    running: Vec<(String, Child)>,
    folder: TempDir,
    log: &'static str,
    apis: Vec<SocketAddr>,
    listening: Vec<(Transport, SocketAddr)>,
}

/// Where a control node is to be found.
pub(super) struct Place {
    /// The network namespace; the present one unless given.
    pub(super) netns: Option<String>,
    /// The API.
    pub(super) api: SocketAddr,
    /// For sessions.
    pub(super) listen: Vec<(Transport, SocketAddr)>,
}

impl Children {
    /// Prepares secrets; starts nothing.
    pub(super) fn new(place: Option<&Path>) -> anyhow::Result<Self> {
        let folder = folder(place)?;
        let dir = folder.path().join("made");
        init::write_all(&Init { dir, cluster: CLUSTER.to_owned(), iterations: MIN_ITERATIONS })?;
        Ok(Self { folder, running: Vec::new(), log: "warn", apis: Vec::new(), listening: Vec::new() })
    }

    /// What the children shall log from now on.
    pub(super) const fn log(&mut self, log: &'static str) {
        self.log = log;
    }

    /// Where the children keep their data.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The secret of a role.
    pub(super) fn secret(&self, role: Role) -> anyhow::Result<Secret> {
        Ok(Secret::from_file(self.made(&format!("{}.secret", role.name())))?)
    }

    /// Where the API of control node `index` listens.
    pub(super) fn api_address(&self, index: usize) -> anyhow::Result<SocketAddr> {
        self.apis.get(index).copied().context("there is no such control node")
    }

    /// The API of control node `index`.
    pub(super) fn api(&self, index: usize) -> anyhow::Result<Client> {
        let address = self.api_address(index)?;
        // An address that is not this machine's own asks for a token; the socket does not, and no namespace hides it.
        let socket = self.folder.path().join(format!("control-{}", index + 1)).join("api.sock");
        let place = if address.ip().is_loopback() {
            format!("http://{address}")
        } else {
            format!("unix://{}", socket.display())
        };
        Client::at(&place, Duration::from_secs(30))
    }

    /// Where the first control node listens with this transport.
    pub(super) fn listening(&self, transport: Transport) -> anyhow::Result<SocketAddr> {
        let found = self.listening.iter().find(|(spoken, _)| *spoken == transport);
        found.map(|(_, address)| *address).context("no control node speaks that")
    }

    /// Where control node `index` listens, of those that listen once.
    pub(super) fn listening_at(&self, index: usize) -> anyhow::Result<SocketAddr> {
        self.listening.get(index).map(|(_, address)| *address).context("there is no such control node")
    }

    /// Starts a control node that listens with these transports; the first one founds the cluster.
    pub(super) fn control(&mut self, transports: &[Transport]) -> anyhow::Result<()> {
        let listen = transports.iter().map(|transport| Ok((*transport, free_address()?)));
        let place = Place { netns: None, api: free_address()?, listen: listen.collect::<anyhow::Result<_>>()? };
        self.control_at(&place)
    }

    /// The same at a place of its own.
    pub(super) fn control_at(&mut self, place: &Place) -> anyhow::Result<()> {
        let name = format!("control-{}", self.apis.len() + 1);
        let mut listen = String::new();
        for (transport, address) in &place.listen {
            listen.push_str(&format!("[[listen]]\nuri = \"longshore://{address};transport={transport}\"\n"));
            self.listening.push((*transport, *address));
        }
        let (transport, first) = self.listening.first().context("a control node must listen")?;
        let api = place.api;
        let config = format!(
            "{}{listen}[api]\nlisten = \"{api}\"\nloopback = \"open\"\n",
            self.common(&name, "control", &format!("longshore://{first};transport={transport}"))
        );
        let bootstrap = if self.apis.is_empty() { &["--bootstrap"][..] } else { &[] };
        self.start(&name, &config, place.netns.as_deref(), bootstrap)?;
        self.apis.push(api);
        Ok(())
    }

    /// Starts a worker that dials the first control node with this transport.
    pub(super) fn worker(&mut self, transport: Transport) -> anyhow::Result<String> {
        let name = format!("worker-{transport}");
        self.worker_named(&name, None, transport)?;
        Ok(name)
    }

    /// The same with a name and a network of its own.
    pub(super) fn worker_named(&mut self, name: &str, netns: Option<&str>, transport: Transport) -> anyhow::Result<()> {
        let address = self.listening(transport)?;
        let config = self.common(name, "worker", &format!("longshore://{address};transport={transport}"));
        self.start(name, &config, netns, &[])
    }

    fn common(&self, name: &str, role: &str, discovery: &str) -> String {
        let data = self.folder.path().join(name);
        let (data, made) = (data.display(), self.made(""));
        let made = made.display();
        format!(
            "[node]\nname = \"{name}\"\nroles = [\"{role}\"]\ndata_dir = \"{data}\"\n\
             [cluster]\nname = \"{CLUSTER}\"\ndiscovery = [\"{discovery}\"]\n\
             [auth]\nsecret_file = \"{made}{role}.secret\"\nverifiers_file = \"{made}verifiers.json\"\n"
        )
    }

    /// A file that was made for the cluster.
    pub(super) fn made(&self, name: &str) -> PathBuf {
        self.folder.path().join("made").join(name)
    }

    fn start(&mut self, name: &str, config: &str, netns: Option<&str>, arguments: &[&str]) -> anyhow::Result<()> {
        let file = self.folder.path().join(format!("{name}.toml"));
        std::fs::write(&file, config)?;
        self.spawn(name, netns, arguments)
    }

    /// Starts a process whose configuration is there.
    fn spawn(&mut self, name: &str, netns: Option<&str>, arguments: &[&str]) -> anyhow::Result<()> {
        let file = self.folder.path().join(format!("{name}.toml"));
        let log = File::options().create(true).append(true).open(file.with_extension("log"))?;
        let program = std::env::current_exe().context("cannot find this program itself")?;
        let mut command = match netns {
            Some(netns) => {
                // It becomes the program, so that a kill hits the right one.
                let mut command = Command::new("ip");
                command.args(["netns", "exec", netns]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(["run", "-c"]).arg(&file).args(arguments).env("LONGSHORE_LOG", self.log);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        self.running.push((name.to_owned(), command.spawn().context("cannot start a child process")?));
        Ok(())
    }

    /// Cuts a child with SIGKILL, and waits for its end.
    pub(super) async fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let index = self.running.iter().position(|(running, _)| running == name).context("no such child runs")?;
        let (_, mut child) = self.running.swap_remove(index);
        Ok(child.kill().await?)
    }

    /// Starts a child again that was killed.
    pub(super) fn restart(&mut self, name: &str) -> anyhow::Result<()> {
        self.spawn(name, None, &[])
    }

    /// A child's process id.
    pub(super) fn pid(&self, name: &str) -> anyhow::Result<u32> {
        let child = self.running.iter().find(|(running, _)| running == name);
        child.and_then(|(_, child)| child.id()).with_context(|| format!("{name} does not run"))
    }

    /// How many lines of a child's log hold this text.
    pub(super) fn logged(&self, name: &str, text: &str) -> anyhow::Result<usize> {
        let log = std::fs::read_to_string(self.folder.path().join(format!("{name}.log")))?;
        Ok(log.lines().filter(|line| line.contains(text)).count())
    }

    /// Waits until the nodes that the first control node knows are as wanted.
    pub(super) async fn wait(&mut self, path: &str, enough: impl Fn(&[Value]) -> bool) -> anyhow::Result<Value> {
        let start = Instant::now();
        let client = self.api(0)?;
        loop {
            let answer = client.json(Call::get(path)).await;
            let list = answer.as_ref().map(|answer| if answer.is_array() { answer } else { &answer["members"] });
            if list.as_ref().is_ok_and(|list| enough(items(list))) {
                return answer;
            }
            for (name, child) in &mut self.running {
                if let Some(status) = child.try_wait()? {
                    let log = std::fs::read_to_string(self.folder.path().join(format!("{name}.log")))?;
                    anyhow::bail!("{name} ended ({status}):\n{log}");
                }
            }
            if start.elapsed() > PATIENCE {
                let seen = answer.map_or_else(|error| error.to_string(), |answer| answer.to_string());
                anyhow::bail!("the cluster did not come up within {PATIENCE:?}: {seen}");
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// A folder in this place, thrown away at the end.
pub(super) fn folder(place: Option<&Path>) -> anyhow::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("longshore-bench-");
    match place {
        Some(place) => builder.tempdir_in(place).with_context(|| format!("cannot write to {}", place.display())),
        None => Ok(builder.tempdir()?),
    }
}

/// An address that nobody has at this moment. Not one of those that the system gives to who dials: while a killed node is
/// away, one of ten thousand workers that dial would get it, and be connected to itself.
pub(super) fn free_address() -> anyhow::Result<SocketAddr> {
    const PORTS: std::ops::Range<u16> = 10_000..30_000;
    /// Where the next search begins, so that no two get the same before they use it.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    /// More than a benchmark takes. Benchmarks that are started together have process ids that are close to each other.
    const APART: u32 = 97;
    let start = std::process::id().wrapping_mul(APART);
    for _ in PORTS {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Relaxed)) % u32::from(PORTS.end - PORTS.start);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, PORTS.start + offset as u16)) {
            return Ok(listener.local_addr()?);
        }
    }
    anyhow::bail!("no port from {} to {} is free", PORTS.start, PORTS.end)
}
