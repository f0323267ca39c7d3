//! Starts control nodes and speaks HTTP with them.

use longshore_control::{ApiGuard, ApiListen, Bootstrap, ControlNode, Disk, Listen, Loopback, Options, Timers};
use longshore_transport::{Admission, ClientTls, ClientTlsOptions, DialOptions, ListenOptions, Secret, make_verifier};
use longshore_wire::credential::MIN_ITERATIONS;
use longshore_wire::{ClusterUri, Role, Transport};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::Instant;

pub(crate) const CONTROL: &str = "the control nodes' common secret";
pub(crate) const WORKER: &str = "the workers' common secret";
const WAIT: Duration = Duration::from_secs(30);

pub(crate) struct Node {
    pub(crate) control: ControlNode,
    pub(crate) uri: ClusterUri,
    pub(crate) folder: TempDir,
}

pub(crate) fn dial() -> DialOptions {
    DialOptions::new(ClientTls::new(ClientTlsOptions::default()).unwrap())
}

/// Starts a node; without `others` it founds the cluster.
pub(crate) async fn start(name: &str, others: &[ClusterUri]) -> Node {
    start_with(name, others, Role::Control.name(), CONTROL).await
}

/// Starts a node that has a credential of its own.
pub(crate) async fn start_with(name: &str, others: &[ClusterUri], credential: &str, text: &str) -> Node {
    start_full(name, others, (credential, text), 1000).await
}

/// Starts a node that has room for so many sessions of workers and clients.
pub(crate) async fn start_full(name: &str, others: &[ClusterUri], own: (&str, &str), sessions: usize) -> Node {
    let folder = tempfile::tempdir().unwrap();
    let control = start_in(folder.path(), name, others, own, sessions).await;
    let (transport, address) = control.listen_addresses()[0];
    let uri = format!("longshore://{address};transport={transport}").parse().unwrap();
    Node { control, uri, folder }
}

async fn start_in(folder: &Path, name: &str, others: &[ClusterUri], own: (&str, &str), sessions: usize) -> ControlNode {
    let secret = |text: &str| Secret::from_bytes(text.as_bytes()).unwrap();
    let verifier = |text, role: Role| make_verifier(&secret(text), role.name(), role, MIN_ITERATIONS);
    let verifiers =
        vec![verifier(CONTROL, Role::Control), verifier(WORKER, Role::Worker), verifier(WORKER, Role::Client)];
    let listen = ListenOptions {
        transport: Transport::Tcp,
        bind: "127.0.0.1:0".parse().unwrap(),
        path: "/longshore".to_owned(),
        tls: None,
        admission: Admission::default(),
    };
    let options = Options {
        node_name: name.to_owned(),
        data_dir: folder.join("data"),
        disk_low: 0,
        cluster: "test".to_owned(),
        bootstrap: others.is_empty().then_some(Bootstrap { verifiers, voters: 3 }),
        discovery: others.to_vec(),
        resolver: longshore_discovery::ResolverOptions::default(),
        secret: secret(own.1),
        credential: own.0.to_owned(),
        listen: vec![Listen { options: listen, advertise: None }],
        dial: dial(),
        api: vec![ApiListen::Unix(folder.join("api.sock"))],
        api_guard: ApiGuard { tls: None, loopback: Loopback::Token },
        max_sessions: sessions,
        timers: Timers::default(),
        release: "test".to_owned(),
        storage: Disk::Durable,
        snapshots: None,
    };
    ControlNode::start(options).await.unwrap()
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}\n{:?}", self.head, self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Node {
    /// One HTTP request over the Unix socket. `head` = further header lines.
    pub(crate) async fn ask(&self, line: &str, head: &str, body: &[u8]) -> Answer {
        let mut stream = UnixStream::connect(self.folder.path().join("api.sock")).await.unwrap();
        let length = body.len();
        let request =
            format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{head}\r\n");
        let sent = async {
            stream.write_all(request.as_bytes()).await?;
            stream.write_all(body).await
        };
        // A server that refuses early need not read the rest.
        let _ = sent.await;
        let mut answer = Vec::new();
        tokio::time::timeout(WAIT, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let body = answer.split_off(end + 4);
        let head = String::from_utf8(answer).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.ask(&format!("GET {path}"), "", b"").await.json()
    }

    /// Asks until the answer is as it should be.
    pub(crate) async fn until(&self, path: &str, good: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let answer = self.get(path).await;
            if good(&answer) {
                return answer;
            }
            assert!(start.elapsed() < WAIT, "{path} stays {answer:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn stop(self) {
        self.control.stop(Duration::from_secs(5)).await;
    }
}
