//! Streams of changes: nobody is held up by a reader that does not read, and nobody misses anything.

use super::fleet::Fleet;
use super::http::Connection;
use super::{full, scaled, seconds, within};
use crate::events::Follower;
use crate::process::{BINARY, Cli, PATIENCE, wait_for};
use crate::single::TCP_PORT;
use crate::stranger::run;
use longshore_transport::{
    ClientTls, ClientTlsOptions, DialOptions, Identity, Keyring, Secret, Session, SessionOptions, dial, prove,
};
use longshore_wire::task::NodeState;
use longshore_wire::{Endpoint, NodeId, RequestId, Role, Transport, edge, encode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, sync_channel};

/// Readers at each node that read nothing.
const SILENT: usize = 8;
/// What a node may hold for all of them: some pieces of 256 events each, and what the allocator keeps.
const MORE_MEMORY: u64 = 64 * 1024 * 1024;

/// Bytes of memory that a process has.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Asks for the events with room for next to none of them, and never reads.
fn silent(fleet: &Fleet, index: usize) -> TcpStream {
    let kind = rustix::net::SocketType::STREAM;
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, kind, None).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4096).unwrap();
    rustix::net::connect(&socket, &fleet.api(index)).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    stream
}

/// So many workers attach to the first node, one after the other, and go again.
async fn come_and_go(fleet: &Fleet, workers: usize) {
    let address = SocketAddr::new(fleet.subnet.host(1), TCP_PORT);
    let (host, path) = (address.ip().to_string(), String::new());
    let endpoint = Endpoint { transport: Transport::Tcp, address, host, path, tls_verify: None };
    let options = DialOptions::new(ClientTls::new(ClientTlsOptions::default()).unwrap());
    let secret = std::fs::read_to_string(fleet.dir.path().join("made/worker.secret")).unwrap();
    let keyring = Keyring::new(Secret::from_bytes(secret.trim().as_bytes()).unwrap(), "worker".to_owned());
    let mut sessions = Vec::new();
    for number in 0..workers {
        let node = NodeId::from_u128(0x0001_0000 + number as u128);
        let me = Identity::new(node, Role::Worker, "test", "0");
        let link = dial(&endpoint, &options).await.unwrap();
        let proven = prove(link, &me, &keyring, Role::Control).await.unwrap();
        let (session, inbound) = Session::start(proven, SessionOptions::default());
        let attach = edge::Attach {
            name: format!("{number:0>120}"),
            boot: RequestId::from_u128(1),
            labels: Default::default(),
            release: String::new(),
            runtimes: Vec::new(),
            epoch: longshore_wire::Epoch(0),
            published: Vec::new(),
            report: edge::Report { state: NodeState::Ready, tasks: Vec::new(), archives: Vec::new() },
        };
        session.request(encode(&edge::ToControl::Attach(attach)), PATIENCE).await.unwrap();
        sessions.push((session, inbound));
    }
}

#[test]
fn a9_a_reader_that_does_not_read_stops_nobody() {
    let mut fleet = Fleet::start(3, "");
    let readers: Vec<TcpStream> = (0..3 * SILENT).map(|number| silent(&fleet, number % 3)).collect();
    let observer = Follower::start(&fleet.cli(0), &[]);
    wait_for("a snapshot", || observer.told().first().map(drop).ok_or_else(String::new));
    let before: Vec<u64> = fleet.nodes.iter().map(|node| resident(node.pid())).collect();

    // So many events that no socket's buffer holds them.
    let workers = scaled(300, 2000);
    run(come_and_go(&fleet, workers));
    wait_for("every worker to be told", || {
        let joined = observer.told().iter().filter(|it| it["event"] == "joined").count();
        if joined >= workers { Ok(()) } else { Err(format!("{joined} of {workers}")) }
    });
    for number in 0..4 {
        let joiner = fleet.add(&[0, 1, 2]);
        fleet.nodes[joiner].start(&[]);
        let joined = fleet.joined(joiner, 0, seconds(3));
        within(seconds(3), format!("join {} is told", number + 1), || {
            let told = observer.told();
            let found = told.iter().any(|it| it["event"] == "joined" && it["node"]["id"] == joined["id"]);
            if found { Ok(()) } else { Err(format!("{} events", told.len())) }
        });
    }
    for (node, before) in fleet.nodes.iter().zip(before) {
        let more = resident(node.pid()).saturating_sub(before);
        println!("{}: {} KiB more for {SILENT} readers that do not read", node.name, more / 1024);
        assert!(more < MORE_MEMORY, "{}: {more} bytes more", node.name);
    }
    if full() {
        for node in &fleet.nodes[..3] {
            within(seconds(60), format!("{} cuts them off", node.name), || {
                let log = node.log();
                let cut = log.lines().filter(|line| line.contains("takes nothing any more and is cut off")).count();
                if cut >= SILENT { Ok(()) } else { Err(format!("{cut} of {SILENT}")) }
            });
        }
    }
    drop(readers);
}

/// `kv watch` as it runs; what it prints comes line by line, however much that is.
struct Watcher {
    child: Child,
    lines: Receiver<Value>,
}

