//! From optional keys to the effective configuration: defaults, what must be there, and what must fit together.

use crate::config::{Api, Auth, Cluster, Control, Dns, Limits, Node, Snapshots, Timers, Tls, Worker};
use crate::file::{
    AuthFile, ClusterFile, ControlFile, DnsFile, File, LimitsFile, NodeFile, ProxyFile, SnapshotsFile, TimersFile,
    TlsFile, WorkerFile,
};
use crate::proxy::Variables;
use crate::values::Span;
use crate::{Config, ConfigError, Listen, NoProxy, Proxy, ProxySource};
use longshore_wire::Role;
use longshore_wire::uri::TlsVerify;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where data is kept unless the file says otherwise.
const DATA_DIR: &str = "/var/lib/longshore";
/// More voters only make each write wait for more disks; etcd and Consul advise the same bound.
const MAX_VOTERS: u32 = 9;

/// Fills in, and checks.
pub(crate) fn resolve(path: &Path, file: File, variables: &Variables) -> Result<Config, ConfigError> {
    let check = Check { path };
    let node = check.node(file.node)?;
    let listen = check.listen(file.listen, &node)?;
    let socket = file.api.socket.unwrap_or_else(|| node.data_dir.join("api.sock"));
    let listen_api = file.api.listen.map_or_else(|| vec![([127, 0, 0, 1], 8138).into()], |list| list.0);
    Ok(Config {
        cluster: check.cluster(file.cluster, &listen)?,
        auth: check.auth(file.auth, &node)?,
        tls: check.tls(file.tls)?,
        proxy: proxy(file.proxy, &node, variables)?,
        api: Api {
            listen: listen_api,
            socket,
            loopback: file.api.loopback.unwrap_or_default(),
            tls: file.api.tls.unwrap_or_default(),
        },
        dns: dns(file.dns),
        control: check.control(&file.control)?,
        worker: check.worker(file.worker)?,
        limits: check.limits(&file.limits)?,
        snapshots: check.snapshots(file.snapshots)?,
        timers: check.timers(file.timers)?,
        node,
        listen,
    })
}

struct Check<'a> {
    path: &'a Path,
}

