//! Any number of control nodes on loopback addresses of their own, over plain TCP, that find each other by address.

use super::http::{self, Answer};
use super::within;
use crate::cluster::Subnet;
use crate::process::{BINARY, Cli, Process, wait_for};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const PORT: u16 = 8140;
const API_PORT: u16 = 8138;

/// The control nodes. Node `index` has the address `subnet.host(index + 1)`.
pub(crate) struct Fleet {
    // Before their folder, which holds the logs that they show when a test fails.
    pub(crate) nodes: Vec<Process>,
    pub(crate) subnet: Subnet,
    pub(crate) dir: TempDir,
    /// More lines of every configuration.
    extra: String,
}

impl Fleet {
    /// Makes the secrets; starts nothing.
    pub(crate) fn new(extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("made");
        let init = ["init", "--cluster", "test", "--iterations", "4096"];
        let output = Command::new(BINARY).args(init).arg(&made).output().unwrap();
        assert!(output.status.success(), "init: {}", String::from_utf8_lossy(&output.stderr));
        Self { nodes: Vec::new(), subnet: Subnet::take(), dir, extra: extra.to_owned() }
    }

    /// Starts `count` nodes, the first of which founds the cluster and is where the others ask, and waits until all are
    /// members.
    pub(crate) fn start(count: usize, extra: &str) -> Self {
        let mut fleet = Self::new(extra);
        for index in 0..count {
            fleet.add(&[0]);
            fleet.nodes[index].start(if index == 0 { &["--bootstrap"] } else { &[] });
        }
        fleet.wait_members(count);
        for index in 0..count {
            fleet.wait_settled(index);
        }
        fleet
    }

    /// Waits until a node knows that the voters are as wanted, and that the former ones are not needed any more.
    fn wait_settled(&self, index: usize) {
        wait_for("the voters to be as wanted", || {
            let status = self.get(index, "/v1/cluster")?;
            let members = status["members"].as_array().ok_or("no members")?;
            let voters = members.iter().filter(|member| member["role"] == "voter").count() as u64;
            let wanted = status["voters_wanted"].as_u64().map(|wanted| wanted.min(members.len() as u64));
            let settled = status["voters_changing"] == false && wanted == Some(voters);
            if settled { Ok(()) } else { Err(status.to_string()) }
        });
    }

    /// Configures another node, which asks at the nodes with these indexes, there or not. Gives its index.
    pub(crate) fn add(&mut self, seeds: &[u8]) -> usize {
        let seeds: Vec<String> = seeds.iter().map(|seed| format!("{:?}", self.uri(*seed))).collect();
        self.configure(&format!("discovery = [{}]", seeds.join(", ")))
    }

    /// Configures another node with this line in its section `[cluster]`. Gives its index.
    pub(crate) fn configure(&mut self, discovery: &str) -> usize {
        let index = self.nodes.len();
        let name = format!("control-{}", index + 1);
        let config = format!(
            r#"[node]
name = "{name}"
roles = ["control"]
data_dir = "{data}"
[cluster]
name = "test"
{discovery}
[auth]
secret_file = "{made}/control.secret"
verifiers_file = "{made}/verifiers.json"
[[listen]]
uri = "{uri}"
[api]
listen = "{api}"
loopback = "open"
{extra}
"#,
            data = self.data(index).display(),
            made = self.dir.path().join("made").display(),
            uri = self.uri(u8::try_from(index).unwrap()),
            api = self.api(index),
            extra = self.extra,
        );
        let file = self.dir.path().join(format!("{name}.toml"));
        std::fs::write(&file, config).unwrap();
        self.nodes.push(Process::new(&name, file));
        index
    }

    fn uri(&self, index: u8) -> String {
        format!("longshore://{}:{PORT};transport=tcp", self.subnet.host(index + 1))
    }

    /// A node's data folder.
    pub(crate) fn data(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("data-{}", index + 1))
    }

    /// A node's API.
    pub(crate) fn api(&self, index: usize) -> SocketAddr {
        SocketAddr::new(self.subnet.host(u8::try_from(index + 1).unwrap()), API_PORT)
    }

    /// The command line on a node's API.
    pub(crate) fn cli(&self, index: usize) -> Cli {
        Cli::new(&format!("http://{}", self.api(index)))
    }

    /// One call of a node's API.
    pub(crate) fn call(&self, index: usize, method: &str, path: &str, body: &[u8]) -> Result<Answer, String> {
        http::call(self.api(index), method, path, body)
    }

    /// What `GET path` answers at a node.
    pub(crate) fn get(&self, index: usize, path: &str) -> Result<Value, String> {
        self.call(index, "GET", path, b"")?.good()
    }

    /// The members as node `index` sees them, those that do not belong to the group left out.
    pub(crate) fn members(&self, index: usize) -> Result<Vec<Value>, String> {
        let status = self.get(index, "/v1/cluster")?;
        let members = status["members"].as_array().ok_or("no members")?.iter();
        Ok(members.filter(|member| member["role"].is_string()).cloned().collect())
    }

    /// What a node knows of itself as a member that lives, if it is one.
    pub(crate) fn itself(&self, index: usize, seen_by: usize) -> Result<Value, String> {
        let members = self.members(seen_by)?;
        let name = &self.nodes[index].name;
        let found = members.iter().find(|member| member["name"] == **name && member["alive"] == true);
        found.cloned().ok_or_else(|| format!("{name} is none of {members:#?}"))
    }

    /// Waits until node 0 sees `count` live members, as many voters as are wanted, and a leader.
    pub(crate) fn wait_members(&self, count: usize) {
        wait_for(&format!("{count} members"), || {
            let wanted = self.get(0, "/v1/cluster/voters")?["voters"].as_u64().ok_or("no cluster yet")?;
            let members = self.members(0)?;
            let live = members.iter().filter(|member| member["alive"] == true);
            let voters = live.clone().filter(|member| member["role"] == "voter").count();
            self.leader(0)?;
            let all = live.count() == count && voters == count.min(usize::try_from(wanted).unwrap());
            if all { Ok(()) } else { Err(format!("{members:#?}")) }
        });
    }

    /// Index of the node that leads, as node `index` sees it.
    pub(crate) fn leader(&self, index: usize) -> Result<usize, String> {
        let status = self.get(index, "/v1/cluster")?;
        let name = status["leader_name"].as_str().ok_or_else(|| format!("no leader in {status}"))?;
        self.nodes.iter().position(|node| node.name == name).ok_or_else(|| format!("{name} is unknown"))
    }

    /// Waits until a node that has been started is a member in its own eyes and in those of `seen_by`; gives its record.
    pub(crate) fn joined(&self, index: usize, seen_by: usize, mark: Duration) -> Value {
        within(mark, format!("{} joins", self.nodes[index].name), || {
            self.itself(index, index)?;
            self.itself(index, seen_by)
        })
    }
}