impl Watcher {
    fn start(fleet: &Fleet, index: usize) -> Self {
        let mut child = Command::new(BINARY)
            .args(["kv", "watch", "w/", "-o", "json", "--timeout", "2m", "--api"])
            .arg(format!("http://{}", fleet.api(index)))
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = sync_channel(1024);
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let parsed = stdout.lines().map_while(Result::ok).map(|line| serde_json::from_str(&line).unwrap());
            parsed.map(|line| sender.send(line)).take_while(Result::is_ok).for_each(drop);
        });
        let mut first = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut first).unwrap();
        assert!(first.starts_with("watching behind revision"), "{first}");
        Self { child, lines }
    }

    fn next(&self) -> Value {
        self.lines.recv_timeout(PATIENCE).expect("a line of `kv watch`")
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a change is, as the API tells it to whoever made it and to whoever watches.
type Told = (u64, Value, Option<Value>);

/// Writes over a few keys, and deletes every fifth time; gives what should be told of it.
fn write(api: &mut Connection, numbers: std::ops::Range<usize>) -> Vec<Told> {
    let change = |number: usize| {
        let (key, value) = (format!("w/{}", number / 5 % 50), format!("value {number}"));
        let deletes = number % 5 == 4;
        let method = if deletes { "DELETE" } else { "PUT" };
        let answer = api.call(method, &format!("/v1/kv/{key}"), &[], value.as_bytes());
        let answer = answer.and_then(super::http::Answer::good).unwrap_or_else(|why| panic!("change {number}: {why}"));
        let revision = answer["revision"].as_u64().unwrap_or_else(|| panic!("no revision in {answer}"));
        (revision, json!(key), (!deletes).then(|| json!(value)))
    };
    numbers.map(change).collect()
}

fn told(line: &Value) -> Told {
    let value = (line["event"] == "put").then(|| line["value"].clone());
    assert!(value.is_some() || line["event"] == "delete", "{line}");
    (line["revision"].as_u64().unwrap(), line["key"].clone(), value)
}

/// The keys as a listing has them.
fn listed(cli: &Cli) -> BTreeMap<String, Value> {
    let list = cli.json(&["kv", "list", "w/"]);
    let entries = list.as_array().unwrap_or_else(|| list["entries"].as_array().expect("entries"));
    entries.iter().map(|entry| (entry["key"].as_str().unwrap().to_owned(), entry["value"].clone())).collect()
}

fn apply(keys: &mut BTreeMap<String, Value>, changes: &[Told]) {
    for (_, key, value) in changes {
        let key = key.as_str().unwrap().to_owned();
        drop(match value {
            Some(value) => keys.insert(key, value.clone()),
            None => keys.remove(&key),
        });
    }
}

#[test]
fn a18_watchers_see_every_change_in_order_and_are_told_of_a_gap() {
    let mut fleet = Fleet::start(3, "");
    let watchers: Vec<Watcher> = (0..3).map(|index| Watcher::start(&fleet, index)).collect();
    let changes = scaled(500, 10_000);
    let made = write(&mut Connection::open(fleet.api(1)).unwrap(), 0..changes);
    for watcher in &watchers {
        let seen: Vec<Told> = made.iter().map(|_| told(&watcher.next())).collect();
        assert!(seen == made, "a change is missing, doubled or in another place");
    }

    // The cluster begins anew with a snapshot that holds more than the watchers have seen: every node but the first gets
    // it from the others.
    let unseen = {
        fleet.nodes[2].kill();
        fleet.nodes[1].kill();
        fleet.nodes[0].kill();
        fleet.nodes.iter_mut().take(2).for_each(|node| node.start(&[]));
        wait_for("a leader", || fleet.leader(0));
        write(&mut Connection::open(fleet.api(0)).unwrap(), changes..changes + 100)
    };
    let file = fleet.dir.path().join("saved.snap");
    fleet.cli(0).text(&["snapshot", "save", file.to_str().unwrap()]);
    for index in 0..3 {
        fleet.nodes[index].kill();
        std::fs::remove_dir_all(fleet.data(index)).unwrap();
    }
    let folder = fleet.data(0);
    let restore = ["snapshot", "restore", file.to_str().unwrap(), "--data", folder.to_str().unwrap()];
    assert!(Command::new(BINARY).args(restore).status().unwrap().success());
    fleet.nodes.iter_mut().for_each(|node| node.start(&[]));
    fleet.wait_members(3);
    let mut known = listed(&fleet.cli(0));
    let last = write(&mut Connection::open(fleet.api(2)).unwrap(), changes + 100..changes + 200);
    apply(&mut known, &last);
    assert_eq!(known, listed(&fleet.cli(1)));
    // Behind a gap, what comes next is the first change after it: nothing is missing that no gap tells of.
    let all: Vec<Told> = made.into_iter().chain(unseen).chain(last).collect();
    for (index, watcher) in watchers.iter().enumerate() {
        let mut next = changes;
        while next < all.len() {
            let line = watcher.next();
            if line["event"] == "gap" {
                let gap = line["revision"].as_u64().unwrap();
                next = all.iter().position(|(revision, ..)| *revision > gap).unwrap_or(all.len());
            } else {
                assert_eq!(told(&line), all[next], "watcher {index}");
                next += 1;
            }
        }
    }
}