impl Check<'_> {
    fn missing(&self, key: &'static str, why: &'static str, example: &'static str) -> ConfigError {
        ConfigError::Missing { path: self.path.to_owned(), key, why, example }
    }

    fn conflict(&self, key: &'static str, message: impl Into<String>) -> ConfigError {
        ConfigError::Conflict { path: self.path.to_owned(), key, message: message.into() }
    }

    fn name(&self, key: &'static str, name: String) -> Result<String, ConfigError> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if (1..=64).contains(&name.len()) && name.bytes().all(fine) {
            return Ok(name);
        }
        Err(self.conflict(key, format!("'{name}' is not 1 to 64 of letters, digits, - _ .")))
    }

    fn node(&self, file: NodeFile) -> Result<Node, ConfigError> {
        let example = "[node]\nroles = [\"worker\"]    # or [\"control\"], or both";
        let mut roles = file.roles.ok_or_else(|| self.missing("node.roles", "what this node does", example))?.0;
        roles.sort();
        roles.dedup();
        if roles.is_empty() || roles.contains(&Role::Client) {
            return Err(self.conflict("node.roles", "a node is control, worker or both: roles = [\"worker\"]"));
        }
        Ok(Node {
            name: self.name("node.name", file.name.unwrap_or_else(host_name))?,
            roles,
            data_dir: file.data_dir.unwrap_or_else(|| PathBuf::from(DATA_DIR)),
            labels: file.labels.unwrap_or_default(),
        })
    }

    fn cluster(&self, file: ClusterFile, listen: &[Listen]) -> Result<Cluster, ConfigError> {
        let example = "[cluster]\nname = \"prod\"";
        let name = file
            .name
            .ok_or_else(|| self.missing("cluster.name", "nodes of different clusters refuse each other", example))?;
        let discovery = file.discovery.map(|list| list.0).unwrap_or_default();
        // A worker that listens can be dialled instead.
        if discovery.is_empty() && listen.is_empty() {
            let example = "[cluster]\ndiscovery = [\"longshore://cluster.example.com\"]";
            return Err(self.missing(
                "cluster.discovery",
                "a worker must know where control nodes are, or have a [[listen]] where they can dial it",
                example,
            ));
        }
        Ok(Cluster { name: self.name("cluster.name", name)?, discovery })
    }

    fn auth(&self, file: AuthFile, node: &Node) -> Result<Auth, ConfigError> {
        let example = "[auth]\nsecret_file = \"/etc/longshore/worker.secret\"    # `longshore init` makes one";
        let secret_file = file
            .secret_file
            .ok_or_else(|| self.missing("auth.secret_file", "without a secret no node is let in", example))?;
        let both = node.roles.len() > 1;
        if both && file.worker_secret_file.is_none() {
            let example = "[auth]\nworker_secret_file = \"/etc/longshore/worker.secret\"";
            return Err(self.missing(
                "auth.worker_secret_file",
                "a node with both roles has a secret for each",
                example,
            ));
        }
        let main = if node.roles.contains(&Role::Control) { Role::Control } else { Role::Worker };
        let credential = self.name("auth.credential", file.credential.unwrap_or_else(|| main.name().to_owned()))?;
        let of_worker = if both { Role::Worker.name().to_owned() } else { credential.clone() };
        let of_worker = file.worker_credential.unwrap_or(of_worker);
        Ok(Auth {
            secret_file,
            credential,
            worker_secret_file: file.worker_secret_file,
            worker_credential: self.name("auth.worker_credential", of_worker)?,
            verifiers_file: file.verifiers_file,
        })
    }

    fn listen(&self, listen: Option<Vec<Listen>>, node: &Node) -> Result<Vec<Listen>, ConfigError> {
        let control = node.roles.contains(&Role::Control);
        let listen = listen.unwrap_or_else(|| if control { vec![Listen::standard()] } else { Vec::new() });
        if listen.is_empty() && control {
            let example = "[[listen]]\nuri = \"longshore://0.0.0.0:8139;transport=tls\"";
            return Err(self.missing("listen.uri", "a control node must accept sessions", example));
        }
        for (number, one) in listen.iter().enumerate() {
            if listen.iter().take(number).any(|other| other.bind == one.bind) {
                return Err(self.conflict("listen.uri", format!("two listeners bind to {}", one.bind)));
            }
        }
        Ok(listen.into_iter().map(|one| one.with_default_advertise(&node.name)).collect())
    }

    fn tls(&self, file: TlsFile) -> Result<Tls, ConfigError> {
        let verify = file.verify.unwrap_or_default();
        match (&file.cert_file, &file.key_file) {
            (Some(_), None) => {
                return Err(self.missing("tls.key_file", "cert_file has a key", "key_file = \"tls.key\""));
            }
            (None, Some(_)) => {
                return Err(self.missing("tls.cert_file", "key_file has a certificate", "cert_file = \"tls.crt\""));
            }
            _ => {}
        }
        if verify == TlsVerify::Ca && file.ca_file.is_none() {
            return Err(self.missing("tls.ca_file", "verify = \"ca\" needs the roots", "ca_file = \"ca.pem\""));
        }
        if verify == TlsVerify::Pin && file.pin_file.is_none() {
            return Err(self.missing(
                "tls.pin_file",
                "verify = \"pin\" needs the certificate",
                "pin_file = \"peer.pem\"",
            ));
        }
        let TlsFile { cert_file, key_file, ca_file, pin_file, .. } = file;
        Ok(Tls { cert_file, key_file, ca_file, pin_file, verify })
    }

    fn control(&self, file: &ControlFile) -> Result<Control, ConfigError> {
        let voters = file.voters.unwrap_or(3);
        if voters % 2 == 1 && voters <= MAX_VOTERS {
            return Ok(Control { voters, on_stop: file.on_stop.unwrap_or_default() });
        }
        let why =
            format!("{voters} is not an odd number from 1 to {MAX_VOTERS}; an even one tolerates no more failures");
        Err(self.conflict("control.voters", why))
    }

    fn worker(&self, file: WorkerFile) -> Result<Worker, ConfigError> {
        let runtimes = file.runtimes.map_or_else(|| vec!["exec".to_owned()], |list| list.0);
        let runtimes =
            runtimes.into_iter().map(|runtime| self.name("worker.runtimes", runtime)).collect::<Result<_, _>>()?;
        Ok(Worker { runtimes, on_stop: file.on_stop.unwrap_or_default() })
    }

    fn limits(&self, file: &LimitsFile) -> Result<Limits, ConfigError> {
        let positive = |key, given: Option<u32>, default| match given {
            Some(0) => Err(self.conflict(key, "0 would let nobody in")),
            given => Ok(given.unwrap_or(default)),
        };
        Ok(Limits {
            pending: positive("limits.pending", file.pending, 16_384)?,
            pending_per_address: positive("limits.pending_per_address", file.pending_per_address, 64)?,
            sessions: positive("limits.sessions", file.sessions, 50_000)?,
            disk_low_mib: file.disk_low_mib.unwrap_or(64),
        })
    }

    fn snapshots(&self, file: SnapshotsFile) -> Result<Snapshots, ConfigError> {
        let every = file.every.map_or(Duration::from_secs(3600), |span| span.0);
        match (file.keep.unwrap_or(24), every.is_zero()) {
            (0, _) => {
                Err(self.conflict("snapshots.keep", "0 would keep none; leave out snapshots.folder to save none"))
            }
            (_, true) => Err(self.conflict("snapshots.every", "it must be longer than nothing")),
            (keep, _) => Ok(Snapshots { folder: file.folder, every, keep }),
        }
    }

    fn timers(&self, file: TimersFile) -> Result<Timers, ConfigError> {
        let or = |span: Option<Span>, millis| span.map_or(Duration::from_millis(millis), |span| span.0);
        let timers = Timers {
            ping_every: or(file.ping_every, 5000),
            ping_deadline: or(file.ping_deadline, 3750),
            session_lost_after: or(file.session_lost_after, 10_000),
            connect_timeout: or(file.connect_timeout, 5000),
            reconnect_min: or(file.reconnect_min, 200),
            reconnect_max: or(file.reconnect_max, 10_000),
            heartbeat: or(file.heartbeat, 100),
            election_min: or(file.election_min, 200),
            election_max: or(file.election_max, 500),
            voter_grace: or(file.voter_grace, 10_000),
        };
        self.timers_fit(&timers)?;
        Ok(timers)
    }

    fn timers_fit(&self, timers: &Timers) -> Result<(), ConfigError> {
        let rules = [
            (
                "timers.ping_deadline",
                timers.ping_deadline < timers.session_lost_after,
                "must be less than session_lost_after",
            ),
            (
                "timers.ping_every",
                timers.ping_every < timers.session_lost_after,
                "must be less than session_lost_after",
            ),
            ("timers.reconnect_min", timers.reconnect_min <= timers.reconnect_max, "must not exceed reconnect_max"),
            ("timers.heartbeat", timers.heartbeat * 2 <= timers.election_min, "must be at most half of election_min"),
            ("timers.election_min", timers.election_min < timers.election_max, "must be less than election_max"),
        ];
        rules.into_iter().try_for_each(|(key, fits, why)| if fits { Ok(()) } else { Err(self.conflict(key, why)) })
    }
}

