//! Workers that listen: dialled by their control nodes, which prove themselves first.

use crate::cluster::{Cluster, Reach, Subnet};
use crate::process::{Process, stderr, wait_for};
use crate::single::{Claim, Single};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// Host number of the worker's listener.
const WORKER_HOST: u8 = 21;
const WORKER_PORT: u16 = 8139;

/// A worker of `single` that knows nobody, and listens.
fn worker(single: &Single, secret: &Path, transport: &str) -> (Process, String) {
    listener(single.dir.path(), single.subnet, (secret, "worker"), transport)
}

/// A worker that knows nobody, and listens, with the secret of a credential.
fn listener(folder: &Path, subnet: Subnet, (secret, credential): (&Path, &str), transport: &str) -> (Process, String) {
    let uri = format!("longshore://{}:{WORKER_PORT};transport={transport}", subnet.host(WORKER_HOST));
    let config = format!(
        r#"[node]
name = "worker-1"
roles = ["worker"]
data_dir = "{data}"
[cluster]
name = "test"
[auth]
secret_file = "{secret}"
credential = "{credential}"
[[listen]]
uri = "{uri}"
"#,
        data = folder.join("worker-1").display(),
        secret = secret.display(),
    );
    let file = folder.join("worker-1.toml");
    std::fs::write(&file, config).unwrap();
    (Process::new("worker-1", file), uri)
}

fn ready(single: &Single) -> Result<Value, String> {
    let nodes = single.cli().try_json(&["node", "list"])?;
    let found = nodes.as_array().and_then(|nodes| nodes.iter().find(|node| node["name"] == "worker-1"));
    found.filter(|node| node["state"] == "ready").cloned().ok_or_else(|| nodes.to_string())
}

