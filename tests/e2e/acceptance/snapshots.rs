//! A new node takes over what it cannot get as log entries any more.

use super::fleet::Fleet;
use super::http::Connection;
use super::{full, scaled, seconds, within};
use crate::process::{BINARY, wait_for};
use serde_json::{Value, json};
use std::process::Command;

/// Keys of one transaction.
const AT_ONCE: usize = 100;
/// Bytes of a value.
const VALUE: usize = 100;

fn metric(fleet: &Fleet, index: usize, name: &str) -> Result<u64, String> {
    let metrics = fleet.call(index, "GET", "/metrics", b"")?;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
    value.map(|value| value as u64).ok_or_else(|| format!("no {name} in {text}"))
}

/// All keys and values as the node itself has them: pages of the listing, one after the other.
fn everything(fleet: &Fleet, index: usize) -> Result<Vec<u8>, String> {
    let (mut bytes, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/kv?prefix=keys/&limit=1000&consistency=local{after}");
        let page = fleet.get(index, &path)?;
        bytes.extend(page["entries"].to_string().into_bytes());
        match page["entries"].as_array().and_then(|entries| entries.last()) {
            Some(last) if page["more"] == true => after = format!("&after={}", last["key"].as_str().unwrap()),
            _ => return Ok(bytes),
        }
    }
}

#[test]
fn a19_a_new_node_catches_up_by_a_snapshot() {
    let mut fleet = Fleet::start(1, "");
    let mut api = Connection::open(fleet.api(0)).unwrap();
    let keys = scaled(5_000, 100_000);
    for first in (0..keys).step_by(AT_ONCE) {
        let put = |number: usize| json!({"put": format!("keys/{number:06}"), "value": format!("{number:0>VALUE$}")});
        let puts: Vec<Value> = (first..first + AT_ONCE).map(put).collect();
        let txn = json!({"if": [], "then": puts}).to_string();
        let answer = api.call("POST", "/v1/kv/txn", &["content-type: application/json"], txn.as_bytes()).unwrap();
        assert_eq!(answer.good().unwrap()["succeeded"], true);
    }
    if full() {
        // So many entries that the log is cut off behind a snapshot, by itself.
        let mut entries = 0;
        // Without a snapshot there is no such figure yet.
        while metric(&fleet, 0, "longshore_raft_snapshot_index").unwrap_or(0) < 20_000 {
            for _ in 0..1_000 {
                api.call("PUT", "/v1/kv/fill", &[], b"x").unwrap().good().unwrap();
            }
            entries += 1_000;
            assert!(entries < 60_000, "no snapshot after {entries} entries");
        }
    } else {
        // A group that begins anew has no log from before its snapshot.
        let (file, folder) = (fleet.dir.path().join("saved.snap"), fleet.data(0));
        fleet.cli(0).text(&["snapshot", "save", file.to_str().unwrap()]);
        fleet.nodes[0].kill();
        std::fs::remove_dir_all(&folder).unwrap();
        let restore = ["snapshot", "restore", file.to_str().unwrap(), "--data", folder.to_str().unwrap()];
        assert!(Command::new(BINARY).args(restore).output().unwrap().status.success());
        fleet.nodes[0].start(&[]);
        wait_for("a leader", || fleet.leader(0));
    }
    let wanted = everything(&fleet, 0).unwrap();
    assert!(wanted.len() > keys * VALUE);
    let newcomer = fleet.add(&[0]);
    fleet.nodes[newcomer].start(&[]);
    within(seconds(30), format!("a new node has {keys} keys"), || {
        let (members, own) = (fleet.itself(newcomer, 0), everything(&fleet, newcomer)?);
        if members.is_ok() && own == wanted { Ok(()) } else { Err(format!("{} bytes, {members:?}", own.len())) }
    });
    let index = metric(&fleet, newcomer, "longshore_raft_snapshot_index").unwrap();
    assert!(index > 0, "it came as a snapshot");
}
