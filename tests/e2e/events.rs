//! The stream of membership events: every control node tells the same, and nothing twice.

use crate::cluster::{Cluster, Reach};
use crate::process::{Cli, wait_for};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A `longshore cluster events` that runs.
pub(crate) struct Follower {
    child: Child,
    told: Arc<Mutex<Vec<Value>>>,
    reader: Option<JoinHandle<()>>,
}

impl Follower {
    pub(crate) fn start(cli: &Cli, more: &[&str]) -> Self {
        let mut child = cli.spawn(&[&["cluster", "events", "-o", "json"], more].concat());
        let (stdout, told) = (child.stdout.take().unwrap(), Arc::<Mutex<Vec<Value>>>::default());
        let told_here = Arc::clone(&told);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                told_here.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, told, reader: Some(reader) }
    }

    pub(crate) fn told(&self) -> Vec<Value> {
        self.told.lock().unwrap().clone()
    }

    /// Waits for an event about a node.
    fn wait(&self, event: &str, node: &str, fits: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("'{event}' of {node}"), || {
            let told = self.told();
            let found = told.iter().find(|it| it["event"] == event && it["node"]["name"] == node && fits(it));
            found.cloned().ok_or_else(|| format!("{told:#?}"))
        })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}

/// The nodes as somebody knows them who has read these events: short id → generation and state.
fn replay(told: &[Value]) -> BTreeMap<u64, (u64, String)> {
    let mut nodes = BTreeMap::new();
    for event in told {
        let key = |node: &Value| (node["short_id"].as_u64().unwrap(), node["generation"].as_u64().unwrap());
        let state = |node: &Value| node["state"].as_str().unwrap().to_owned();
        let node = &event["node"];
        match event["event"].as_str().unwrap() {
            "snapshot" => {
                let all = event["nodes"].as_array().unwrap();
                nodes = all.iter().map(|node| (key(node).0, (key(node).1, state(node)))).collect();
            }
            "joined" => {
                let former = nodes.insert(key(node).0, (key(node).1, state(node)));
                assert!(former.is_none(), "joined twice: {event}");
            }
            "left" => {
                let former = nodes.remove(&key(node).0);
                assert_eq!(former.map(|it| it.0), Some(key(node).1), "left without having joined: {event}");
            }
            "state" => drop(nodes.insert(key(node).0, (key(node).1, state(node)))),
            "owner" => assert!(nodes.contains_key(&key(node).0), "{event}"),
            _ => (),
        }
    }
    nodes
}

fn changes(told: &[Value]) -> Vec<Value> {
    told.iter().filter(|it| !["snapshot", "resumed"].contains(&it["event"].as_str().unwrap())).cloned().collect()
}

fn as_status_says(cli: &Cli) -> BTreeMap<u64, (u64, String)> {
    let nodes = cli.json(&["node", "list"]);
    let number = |node: &Value, name: &str| node[name].as_u64().unwrap();
    let state = |node: &Value| node["state"].as_str().unwrap().to_owned();
    let nodes = nodes.as_array().unwrap().iter();
    nodes.map(|node| (number(node, "short_id"), (number(node, "generation"), state(node)))).collect()
}

