//! The key-value store from the command line: watches, transactions, leases, limits, and what a failover leaves of them.

use crate::cluster::{Cluster, Reach};
use crate::older::ask_newly;
use crate::process::{Cli, PATIENCE, stderr, wait_for};
use crate::single::Single;
use longshore_wire::client::{ClientKv, FromClient};
use longshore_wire::kv::{Consistency, Expect, KvReply, KvRequest, MAX_KEY};
use longshore_wire::{Code, Failure, RequestId, decode};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::process::Child;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

fn code(cli: &Cli, arguments: &[&str]) -> i32 {
    let output = cli.run(arguments);
    output.status.code().unwrap_or_else(|| panic!("{arguments:?} was killed: {}", stderr(&output)))
}

/// Which control node leads.
fn leader(cluster: &Cluster) -> usize {
    let status = cluster.cli(0).json(&["cluster", "status"]);
    cluster.controls.iter().position(|control| status["leader_name"] == *control.name).unwrap()
}

/// `kv watch` as it runs; its lines come one by one.
struct Watching {
    child: Child,
    lines: Receiver<String>,
}

impl Watching {
    /// Starts it, and waits until it stands.
    fn start(cli: &Cli, arguments: &[&str]) -> Self {
        let mut child = cli.spawn(&[&["kv", "watch"], arguments].concat());
        let (sender, lines) = sync_channel(1024);
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut first = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut first).unwrap();
        assert!(first.starts_with("watching behind revision"), "{first}");
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line of `kv watch`")
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn watches_transactions_leases_and_limits() {
    let single = Single::start();
    let cli = single.cli();
    let watching = Watching::start(&cli, &["w/"]);
    assert_eq!(code(&cli, &["kv", "put", "w/a", "one"]), 0);
    assert_eq!(code(&cli, &["kv", "put", "other", "x"]), 0);
    assert_eq!(code(&cli, &["kv", "delete", "w/a", "--revision", "1"]), 0);
    assert_eq!((watching.line(), watching.line()), ("1 put w/a one".to_owned(), "3 delete w/a".to_owned()));
    assert_eq!(code(&cli, &["kv", "delete", "other", "--revision", "1"]), 4);
    let past = cli.text(&["kv", "watch", "--from", "2", "--count", "2", "-o", "json"]);
    let past: Vec<Value> = past.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&past[0]["event"], &past[0]["value"], &past[1]["event"]),
        (&"put".into(), &"x".into(), &"delete".into())
    );

    assert_eq!(code(&cli, &["kv", "cas", "other", "y", "--expect", "no"]), 4);
    assert_eq!(code(&cli, &["kv", "cas", "other", "y", "--expect", "x"]), 0);
    let file = single.dir.path().join("txn.json");
    let wish =
        r#"{"if": [{"key": "other", "value": "y"}], "then": [{"delete": "other"}, {"put": "w/b", "value": "two"}]}"#;
    std::fs::write(&file, wish).unwrap();
    let txn = ["kv", "txn", file.to_str().unwrap()];
    assert_eq!(cli.json(&txn)["results"][0]["existed"], true);
    assert_eq!(watching.line(), "6 put w/b two");
    assert_eq!(code(&cli, &txn), 4);

    let lease = cli.text(&["kv", "lease", "grant", "1s"]);
    assert_eq!(code(&cli, &["kv", "put", "w/c", "held", "--lease", lease.trim()]), 0);
    assert_eq!(watching.line(), "7 put w/c held");
    assert_eq!(watching.line(), "8 delete w/c", "nobody kept the lease alive");
    assert_eq!(code(&cli, &["kv", "lease", "keep", lease.trim()]), 3);
    assert_eq!(cli.json(&["kv", "lease", "list"]), serde_json::json!([]));

    assert_eq!(cli.json(&["cluster", "quota", "3MiB"])["quota"], 3 << 20);
    assert_eq!(cli.json(&["cluster", "brake", "1"])["brake"], 1);
    let refused = (0..9).map(|_| cli.run(&["kv", "put", "k", "v"])).find(|output| !output.status.success());
    assert!(stderr(&refused.expect("nine writes in less than eight seconds")).contains("limited writes to 1 a second"));
    assert_eq!(cli.json(&["cluster", "brake", "off"])["brake"], Value::Null);
    assert!(cli.text(&["cluster", "quota", "default"]).contains("quota 1073741824 bytes"));
}

