//! Control nodes and workers, each control node on a host of its own, the workers on one behind them.

use crate::netns::Net;
use crate::process::{BINARY, Cli, Process, wait_for};
use serde_json::Value;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// All of them, running.
pub(crate) struct Shore {
    pub(crate) workers: Vec<Process>,
    pub(crate) controls: Vec<Process>,
    pub(crate) dir: TempDir,
    pub(crate) net: Net,
}

/// What is to run.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) controls: u8,
    pub(crate) workers: u8,
    pub(crate) transport: &'a str,
    /// Sections that every configuration has.
    pub(crate) common: &'a str,
    /// Where workers find the cluster; empty for the addresses of the control nodes.
    pub(crate) uri: &'a str,
    /// Sections that workers have.
    pub(crate) more: &'a str,
}

impl<'a> Plan<'a> {
    /// One control node and one worker.
    pub(crate) fn pair(transport: &'a str) -> Self {
        Self { controls: 1, workers: 1, transport, common: "", uri: "", more: "" }
    }

    /// The host of the workers.
    pub(crate) fn shore(self) -> u8 {
        self.controls + 1
    }

    fn uri(self, control: u8) -> String {
        format!("longshore://{};transport={}", Net::address(control), self.transport)
    }

    fn config(self, name: &str, role: &str, here: &Path, uris: &str) -> String {
        let here = here.display();
        format!(
            "{}[node]\nname = \"{name}\"\nroles = [\"{role}\"]\ndata_dir = \"{here}/{name}\"\n[cluster]\nname = \"test\"\n\
             discovery = [{uris}]\n[auth]\nsecret_file = \"{here}/made/{role}.secret\"\n",
            self.common
        )
    }
}

impl Shore {
    /// Starts one control node, and one worker on host 2, and waits until the worker is driven; `None` when this machine
    /// has no namespaces.
    pub(crate) fn start(test: &str, transport: &str) -> Option<Self> {
        Some(Self::start_in(Net::new(test, 2)?, Plan::pair(transport)))
    }

    /// Starts what `plan` says, and waits until every worker is driven.
    pub(crate) fn start_in(net: Net, plan: Plan<'_>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let init = Command::new(BINARY)
            .args(["init", "--cluster", "test", "--iterations", "4096"])
            .arg(dir.path().join("made"))
            .output()
            .unwrap();
        assert!(init.status.success());
        let uris: Vec<String> = (1..=plan.controls).map(|number| format!("\"{}\"", plan.uri(number))).collect();
        let uris = uris.join(",");
        let process = |name: &str, host: u8, config: String| {
            let file = dir.path().join(format!("{name}.toml"));
            std::fs::write(&file, config).unwrap();
            Process::new(name, file).inside(&net.host(host))
        };
        let controls = (1..=plan.controls).map(|number| {
            let name = format!("control-{number}");
            let mut config = plan.config(&name, "control", dir.path(), &uris);
            let uri = plan.uri(number);
            write!(
                config,
                "verifiers_file = \"{}/made/verifiers.json\"\n[[listen]]\nuri = \"{uri}\"\n",
                dir.path().display()
            )
            .unwrap();
            process(&name, number, config)
        });
        let workers = (1..=plan.workers).map(|number| {
            let name = format!("worker-{number}");
            let found = if plan.uri.is_empty() { uris.clone() } else { format!("\"{}\"", plan.uri) };
            process(&name, plan.shore(), plan.config(&name, "worker", dir.path(), &found) + plan.more)
        });
        let (controls, workers) = (controls.collect(), workers.collect());
        let mut shore = Self { workers, controls, dir, net };
        for (index, control) in shore.controls.iter_mut().enumerate() {
            control.start(if index == 0 { &["--bootstrap"] } else { &[] });
        }
        shore.wait_voters();
        shore.workers.iter_mut().for_each(|worker| worker.start(&[]));
        shore.wait_state(0, "ready");
        shore
    }

    /// The command line: the API's socket is a file, which no namespace hides.
    pub(crate) fn cli(&self, control: usize) -> Cli {
        let socket = self.dir.path().join(&self.controls[control].name).join("api.sock");
        Cli::new(&format!("unix://{}", socket.display()))
    }