/// The proxy of the file; else, for a worker, the environment's. Each key of the file goes before its variable.
fn proxy(file: ProxyFile, node: &Node, variables: &Variables) -> Result<Option<Proxy>, ConfigError> {
    let named = file.no_proxy.map(|list| NoProxy::new(list.0));
    if !node.roles.contains(&Role::Worker) {
        let no_proxy = named.unwrap_or_default();
        return Ok(file.url.map(|url| Proxy { url, no_proxy, source: ProxySource::Configuration }));
    }
    let (url, source) = match file.url {
        Some(url) => (Some(url), ProxySource::Configuration),
        None => (variables.url()?, ProxySource::Environment),
    };
    Ok(url.map(|url| Proxy { url, no_proxy: named.unwrap_or_else(|| variables.exceptions()), source }))
}

fn dns(file: DnsFile) -> Dns {
    Dns {
        nameservers: file
            .nameservers
            .map(|list| list.0.into_iter().map(|server| server.0).collect())
            .unwrap_or_default(),
        timeout: file.timeout.map_or(Duration::from_secs(3), |span| span.0),
    }
}

/// The host's name; where the host has none that fits, a name that says so.
fn host_name() -> String {
    rustix::system::uname().nodename().to_str().ok().filter(|name| !name.is_empty()).unwrap_or("localhost").to_owned()
}
