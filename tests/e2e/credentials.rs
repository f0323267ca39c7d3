//! Credentials while everything runs: made, rotated under load, revoked, bound to a node; and what survives a failover.

use crate::cluster::{Cluster, Reach};
use crate::process::{Process, stderr, wait_for};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Ends a loop in another thread.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A new secret of a credential, as the command line prints it.
fn secret_of(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.cli(0).run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    let secret = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(secret.trim().len(), 64, "the secret is all that stands on standard output: {secret}");
    assert!(!stderr(&output).contains(secret.trim()), "nor does it stand anywhere else");
    secret
}

/// A worker that proves this credential with the secret of this file.
fn worker(cluster: &Cluster, name: &str, credential: &str, file: &str) -> Process {
    let process = cluster.worker(name, file, "");
    let config = cluster.dir.path().join(format!("{name}.toml"));
    let text = std::fs::read_to_string(&config).unwrap() + &format!("credential = \"{credential}\"\n");
    std::fs::write(config, text).unwrap();
    process
}

fn write_secret(cluster: &Cluster, file: &str, secret: &str) -> PathBuf {
    let (path, unfinished) = (cluster.secrets().join(file), cluster.secrets().join("unfinished"));
    std::fs::write(&unfinished, secret).unwrap();
    std::fs::rename(unfinished, &path).unwrap();
    path
}

fn show(cluster: &Cluster, index: usize, credential: &str) -> Result<Value, String> {
    cluster.cli(index).try_json(&["credential", "show", credential])
}

/// Waits until nobody uses this secret any more.
fn wait_unused(cluster: &Cluster, credential: &str, number: u64, by: usize) {
    wait_for(&format!("secret {number} of {credential} to be out of use"), || {
        let shown = show(cluster, 0, credential)?;
        let users = |number: u64| {
            let in_use = shown["in_use"].as_array().into_iter().flatten();
            let users = in_use.filter(|each| each["secret"] == number).filter_map(|each| each["nodes"].as_array());
            users.map(Vec::len).sum::<usize>()
        };
        if users(number) == 0 && users(number + 1) == by { Ok(()) } else { Err(shown.to_string()) }
    });
}

fn lost(process: &Process) -> usize {
    process.log().matches("the session was lost").count()
}

#[test]
fn a_revoked_credential_is_cut_everywhere_and_nothing_else_is() {
    let mut cluster = Cluster::prepare(2, Reach::All);
    cluster.start_controls();
    let create = ["credential", "create", "worker", "--name", "edge", "--iterations", "4096"];
    write_secret(&cluster, "edge.secret", &secret_of(&cluster, &create));
    assert_eq!(cluster.cli(1).run(&create).status.code(), Some(4), "a name is given once");
    let edge = worker(&cluster, "worker-3", "edge", "edge.secret");
    cluster.workers.push(edge);
    for worker in &mut cluster.workers {
        worker.start(&[]);
    }
    cluster.wait_driven();
    let before: Vec<usize> = cluster.workers.iter().map(lost).collect();

    let start = Instant::now();
    let revoked = cluster.cli(1).json(&["credential", "revoke", "edge"]);
    let answered = start.elapsed();
    assert!(revoked["sessions_cut"].as_u64() >= Some(1), "{revoked}");
    let line = cluster.workers[2].wait_log(&["the session was lost", "'edge' was revoked"]);
    let cut = start.elapsed();
    println!("revoked: answered after {answered:?}, the worker knew after {cut:?}\n  {line}");
    assert!(cut < Duration::from_secs(5), "it took {cut:?}");
    let line = cluster.workers[2].wait_log(&["not connected", "refused by the other side", "revoked", "create"]);
    println!("  {line}");
    wait_for("the worker to be seen as gone", || {
        let gone = cluster.cli(2).try_json(&["node", "show", "worker-3"])?;
        if gone["state"] == "not_connected" { Ok(()) } else { Err(gone.to_string()) }
    });

    // The name of a revoked credential can be given again; the worker finds the new secret in its file by itself.
    write_secret(&cluster, "edge.secret", &secret_of(&cluster, &create));
    cluster.wait_driven();
    let refusals: usize =
        cluster.controls.iter().map(|control| control.log().matches("'edge' was revoked; give").count()).sum();
    let knocks: usize = cluster.controls.iter().map(|control| knocked(control, "Revoked")).sum();
    assert!(knocks <= 3, "a revoked worker does not knock all the time: {knocks} of {refusals}");
    for index in [0, 1] {
        assert_eq!(lost(&cluster.workers[index]), before[index], "worker {index} is none of this");
    }

    // All of it survives the end of the leader.
    let leader = wait_for("a leader", || cluster.leader_seen_by(0));
    let other = (leader + 1) % 3;
    let dead = cluster.cli(leader).json(&["cluster", "status"])["node"].as_str().unwrap().to_owned();
    cluster.controls[leader].kill();
    cluster.wait_driven_by_others(other, &dead);
    let shown = wait_for("the credential", || show(&cluster, other, "edge"));
    assert_eq!(
        (&shown["valid"], &shown["revoked"], &shown["secrets"][0]["secret"]),
        (&1.into(), &Value::Null, &2.into())
    );
}