#[test]
fn a7_every_control_node_tells_the_same_events_once() {
    let mut cluster = Cluster::prepare(2, Reach::All);
    cluster.start_controls();
    let early: Vec<Follower> = (0..3).map(|index| Follower::start(&cluster.cli(index), &[])).collect();
    early.iter().for_each(|it| wait_for("a snapshot", || it.told().first().map(drop).ok_or_else(String::new)));
    for worker in &mut cluster.workers {
        worker.start(&[]);
    }
    cluster.wait_driven();
    wait_for("every member to tell how it stands", || {
        let status = cluster.cli(0).try_json(&["cluster", "status"])?;
        let told = |member: &&Value| member["lag"].is_u64() && member["disk_free"].as_u64() > Some(0);
        let count = status["members"].as_array().map_or(0, |members| members.iter().filter(told).count());
        if count == 3 { Ok(()) } else { Err(status.to_string()) }
    });
    let late = Follower::start(&cluster.cli(1), &[]);
    cluster.workers[0].kill();
    early[0].wait("state", "worker-1", |it| it["node"]["state"] == "not_connected");
    cluster.workers[0].start(&[]);
    early[0].wait("joined", "worker-1", |it| it["node"]["generation"] == 2);
    cluster.wait_driven();

    // Whoever leads ends; the two others tell the same of it.
    let leader = cluster.leader_seen_by(0).unwrap();
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let dead = cluster.controls[leader].name.clone();
    cluster.controls[leader].kill();
    let down = early[one].wait("state", &dead, |it| it["node"]["state"] == "not_connected");
    assert_eq!(down, early[other].wait("state", &dead, |it| it["node"]["state"] == "not_connected"));
    cluster.wait_driven_by_others(one, &dead);
    wait_for("both to have told the same, and all of it", || {
        let (mine, theirs) = (changes(&early[one].told()), changes(&early[other].told()));
        let known = as_status_says(&cluster.cli(one));
        // Each began with a snapshot of its own moment: what both tell is what came after the later one.
        let from = mine.iter().position(|it| Some(it) == theirs.first()).unwrap_or(0);
        let skip = theirs.iter().position(|it| Some(it) == mine.get(from)).unwrap_or(0);
        let same = mine[from..] == theirs[skip..] && replay(&early[one].told()) == known;
        if same { Ok(()) } else { Err(format!("{mine:#?}\n{theirs:#?}\n{known:#?}")) }
    });
    assert!(early[one].told().iter().any(|it| it["event"] == "leader"), "{:#?}", early[one].told());
    if leader != 1 {
        wait_for("the late one to know the same", || {
            let told = replay(&late.told());
            if told == as_status_says(&cluster.cli(one)) { Ok(()) } else { Err(format!("{told:#?}")) }
        });
    }

    // Another node goes on where the first one was left.
    let told = changes(&early[one].told());
    let (seen, rest) = told.split_at(told.len() / 2);
    let after = seen.last().unwrap()["id"].as_str().unwrap();
    let resumed = Follower::start(&cluster.cli(other), &["--after", after, "--no-follow"]);
    wait_for("the rest", || {
        let told = resumed.told();
        if changes(&told).starts_with(rest) { Ok(()) } else { Err(format!("{told:#?}")) }
    });
    assert_eq!(resumed.told()[0]["event"], "resumed");
    let fresh = Follower::start(&cluster.cli(other), &["--after", "999999999.1", "--no-follow"]);
    let first = wait_for("a snapshot", || fresh.told().first().cloned().ok_or_else(String::new));
    assert!(first["reason"].as_str().unwrap().contains("another cluster"), "{first}");
}

/// Writes entries into the log, one after the other.
fn fill_log(api: IpAddr, entries: usize) {
    let mut stream = BufReader::new(TcpStream::connect((api, 8138)).unwrap());
    for number in 0..entries {
        let text = format!("PUT /v1/kv/fill HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n{number:04}");
        stream.get_mut().write_all(text.as_bytes()).unwrap();
        let (mut line, mut length) = (String::new(), 0);
        stream.read_line(&mut line).unwrap();
        assert!(line.contains(" 200 ") || line.contains(" 201 "), "{line}");
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        stream.read_exact(&mut vec![0; length]).unwrap();
    }
}

#[test]
fn a8_a_short_id_that_is_used_again_never_takes_the_newcomer_away() {
    let mut cluster = Cluster::prepare(1, Reach::All);
    cluster.start_controls();
    let follower = Follower::start(&cluster.cli(1), &[]);
    cluster.workers[0].start(&[]);
    cluster.wait_driven();
    cluster.workers[0].kill();
    follower.wait("state", "worker-1", |it| it["node"]["state"] == "not_connected");
    cluster.cli(0).text(&["node", "remove", "worker-1"]);
    let left = follower.wait("left", "worker-1", |it| it["reason"] == "removed");
    // The short id rests for a thousand entries.
    fill_log(cluster.subnet.host(1), 1_100);
    let mut newcomer = cluster.worker("worker-9", "worker.secret", "");
    newcomer.start(&[]);
    let joined = follower.wait("joined", "worker-9", |_| true);
    assert_eq!(joined["node"]["short_id"], left["node"]["short_id"]);
    wait_for("what was told to be what is", || {
        let (told, known) = (replay(&follower.told()), as_status_says(&cluster.cli(1)));
        if told == known { Ok(()) } else { Err(format!("{told:#?} {known:#?}")) }
    });
}