#[test]
fn a_worker_that_knows_nobody_is_dialled_and_dialled_again() {
    let mut single = Single::start();
    let (mut worker, uri) = worker(&single, &single.dir.path().join("made/worker.secret"), "wss");
    worker.start(&[]);
    worker.wait_log(&["waits for a control node to dial it"]);
    assert!(!single.known("worker-1"));
    let answer = single.cli().json(&["node", "connect", &uri]);
    let node = wait_for("the worker to be driven", || ready(&single));
    assert_eq!(answer["node"], node["id"]);
    assert_eq!(node["addresses"][0], Value::from(uri.clone()));
    let reply = single.cli().json(&["request", "worker-1", "echo", r#"{"hello": 1}"#]);
    assert_eq!(reply["reply"]["hello"], 1, "{reply}");
    let twice = single.cli().run(&["node", "connect", &uri]);
    assert!(twice.status.success(), "it is proven, and told that the worker is connected: {}", stderr(&twice));
    assert_eq!(single.cli().json(&["request", "worker-1", "echo", "2"])["reply"], 2);

    // The worker dials nobody: only its owner can bring it back, from what the cluster remembers.
    single.control.kill();
    single.control.start(&[]);
    wait_for("the owner to dial the worker again", || {
        ready(&single)?;
        let reply = single.cli().try_json(&["request", "worker-1", "echo", "3"])?;
        if reply["reply"] == 3 { Ok(()) } else { Err(reply.to_string()) }
    });
    // And so after a restart of the worker.
    assert!(worker.terminate().success());
    worker.start(&[]);
    wait_for("the worker to be driven again", || {
        let reply = single.cli().try_json(&["request", "worker-1", "echo", "4"])?;
        if reply["reply"] == 4 { Ok(()) } else { Err(reply.to_string()) }
    });
}

#[test]
fn a_revoked_credential_cuts_a_session_that_was_dialled_back() {
    let single = Single::start();
    let create = ["credential", "create", "worker", "--name", "edge", "--iterations", "4096"];
    let secret = single.dir.path().join("edge.secret");
    std::fs::write(&secret, single.cli().text(&create).trim()).unwrap();
    let (mut worker, uri) = listener(single.dir.path(), single.subnet, (&secret, "edge"), "tls");
    worker.start(&[]);
    worker.wait_log(&["waits for a control node to dial it"]);
    single.cli().json(&["node", "connect", &uri]);
    wait_for("the worker to be driven", || ready(&single));

    let start = Instant::now();
    let revoked = single.cli().json(&["credential", "revoke", "edge"]);
    worker.wait_log(&["'edge' was revoked"]);
    let cut = start.elapsed();
    println!("revoked: the worker that was dialled knew after {cut:?}");
    assert!(revoked["sessions_cut"].as_u64() >= Some(1), "{revoked}");
    assert!(cut < Duration::from_secs(5), "it took {cut:?}");
    wait_for("the worker to be seen as gone", || {
        let gone = single.cli().try_json(&["node", "show", "worker-1"])?;
        if gone["state"] == "not_connected" { Ok(()) } else { Err(gone.to_string()) }
    });
    let again = single.cli().run(&["node", "connect", &uri]);
    assert_eq!(again.status.code(), Some(7), "{}", stderr(&again));
    assert!(stderr(&again).contains("revoked"), "{}", stderr(&again));
}

/// Of several control nodes the worker's owner dials; when it dies, the next one does.
#[test]
fn the_next_owner_dials_a_worker_that_dials_nobody() {
    let mut cluster = Cluster::prepare(0, Reach::All);
    cluster.start_controls();
    let secret = cluster.secrets().join("worker.secret");
    let (mut worker, uri) = listener(cluster.dir.path(), cluster.subnet, (&secret, "worker"), "wss");
    worker.start(&[]);
    worker.wait_log(&["waits for a control node to dial it"]);
    cluster.cli(1).json(&["node", "connect", &uri]);
    let answers = |cluster: &Cluster, index: usize, dead: &str| {
        wait_for("the worker to answer through a live owner", || {
            let node = cluster.cli(index).try_json(&["node", "show", "worker-1"])?;
            let owner = node["owner"].as_str().filter(|owner| *owner != dead).ok_or_else(|| node.to_string())?;
            let reply = cluster.cli(index).try_json(&["request", "worker-1", "echo", "1"])?;
            if reply["reply"] == 1 { Ok(owner.to_owned()) } else { Err(reply.to_string()) }
        })
    };
    let owner = answers(&cluster, 0, "");
    let members = cluster.cli(0).json(&["cluster", "status"])["members"].clone();
    let member = members.as_array().unwrap().iter().find(|member| member["id"] == owner.as_str()).unwrap();
    let dying = cluster.controls.iter().position(|control| member["name"] == control.name.as_str()).unwrap();
    cluster.controls[dying].kill();
    let next = answers(&cluster, (dying + 1) % 3, &owner);
    println!("{owner} was killed: {next} has dialled the worker");
}

#[test]
fn neither_side_takes_a_wrong_secret() {
    let single = Single::start();
    let wrong = single.dir.path().join("wrong.secret");
    std::fs::write(&wrong, "a secret that is not the cluster's").unwrap();
    let (mut worker, uri) = worker(&single, &wrong, "tls");
    worker.start(&[]);
    worker.wait_log(&["waits for a control node to dial it"]);
    let refused = single.cli().run(&["node", "connect", &uri]);
    assert_eq!(refused.status.code(), Some(7), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("does not know the verifier"), "{}", stderr(&refused));
    worker.wait_log(&["handshake refused", "is no control node of this cluster"]);
    assert!(!single.known("worker-1"));
    // What is no listening worker at all: the control node's own listener.
    let other = single.cli().run(&["node", "connect", &single.wss()]);
    assert_eq!(other.status.code(), Some(7), "{}", stderr(&other));
    let nobody = single.cli().run(&["node", "connect", "longshore://127.0.0.1:1"]);
    assert_eq!(nobody.status.code(), Some(6), "{}", stderr(&nobody));
    assert_eq!(single.cli().run(&["node", "connect", "http://x"]).status.code(), Some(2));
}

#[test]
fn a_worker_is_no_control_node() {
    let single = Single::start();
    let secret = single.dir.path().join("made/worker.secret");
    let (mut listening, uri) = worker(&single, &secret, "tls");
    listening.start(&[]);
    listening.wait_log(&["waits for a control node to dial it"]);
    for role in ["worker", "control"] {
        let claim = Claim { role, credential: "worker", secret: &secret, cluster: "test" };
        let mut caller = single.peer(&format!("{role}-caller"), claim, &uri);
        caller.start(&[]);
        listening.wait_log(&["handshake refused", &format!("role={role}")]);
        caller.kill();
    }
    assert!(ready(&single).is_err());
    single.cli().json(&["node", "connect", &uri]);
    wait_for("the worker to be driven by a control node", || ready(&single));
}