/// How often somebody was refused in a handshake with this code.
fn knocked(control: &Process, code: &str) -> usize {
    control.log().lines().filter(|line| line.contains("handshake refused") && line.contains(code)).count()
}

#[test]
fn secrets_rotate_under_load_and_no_session_is_lost() {
    let cluster = Cluster::start(3, Reach::All);
    // What moves a worker to another owner has nothing to do with this.
    cluster.wait_spread(3);
    let before: Vec<usize> = cluster.workers.iter().map(lost).collect();
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        // Also when an assertion fails: the scope waits for its threads.
        let _end = SetOnDrop(&done);
        let asking = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let number = asked.fetch_add(1, Ordering::Relaxed);
                let worker = &cluster.workers[number % 3].name;
                let output = cluster.cli(number % 2).run(&["request", worker, "echo", &number.to_string()]);
                assert!(output.status.success(), "request {number} to {worker}: {}", stderr(&output));
                assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), number.to_string());
            }
        });
        for (credential, users) in [("worker", 3), ("control", 3)] {
            let file = format!("{credential}.secret");
            let former = std::fs::read_to_string(cluster.secrets().join(&file)).unwrap();
            let secret = secret_of(&cluster, &["credential", "rotate", credential]);
            assert_eq!(cluster.cli(1).run(&["credential", "rotate", credential]).status.code(), Some(4), "never three");
            if credential == "control" {
                let early = cluster.cli(1).run(&["credential", "rotate", "control", "--finish"]);
                assert_eq!(early.status.code(), Some(4), "not before a majority has it: {}", stderr(&early));
                assert!(stderr(&early).contains("control-1"), "{}", stderr(&early));
            }
            write_secret(&cluster, &file, &secret);
            wait_unused(&cluster, credential, 1, users);
            let finished = cluster.cli(2).json(&["credential", "rotate", credential, "--finish"]);
            assert_eq!(
                (&finished["retired"], &finished["nodes_cut"]),
                (&1.into(), &serde_json::json!([])),
                "{finished}"
            );
            write_secret(&cluster, "former.secret", &former);
        }
        done.store(true, Ordering::Relaxed);
        asking.join().expect("every request was answered");
    });
    println!("{} requests during two rotations", asked.load(Ordering::Relaxed));
    let after: Vec<usize> = cluster.workers.iter().map(lost).collect();
    assert_eq!(after, before, "no session was lost");
    for process in cluster.workers.iter().chain(&cluster.controls) {
        assert!(!process.log().contains("session cut"), "{}", process.log());
    }
}

#[test]
fn a_nodes_credential_is_no_use_to_another_node() {
    let mut cluster = Cluster::prepare(0, Reach::All);
    cluster.start_controls();
    let create = ["credential", "create", "worker", "--node", "worker-1", "--name", "own", "--iterations", "4096"];
    write_secret(&cluster, "own.secret", &secret_of(&cluster, &create));
    assert_eq!(show(&cluster, 1, "own").unwrap()["awaits"], "worker-1");
    let holder = worker(&cluster, "worker-1", "own", "own.secret");
    cluster.workers.push(holder);
    cluster.workers[0].start(&[]);
    cluster.wait_driven();
    let id = cluster.cli(0).json(&["node", "show", "worker-1"])["id"].as_str().unwrap().to_owned();
    wait_for("the credential to have its holder", || {
        let shown = show(&cluster, 2, "own")?;
        if shown["node"] == id.as_str() && shown["awaits"].is_null() { Ok(()) } else { Err(shown.to_string()) }
    });

    let mut thief = worker(&cluster, "thief", "own", "own.secret");
    thief.start(&[]);
    let theirs = thief.wait_log(&["refused by the other side", &id]);
    let ours = wait_for("the refusal in a control node's log", || {
        let logs = cluster.controls.iter().map(Process::log).collect::<String>();
        let line = logs.lines().find(|line| line.contains("handshake refused") && line.contains(&id));
        line.map(str::to_owned).ok_or_else(|| "not yet".to_owned())
    });
    println!("dialler:  {theirs}\nacceptor: {ours}");
    assert!(cluster.cli(0).run(&["node", "show", "thief"]).status.code() == Some(3), "a thief is not registered");
    let unknown = cluster.cli(0).run(&["credential", "revoke", "nobody"]);
    assert_eq!(unknown.status.code(), Some(3), "{}", stderr(&unknown));
    let last = cluster.cli(0).run(&["credential", "revoke", "control"]);
    assert_eq!(last.status.code(), Some(4), "{}", stderr(&last));
}
