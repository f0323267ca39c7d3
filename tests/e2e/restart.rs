//! Everything is cut at once, and comes back with all that was acknowledged.

use crate::boxes::Middlebox;
use crate::cluster::{Cluster, Reach};
use crate::process::{BINARY, Process, stderr, wait_for};
use crate::single::{Single, TCP_PORT};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;

#[test]
fn six_processes_are_killed_and_lose_nothing() {
    let mut cluster = Cluster::start(3, Reach::All);
    cluster.run_app("greeter", &["--arg", "greeting=ahoy"]);
    wait_running(&cluster);
    for number in 0..50 {
        cluster.cli(number % 3).text(&["kv", "put", &format!("keep/{number}"), &format!("value {number}")]);
    }
    let nodes = identities(&cluster);

    for process in cluster.controls.iter_mut().chain(&mut cluster.workers) {
        process.kill();
    }
    for process in cluster.controls.iter_mut().chain(&mut cluster.workers) {
        process.start(&[]);
    }
    cluster.wait_voters();
    cluster.wait_driven();

    for number in 0..50 {
        let value = cluster.cli((number + 1) % 3).text(&["kv", "get", &format!("keep/{number}")]);
        assert_eq!(value.trim_end(), format!("value {number}"));
    }
    assert_eq!(cluster.cli(0).json(&["app", "list"])[0]["app"], "greeter");
    assert_eq!(cluster.cli(1).json(&["flow", "show", "greeter"])["wanted"], "running");
    wait_running(&cluster);
    assert_eq!(identities(&cluster), nodes, "nodes keep their ids and short ids");

    stop_greeter(&cluster);
}

fn stop_greeter(cluster: &Cluster) {
    cluster.cli(2).text(&["flow", "stop", "greeter"]);
    wait_for("the tasks to be stopped", || {
        let tasks = cluster.cli(0).try_json(&["task", "list", "--instance", "greeter"])?;
        let live = |task: &&Value| task["state"] != "stopped";
        match tasks.as_array().ok_or("no list")?.iter().filter(live).count() {
            0 => Ok(()),
            _ => Err(tasks.to_string()),
        }
    });
}

/// Names lead to control nodes, whatever their addresses, even when all change at once.
#[test]
fn control_nodes_keep_their_names_when_their_addresses_change() {
    let mut cluster = Cluster::start(1, Reach::All);
    cluster.cli(0).text(&["kv", "put", "keep", "this"]);
    let nodes = identities(&cluster);
    let old = cluster.subnet.host(1).to_string();
    cluster.controls.iter_mut().for_each(Process::kill);
    cluster.move_controls();
    cluster.controls.iter_mut().for_each(|control| control.start(&[]));
    cluster.wait_voters();
    cluster.wait_driven();
    for index in 0..3 {
        assert_eq!(cluster.cli(index).text(&["kv", "get", "keep"]).trim_end(), "this");
        let door = format!("wss://{}", cluster.subnet.host(u8::try_from(index).unwrap() + 101));
        cluster.controls[index].wait_log(&["control node runs", &door]);
    }
    assert_eq!(identities(&cluster), nodes, "nodes keep their ids and short ids");
    let status = cluster.cli(0).json(&["cluster", "status"]);
    assert!(!status["members"].to_string().contains(&old), "{status}");
}

#[test]
fn followed_output_that_breaks_off_says_so() {
    let mut cluster = Cluster::start(1, Reach::All);
    cluster.run_app("greeter", &[]);
    let task = wait_for("the task to run", || {
        let tasks = cluster.cli(0).try_json(&["task", "list"])?;
        let running = tasks[0]["state"] == "running";
        tasks[0]["task"].as_str().filter(|_| running).map(str::to_owned).ok_or_else(|| tasks.to_string())
    });
    let mut follower = cluster.cli(0).spawn(&["task", "logs", &task, "--follow"]);
    let mut first = String::new();
    BufReader::new(follower.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("hello from worker-1"), "{first}");
    cluster.workers[0].kill();
    let output = follower.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    assert!(stderr(&output).contains("broke off"), "{}", stderr(&output));
    // A task outlives its worker.
    cluster.workers[0].start(&[]);
    stop_greeter(&cluster);
}

#[test]
fn a_polite_end_is_orderly() {
    let mut cluster = Cluster::start(1, Reach::All);
    assert!(cluster.workers[0].terminate().success(), "{}", cluster.workers[0].log());
    wait_for("the worker to be seen as gone", || {
        let workers = cluster.worker_records(0)?;
        let gone = ["stopped", "not_connected"].iter().any(|state| workers[0]["state"] == *state);
        if gone { Ok(()) } else { Err(workers[0].to_string()) }
    });
    let follower = (wait_for("a leader", || cluster.leader_seen_by(0)) + 1) % 3;
    assert!(cluster.controls[follower].terminate().success(), "{}", cluster.controls[follower].log());
    cluster.cli((follower + 1) % 3).text(&["kv", "put", "after", "the end of a follower"]);
}

fn wait_running(cluster: &Cluster) {
    wait_for("three running tasks", || {
        let tasks = cluster.cli(0).try_json(&["task", "list", "--instance", "greeter"])?;
        let running = |task: &&Value| task["state"] == "running";
        match tasks.as_array().ok_or("no list")?.iter().filter(running).count() {
            3 => Ok(()),
            _ => Err(tasks.to_string()),
        }
    });
}

fn identities(cluster: &Cluster) -> Vec<(String, String, u64)> {
    let nodes = cluster.cli(0).json(&["node", "list"]);
    let mut list: Vec<_> = nodes
        .as_array()
        .expect("a list")
        .iter()
        .map(|node| {
            let text = |field: &str| node[field].as_str().expect("a text").to_owned();
            (text("name"), text("id"), node["short_id"].as_u64().expect("a number"))
        })
        .collect();
    list.sort();
    list
}

/// The soft limit becomes the hard one; when that is low, the log says what to do.
#[test]
fn a_low_limit_of_file_descriptors_is_said() {
    let mut single = Single::start();
    single.control.kill();
    let config = single.dir.path().join("control-1.toml");
    let limited = ["-c", "ulimit -Sn 300 && ulimit -Hn 2000 && exec \"$@\"", "sh", BINARY, "run", "-c"];
    let arguments = [&limited[..], &[config.to_str().unwrap()]].concat();
    let log = single.dir.path().join("limited.log");
    let door = SocketAddr::new(single.subnet.host(1), TCP_PORT);
    let _limited = Middlebox::start("/bin/sh".into(), &arguments, log.clone(), &[door]);
    let text = std::fs::read_to_string(log).unwrap();
    let line = |part: &str| text.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{text}"));
    let raised = line("the limit of file descriptors was raised");
    assert!(raised.contains("former=300") && raised.contains("limit=2000"), "{raised}");
    assert!(line("few file descriptors").contains("LimitNOFILE"), "{text}");
}