    /// Waits until every control node is a live voter, as the first one says.
    pub(crate) fn wait_voters(&self) {
        wait_for("the control nodes", || {
            let status = self.cli(0).try_json(&["cluster", "status"])?;
            let live = |member: &&Value| member["role"] == "voter" && member["alive"] == true;
            let voters = status["members"].as_array().map_or(0, |members| members.iter().filter(live).count());
            if voters == self.controls.len() { Ok(()) } else { Err(status.to_string()) }
        });
    }

    /// What a control node says of the workers.
    pub(crate) fn nodes(&self, control: usize) -> Result<Vec<Value>, String> {
        let nodes = self.cli(control).try_json(&["node", "list"])?;
        let worker = |node: &&Value| node["name"].as_str().is_some_and(|name| name.starts_with("worker"));
        Ok(nodes.as_array().ok_or("no list")?.iter().filter(worker).cloned().collect())
    }

    /// Whether every worker is in this state, as a control node says.
    pub(crate) fn in_state(&self, control: usize, state: &str) -> Result<(), String> {
        let nodes = self.nodes(control)?;
        let there = nodes.iter().filter(|node| node["state"] == state).count();
        if there == self.workers.len() { Ok(()) } else { Err(format!("{nodes:?}")) }
    }

    /// Waits until every worker is in this state.
    pub(crate) fn wait_state(&self, control: usize, state: &str) {
        wait_for(&format!("the workers to be {state}"), || self.in_state(control, state));
    }

    /// How often the first worker has been attached.
    pub(crate) fn sessions(&self) -> usize {
        self.workers[0].log().matches("attached to the owner").count()
    }

    /// Waits for so many sessions.
    pub(crate) fn wait_sessions(&self, wanted: usize) {
        wait_for(&format!("session {wanted}"), || {
            if self.sessions() >= wanted { Ok(()) } else { Err(self.workers[0].log()) }
        });
    }

    /// How often the first worker has noticed the loss of a session.
    pub(crate) fn losses(&self) -> usize {
        self.workers[0].log().matches("the session was lost").count()
    }

    /// Starts the app `greeter` on every worker.
    pub(crate) fn greet(&self) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/greeter");
        self.run(&folder, "greeter");
    }

    /// Deploys the app in `folder`, and starts its flow on every worker.
    pub(crate) fn run(&self, folder: &Path, app: &str) {
        self.cli(0).text(&["app", "deploy", folder.to_str().unwrap()]);
        self.cli(0).text(&["flow", "start", app, "--name", app]);
    }

    /// Waits until one task runs on each worker, none of which was ever restarted: their names, and since when they run.
    pub(crate) fn tasks(&self, control: usize) -> Vec<(String, u64)> {
        wait_for("a running task on each worker", || {
            let tasks = self.cli(control).try_json(&["task", "list"])?;
            let list = tasks.as_array().ok_or("no list")?;
            let running = list.iter().filter(|task| task["state"] == "running" && task["restarts"] == 0);
            let mut running: Vec<(String, u64)> = running
                .filter_map(|task| task["task"].as_str().map(str::to_owned).zip(task["since"].as_u64()))
                .collect();
            running.sort();
            if running.len() == self.workers.len() && list.len() == running.len() {
                Ok(running)
            } else {
                Err(tasks.to_string())
            }
        })
    }

    /// The port that the only TCP connection of the workers' host leaves from.
    pub(crate) fn local_port(&self) -> u16 {
        const ESTABLISHED: &str = "01";
        wait_for("the worker's connection", || {
            let table = self.table("tcp")?;
            let ports = table.lines().skip(1).filter_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let (_, port) = fields.get(1)?.split_once(':')?;
                (fields.get(3) == Some(&ESTABLISHED)).then(|| u16::from_str_radix(port, 16).ok())?
            });
            let ports: Vec<u16> = ports.collect();
            let [port] = ports.as_slice() else { return Err(table) };
            Ok(*port)
        })
    }

    /// Bytes that the workers' host has received.
    pub(crate) fn received(&self) -> Result<u64, String> {
        let table = self.table("dev")?;
        let line = table.lines().find_map(|line| line.trim().strip_prefix("eth0:")).ok_or("no eth0")?;
        line.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).ok_or_else(|| line.to_owned())
    }

    fn table(&self, name: &str) -> Result<String, String> {
        let path = format!("/proc/{}/net/{name}", self.workers[0].pid());
        std::fs::read_to_string(path).map_err(|error| error.to_string())
    }
}

/// Rules that cut a host off.
pub(crate) fn cut_off(address: Ipv4Addr) -> String {
    format!("ip saddr {address} drop\nip daddr {address} drop")
}