/// Writers and a watcher go on over the death of the leader: every write is done once, and seen once, in order.
#[test]
fn a_failover_repeats_no_write_and_hides_none() {
    const WRITES: usize = 40;
    let mut cluster = Cluster::prepare(0, Reach::All);
    cluster.start_controls();
    let leader = leader(&cluster);
    let (writer, observer) = (cluster.cli((leader + 1) % 3), cluster.cli((leader + 2) % 3));
    let lease = writer.text(&["kv", "lease", "grant", "1h"]);
    let watching = Watching::start(&observer, &["f/"]);
    for number in 0..WRITES {
        if number == WRITES / 2 {
            cluster.controls[leader].kill();
        }
        // Each needs the one before, so a write that was done twice, or not at all, would show.
        let swap = format!(
            r#"{{"if": [{{"key": "f/{number}", "absent": true}}], "then": [{{"put": "f/{number}", "value": "{number}"}}, {{"put": "f/n", "value": "{number}", "lease": {}}}]}}"#,
            lease.trim()
        );
        let file = cluster.dir.path().join("swap.json");
        std::fs::write(&file, swap).unwrap();
        let output = writer.run(&["kv", "txn", file.to_str().unwrap()]);
        assert!(output.status.success(), "write {number}: {}", stderr(&output));
    }
    let mut last = 0;
    for number in 0..WRITES {
        for key in [number.to_string(), "n".to_owned()] {
            let line = watching.line();
            let (revision, change) = line.split_once(' ').unwrap();
            assert_eq!(change, format!("put f/{key} {number}"));
            let revision: u64 = revision.parse().unwrap();
            assert!(last == 0 || revision == last + 1, "{line} behind {last}");
            last = revision;
        }
    }
    // The new leader measures the lease anew, and still ends it with its keys.
    assert_eq!(code(&writer, &["kv", "lease", "revoke", lease.trim()]), 0);
    wait_for("the end of the key", || match code(&observer, &["kv", "get", "f/n"]) {
        3 => Ok(()),
        other => Err(other.to_string()),
    });
    assert_eq!(watching.line(), format!("{} delete f/n", last + 1));
}

/// The leader that granted two leases dies: the one that is kept lives on, the other ends under the next leader, not early.
#[test]
fn leases_outlive_the_leader_that_granted_them() {
    const TTL: Duration = Duration::from_secs(4);
    let mut cluster = Cluster::prepare(0, Reach::All);
    cluster.start_controls();
    let leader = leader(&cluster);
    let (writer, observer) = (cluster.cli((leader + 1) % 3), cluster.cli((leader + 2) % 3));
    let watching = Watching::start(&observer, &["l/"]);
    let [kept, left] = ["kept", "left"].map(|key| {
        let lease = writer.text(&["kv", "lease", "grant", "4s"]);
        assert_eq!(code(&writer, &["kv", "put", &format!("l/{key}"), "held", "--lease", lease.trim()]), 0);
        lease.trim().to_owned()
    });
    let granted = Instant::now();
    cluster.controls[leader].kill();
    wait_for("the end of the lease that nobody keeps", || {
        // While there is no leader this fails, and nothing ends.
        let _ = writer.run(&["kv", "lease", "keep", &kept]);
        match code(&observer, &["kv", "get", "l/left", "--local"]) {
            3 => Ok(()),
            other => Err(other.to_string()),
        }
    });
    assert!(granted.elapsed() >= TTL, "it has ended after {:?}", granted.elapsed());
    assert_eq!(code(&writer, &["kv", "lease", "keep", &left]), 3);
    assert_eq!(code(&writer, &["kv", "lease", "keep", &kept]), 0);
    assert_eq!(code(&writer, &["kv", "get", "l/kept"]), 0);
    let seen = [(); 3].map(|()| watching.line().split_once(' ').unwrap().1.to_owned());
    assert_eq!(seen, ["put l/kept held", "put l/left held", "delete l/left"]);
}

#[test]
fn a_client_session_carries_the_store() {
    let single = Single::start();
    let ask = |id: Option<u128>, request: KvRequest| -> Result<KvReply, Failure> {
        let id = id.map(RequestId::from_u128);
        let reply = ask_newly(&single, &FromClient::Kv(ClientKv { id, repeat: false, request }))?;
        Ok(decode(&reply).unwrap())
    };
    let (key, value) = ("plain".to_owned(), b"1".to_vec());
    let put = || KvRequest::Put { key: key.clone(), value: value.clone() };
    let written = ask(Some(7), put()).unwrap();
    let KvReply::Written { revision, created: true } = written else { panic!("{written:?}") };
    assert_eq!(ask(Some(7), put()).unwrap(), written, "a repeat gets the first outcome");
    for consistency in [Consistency::Linearizable, Consistency::Local] {
        let read = ask(None, KvRequest::Get { key: key.clone(), consistency }).unwrap();
        let KvReply::Entry(Some(entry)) = read else { panic!("{read:?}") };
        assert_eq!((entry.value, entry.revision), (value.clone(), revision), "{consistency:?}");
        let empty = ask(None, KvRequest::Get { key: String::new(), consistency }).unwrap_err();
        assert_eq!(empty.code, Code::Invalid, "{consistency:?}: {empty}");
    }
    assert_eq!(single.cli().text(&["kv", "get", "plain"]).trim(), "1");
    let cas = KvRequest::Cas { key: key.clone(), value: value.clone(), expect: Expect::Absent };
    assert_eq!(ask(None, cas).unwrap_err().code, Code::Conflict);
    let long = KvRequest::Put { key: "k".repeat(MAX_KEY + 1), value: Vec::new() };
    assert_eq!(ask(None, long).unwrap_err().code, Code::TooLarge);
    assert_eq!(
        ask(None, KvRequest::Delete { key: key.clone() }).unwrap(),
        KvReply::Deleted { revision: revision + 1, existed: true }
    );
    for method in ["PUT", "DELETE"] {
        single.control.wait_log(&["audit: a change", method, "plain", "200"]);
    }
}
