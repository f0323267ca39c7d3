//! A cluster of real processes on loopback addresses of its own, with its own DNS.

use crate::dns::Dns;
use crate::process::{BINARY, Cli, Process, wait_for};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use tempfile::TempDir;

/// Port of every control node's WSS listener; each has an address of its own.
pub(crate) const WSS_PORT: u16 = 8143;
const API_PORT: u16 = 8138;

/// A slice of 127.0.0.0/8 that no other cluster of this or another test process uses.
#[derive(Clone, Copy)]
pub(crate) struct Subnet(u8, u8);

impl Subnet {
    /// Takes the next free slice.
    pub(crate) fn take() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let process = u8::try_from(std::process::id() % 200).expect("below 200") + 20;
        Self(process, NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Host `number` of it.
    pub(crate) fn host(self, number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, self.0, self.1, number))
    }
}

/// Host numbers: control nodes are 1, 2, 3; other things stand higher.
const DNS_HOST: u8 = 53;
const EDGE_DNS_HOST: u8 = 54;

/// What workers see of the control nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Every control node is found and can be dialled.
    All,
    /// Only the first one is found; the others can be dialled by their names.
    FirstFound,
    /// Only the first one can; the others' names lead to a closed port.
    FirstOnly,
}

/// Three control nodes and some workers.
pub(crate) struct Cluster {
    pub(crate) controls: Vec<Process>,
    pub(crate) workers: Vec<Process>,
    pub(crate) subnet: Subnet,
    pub(crate) dir: TempDir,
    edge_dns: Dns,
    core_dns: Dns,
}

