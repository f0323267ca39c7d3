//! The main job: six processes, found through DNS, driven over WSS; a counter that must add up while the leader dies.

use crate::cluster::{Cluster, Reach};
use crate::process::{PATIENCE, listening, wait_for};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The counter's shared key as operators see it.
const KEY: &str = "apps/counter/counter";

#[test]
fn three_workers_count_exactly() {
    let cluster = Cluster::start(3, Reach::All);
    for worker in &cluster.workers {
        assert_eq!(listening(worker.pid()), Vec::<String>::new(), "{} must not listen", worker.name);
    }
    let workers = cluster.wait_spread(3);
    assert!(workers.iter().all(|node| node["transport"] == "wss"), "{workers:#?}");
    let short_ids: BTreeSet<u64> = workers.iter().filter_map(|node| node["short_id"].as_u64()).collect();
    assert_eq!(short_ids.len(), 3, "short ids are unique: {workers:#?}");

    cluster.run_app("counter", &["--arg", "increments=50"]);
    assert_eq!(wait_count(&cluster, 0, 150), 150);
    wait_ended(&cluster, 0);
    for node in ["worker-1", "worker-2", "worker-3"] {
        let tasks = cluster.cli(1).json(&["task", "list", "--node", node]);
        let task = tasks[0]["task"].as_str().expect("a task").to_owned();
        let logs = cluster.cli(2).text(&["task", "logs", &task]);
        assert!(logs.contains("done 50"), "{node}'s log through another control node: {logs}");
    }
}

#[test]
fn a_worker_is_redirected_to_its_owner() {
    let cluster = Cluster::start(3, Reach::FirstFound);
    let workers = cluster.wait_spread(3);
    assert!(workers.iter().all(|node| node["transport"] == "wss"), "nobody needs a tunnel: {workers:#?}");
    let redirected = cluster.workers.iter().filter(|worker| worker.log().contains("redirected to the owner")).count();
    assert!(redirected >= 2, "the workers of the two nodes that DNS does not name came by redirect, not {redirected}");
}

#[test]
fn the_leader_is_killed_while_workers_count() {
    let mut cluster = Cluster::start(3, Reach::All);
    cluster.run_app("counter", &["--arg", "increments=400"]);
    wait_for("the counting to begin", || match count(&cluster, 0) {
        Ok(value) if value >= 100 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let leader = wait_for("a leader", || cluster.leader_seen_by(0));
    let witness = (leader + 1) % 3;
    let before = status_of(&cluster, leader);
    let acknowledged = count(&cluster, witness).unwrap();
    cluster.controls[leader].kill();
    let cut = Instant::now();

    let write_gap = wait_write(&cluster, witness, cut);
    let dead = before["id"].as_str().expect("an id");
    cluster.wait_driven_by_others(witness, dead);
    let driven = cut.elapsed();
    assert!(count(&cluster, witness).unwrap() >= acknowledged, "an acknowledged increment is lost");
    println!("leader killed: {write_gap:?} without writes; every worker driven again after {driven:?}");

    assert_eq!(wait_count(&cluster, witness, 1200), 1200);
    wait_ended(&cluster, witness);

    cluster.controls[leader].start(&[]);
    cluster.wait_voters();
    let after = wait_for("the killed node to catch up", || {
        let status = cluster.cli(leader).try_json(&["cluster", "status"])?;
        let other = cluster.cli(witness).try_json(&["cluster", "status"])?;
        if status["applied"].as_u64() >= other["applied"].as_u64() && status["applied"].is_u64() {
            Ok(own_record(&status, &cluster.controls[leader].name))
        } else {
            Err(format!("{status} behind {other}"))
        }
    });
    assert_eq!(after["id"], before["id"], "the node keeps its identity");
    assert_eq!(after["short_id"], before["short_id"], "the node keeps its short id");
    assert!(after["generation"].as_u64() > before["generation"].as_u64(), "a boot raises the generation");
    let local = cluster.cli(leader).text(&["kv", "get", KEY, "--local"]);
    assert_eq!(value_of(&local), 1200, "the killed node has caught up");
}

fn status_of(cluster: &Cluster, index: usize) -> Value {
    own_record(&cluster.cli(index).json(&["cluster", "status"]), &cluster.controls[index].name)
}

fn own_record(status: &Value, name: &str) -> Value {
    let members = status["members"].as_array().expect("members");
    members.iter().find(|member| member["name"] == name).expect("a member of that name").clone()
}

/// The time from `cut` until a write through control node `index` is acknowledged.
fn wait_write(cluster: &Cluster, index: usize, cut: Instant) -> Duration {
    let cli = cluster.cli(index);
    while cut.elapsed() < PATIENCE {
        if cli.run(&["kv", "put", "probe", "alive", "--timeout", "500ms"]).status.success() {
            return cut.elapsed();
        }
    }
    panic!("no write was acknowledged for {PATIENCE:?}")
}

fn value_of(text: &str) -> u64 {
    let value: Value = serde_json::from_str(text).expect("the counter holds JSON");
    value["value"].as_u64().expect("a number")
}

fn count(cluster: &Cluster, index: usize) -> Result<u64, String> {
    let output = cluster.cli(index).run(&["kv", "get", KEY]);
    if output.status.success() {
        Ok(value_of(&String::from_utf8_lossy(&output.stdout)))
    } else {
        Err(crate::process::stderr(&output))
    }
}

/// Waits until the counter has reached `wanted`, and gives what it then holds.
fn wait_count(cluster: &Cluster, index: usize, wanted: u64) -> u64 {
    wait_for(&format!("the counter to reach {wanted}"), || match count(cluster, index) {
        Ok(value) if value >= wanted => Ok(value),
        other => Err(format!("{other:?}")),
    })
}

/// Waits until all tasks of `counter` have ended with code 0.
fn wait_ended(cluster: &Cluster, index: usize) {
    wait_for("the tasks to end", || {
        let tasks = cluster.cli(index).try_json(&["task", "list", "--instance", "counter"])?;
        let list = tasks.as_array().ok_or("no list")?;
        let ended = |task: &&Value| task["state"] == "stopped" && task["exit_code"] == 0;
        if list.len() == 3 && list.iter().filter(ended).count() == 3 { Ok(()) } else { Err(tasks.to_string()) }
    });
}
