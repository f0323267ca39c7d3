//! One control node as a process, and peers that dial it.

use crate::cluster::{Subnet, WSS_PORT};
use crate::process::{BINARY, Cli, Process, wait_for};
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// One control node that listens on plain TCP and on WSS.
pub(crate) struct Single {
    // Before its folder, which holds the log that it shows when a test fails.
    pub(crate) control: Process,
    pub(crate) dir: TempDir,
    pub(crate) subnet: Subnet,
    /// More of its configuration.
    extra: String,
}

/// Who a peer says it is, and what it holds.
#[derive(Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) role: &'a str,
    pub(crate) credential: &'a str,
    pub(crate) secret: &'a Path,
    pub(crate) cluster: &'a str,
}

/// Port of its plain TCP listener.
pub(crate) const TCP_PORT: u16 = 8140;

impl Single {
    /// Starts it and waits for its API.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        Self::start_in(dir, &data, |_, _| String::new())
    }

    /// As [`Self::start`], with more lines of configuration, which may speak of its folder and its address.
    pub(crate) fn start_with(extra: impl FnOnce(&Path, IpAddr) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        Self::start_in(dir, &data, extra)
    }

    /// As [`Self::start`], with the data folder somewhere else.
    pub(crate) fn start_on(data: &Path) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), data, |_, _| String::new())
    }

    fn start_in(dir: TempDir, data: &Path, extra: impl FnOnce(&Path, IpAddr) -> String) -> Self {
        let subnet = Subnet::take();
        let init = Command::new(BINARY)
            .args(["init", "--cluster", "test", "--iterations", "4096"])
            .arg(dir.path().join("made"))
            .output()
            .unwrap();
        assert!(init.status.success());
        let control = Process::new("control-1", dir.path().join("control-1.toml"));
        let extra = extra(dir.path(), subnet.host(1));
        let mut single = Self { control, dir, subnet, extra };
        single.configure(data);
        single.control.start(&["--bootstrap"]);
        single.wait_api();
        single
    }

    /// Kills it, and starts it again on another data folder.
    pub(crate) fn restart_on(&mut self, data: &Path) {
        self.control.kill();
        self.configure(data);
        self.control.start(&[]);
        self.wait_api();
    }

    fn wait_api(&self) {
        wait_for("the control node", || self.cli().try_json(&["cluster", "status"]).map(drop));
    }

    fn configure(&self, data: &Path) {
        let ip = self.subnet.host(1);
        let config = format!(
            r#"[node]
name = "control-1"
roles = ["control"]
data_dir = "{data}"
[cluster]
name = "test"
discovery = ["longshore://{ip}:{WSS_PORT};transport=wss"]
[auth]
secret_file = "{made}/control.secret"
verifiers_file = "{made}/verifiers.json"
[[listen]]
uri = "longshore://{ip}:{TCP_PORT};transport=tcp"
[[listen]]
uri = "longshore://{ip}:{WSS_PORT};transport=wss"
[api]
listen = "{ip}:8138"
loopback = "open"
{extra}
"#,
            extra = self.extra,
            data = data.display(),
            made = self.dir.path().join("made").display(),
        );
        std::fs::write(self.dir.path().join("control-1.toml"), config).unwrap();
    }

    /// The command line on its API.
    pub(crate) fn cli(&self) -> Cli {
        Cli::new(&format!("http://{}:8138", self.subnet.host(1)))
    }

    /// The text of one of the secrets that `init` made.
    pub(crate) fn secret(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join("made").join(name)).unwrap().trim().to_owned()
    }

    /// Prepares a peer that dials `uri`.
    pub(crate) fn peer(&self, name: &str, claim: Claim<'_>, uri: &str) -> Process {
        let Claim { role, credential, secret, cluster } = claim;
        let listen = match role {
            "control" => format!("[[listen]]\nuri = \"longshore://{}:8143;transport=wss\"\n", self.subnet.host(9)),
            _ => String::new(),
        };
        let config = format!(
            r#"{listen}[node]
name = "{name}"
roles = ["{role}"]
data_dir = "{data}"
[cluster]
name = "{cluster}"
discovery = ["{uri}"]
[auth]
secret_file = "{secret}"
credential = "{credential}"
[api]
listen = "{api}:8138"
loopback = "open"
"#,
            data = self.dir.path().join(name).display(),
            secret = secret.display(),
            api = self.subnet.host(9),
        );
        let file = self.dir.path().join(format!("{name}.toml"));
        std::fs::write(&file, config).unwrap();
        Process::new(name, file)
    }

    /// Its WSS listener.
    pub(crate) fn wss(&self) -> String {
        format!("longshore://{}:{WSS_PORT};transport=wss", self.subnet.host(1))
    }

    /// Whether a node of that name is registered.
    pub(crate) fn known(&self, name: &str) -> bool {
        let nodes = self.cli().json(&["node", "list"]);
        nodes.as_array().expect("a list").iter().any(|node| node["name"] == name)
    }
}