impl Cluster {
    /// Writes the configuration of three control nodes and `workers` workers; starts nothing.
    pub(crate) fn prepare(workers: usize, reach: Reach) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let subnet = Subnet::take();
        let core_dns = Dns::serve(subnet.host(DNS_HOST), &zone(subnet, Reach::All));
        let edge_dns = Dns::serve(subnet.host(EDGE_DNS_HOST), &zone(subnet, reach));
        let output = Command::new(BINARY)
            .args(["init", "--cluster", "test", "--iterations", "4096"])
            .arg(dir.path().join("made"))
            .output()
            .unwrap();
        assert!(output.status.success(), "init: {}", String::from_utf8_lossy(&output.stderr));
        let mut cluster = Self { controls: Vec::new(), workers: Vec::new(), subnet, dir, edge_dns, core_dns };
        cluster.controls = (1..=3).map(|number| cluster.control(number)).collect();
        cluster.workers =
            (1..=workers).map(|number| cluster.worker(&format!("worker-{number}"), "worker.secret", "")).collect();
        cluster
    }

    /// Prepares, starts everything, and waits until every worker is driven.
    pub(crate) fn start(workers: usize, reach: Reach) -> Self {
        let mut cluster = Self::prepare(workers, reach);
        cluster.start_controls();
        for worker in &mut cluster.workers {
            worker.start(&[]);
        }
        cluster.wait_driven();
        cluster
    }

    /// Starts the control nodes, the first with `--bootstrap`, and waits until three voters stand.
    pub(crate) fn start_controls(&mut self) {
        self.controls[0].start(&["--bootstrap"]);
        self.controls[1].start(&[]);
        self.controls[2].start(&[]);
        self.wait_voters();
    }

    /// Waits until three voters live and agree on a leader.
    pub(crate) fn wait_voters(&self) {
        wait_for("three live voters", || {
            let status = self.cli(0).try_json(&["cluster", "status"])?;
            let live = |member: &&Value| member["role"] == "voter" && member["alive"] == true;
            let voters = status["members"].as_array().map_or(0, |members| members.iter().filter(live).count());
            let settled = voters == 3 && status["voters_changing"] == false;
            if settled && status["leader"].is_string() { Ok(()) } else { Err(status.to_string()) }
        });
    }

    fn control(&self, number: u8) -> Process {
        let name = format!("control-{number}");
        let (ip, made) = (self.subnet.host(number), self.secrets());
        let config = format!(
            r#"[node]
name = "{name}"
roles = ["control"]
data_dir = "{data}"
[cluster]
name = "test"
discovery = ["longshore://cluster.test"]
[dns]
nameservers = ["{dns}:5353"]
[auth]
secret_file = "{made}/control.secret"
verifiers_file = "{made}/verifiers.json"
[[listen]]
uri = "longshore://{ip}:{WSS_PORT};transport=wss"
advertise = "{name}.cluster.test:{WSS_PORT}"
[api]
listen = "{ip}:{API_PORT}"
loopback = "open"
"#,
            data = self.dir.path().join(&name).display(),
            dns = self.subnet.host(DNS_HOST),
            made = made.display(),
        );
        self.process(&name, &config)
    }

    /// A worker that knows only `longshore://cluster.test`, with the secret in file `secret`; `cluster` replaces the
    /// `[cluster]` section when it is not empty.
    pub(crate) fn worker(&self, name: &str, secret: &str, cluster: &str) -> Process {
        let cluster =
            if cluster.is_empty() { "name = \"test\"\ndiscovery = [\"longshore://cluster.test\"]" } else { cluster };
        let config = format!(
            r#"[node]
name = "{name}"
roles = ["worker"]
data_dir = "{data}"
labels = "edge;site={name}"
[cluster]
{cluster}
[dns]
nameservers = ["{dns}"]
[auth]
secret_file = "{made}/{secret}"
"#,
            data = self.dir.path().join(name).display(),
            dns = self.edge_dns.address(),
            made = self.secrets().display(),
        );
        self.process(name, &config)
    }

    /// Gives every control node, all of them stopped, another address; their names stay.
    pub(crate) fn move_controls(&mut self) {
        let mut records = zone(self.subnet, Reach::All);
        for number in 1..=u8::try_from(self.controls.len()).unwrap() {
            let (from, to) = (self.subnet.host(number), self.subnet.host(number + 100));
            let file = self.dir.path().join(format!("control-{number}.toml"));
            let text = std::fs::read_to_string(&file).unwrap();
            let text = text.replace(&format!("{from}:{WSS_PORT}"), &format!("{to}:{WSS_PORT}"));
            std::fs::write(&file, text).unwrap();
            records = records.replace(&format!("IN A {from}\n"), &format!("IN A {to}\n"));
        }
        for (host, dns) in [(DNS_HOST, &mut self.core_dns), (EDGE_DNS_HOST, &mut self.edge_dns)] {
            // The former one gives its address back first.
            drop(std::mem::replace(dns, Dns::serve(self.subnet.host(host + 100), "")));
            *dns = Dns::serve(self.subnet.host(host), &records);
        }
    }

    /// Where `init` put the secrets.
    pub(crate) fn secrets(&self) -> PathBuf {
        self.dir.path().join("made")
    }

    fn process(&self, name: &str, config: &str) -> Process {
        let file = self.dir.path().join(format!("{name}.toml"));
        std::fs::write(&file, config).unwrap();
        Process::new(name, file)
    }

    /// The command line on control node `index`'s API.
    pub(crate) fn cli(&self, index: usize) -> Cli {
        let host = self.subnet.host(u8::try_from(index).unwrap() + 1);
        Cli::new(&format!("http://{host}:{API_PORT}"))
    }

    /// Waits until every worker is ready and has a live owner, as control node 0 sees it.
    pub(crate) fn wait_driven(&self) {
        self.wait_driven_by_others(0, "");
    }

    /// Waits until every worker is ready, as control node `index` sees it, and none is owned by node `dead`.
    pub(crate) fn wait_driven_by_others(&self, index: usize, dead: &str) {
        wait_for("every worker to be driven by another node", || {
            let workers = self.worker_records(index)?;
            let driven = workers.iter().filter(|node| node["state"] == "ready" && node["owner"] != dead).count();
            if driven == self.workers.len() { Ok(()) } else { Err(format!("{workers:#?}")) }
        });
    }

    /// Waits until every worker is ready and their owners are `owners` different control nodes: the ring evens out a
    /// moment after the last control node has come.
    pub(crate) fn wait_spread(&self, owners: usize) -> Vec<Value> {
        wait_for("the proxies to be spread", || {
            let workers = self.worker_records(0)?;
            let found: BTreeSet<&str> = workers.iter().filter_map(|node| node["owner"].as_str()).collect();
            let driven = workers.iter().filter(|node| node["state"] == "ready").count();
            let even = found.len() == owners && driven == self.workers.len();
            if even { Ok(workers.clone()) } else { Err(format!("{workers:#?}")) }
        })
    }

    /// What `node list` says of the workers.
    pub(crate) fn worker_records(&self, index: usize) -> Result<Vec<Value>, String> {
        let nodes = self.cli(index).try_json(&["node", "list"])?;
        let is_worker =
            |node: &&Value| node["roles"].as_array().is_some_and(|roles| roles.iter().any(|role| role == "worker"));
        Ok(nodes.as_array().ok_or("node list is no list")?.iter().filter(is_worker).cloned().collect())
    }

    /// Deploys `examples/APP` and starts its flow `main` with `arguments`.
    pub(crate) fn run_app(&self, app: &str, arguments: &[&str]) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(app);
        self.cli(0).text(&["app", "deploy", folder.to_str().unwrap()]);
        self.cli(0).text(&[&["flow", "start", app, "--name", app], arguments].concat());
    }

    /// Index of the control node that leads, as node `index` sees it.
    pub(crate) fn leader_seen_by(&self, index: usize) -> Result<usize, String> {
        let status = self.cli(index).try_json(&["cluster", "status"])?;
        let leader = &status["leader"];
        let members = status["members"].as_array().ok_or("no members")?;
        let member = members
            .iter()
            .find(|member| leader.is_string() && (member["id"] == *leader || member["name"] == *leader))
            .ok_or_else(|| format!("no leader in {status}"))?;
        let name = member["name"].as_str().ok_or("a member without a name")?;
        self.controls.iter().position(|control| control.name == name).ok_or_else(|| format!("{name} is unknown"))
    }
}

/// The records: `cluster.test` leads by NAPTR and SRV to the control nodes' WSS listeners.
fn zone(subnet: Subnet, reach: Reach) -> String {
    let mut records = String::from("@ IN NAPTR 10 10 \"s\" \"LSS+D2W\" \"\" _longshore._wss.cluster.test.\n");
    for number in 1..=3 {
        let ip = if reach == Reach::FirstOnly && number != 1 { subnet.host(200 + number) } else { subnet.host(number) };
        writeln!(records, "control-{number} IN A {ip}").unwrap();
        if reach == Reach::All || number == 1 {
            writeln!(records, "_longshore._wss IN SRV 10 10 {WSS_PORT} control-{number}.cluster.test.").unwrap();
        }
    }
    records
}
