//! A copied data folder: two processes with one node id.

use crate::cluster::{Cluster, Reach};
use crate::process::{Process, wait_for};
use serde_json::Value;
use std::process::Command;

fn record(cluster: &Cluster, index: usize) -> Result<Value, String> {
    cluster.worker_records(index)?.first().cloned().ok_or_else(|| "no worker".to_owned())
}

fn alarms(cluster: &Cluster) -> Vec<String> {
    let logs = cluster.controls.iter().map(Process::log).collect::<String>();
    logs.lines().filter(|line| line.contains("clone alarm")).map(str::to_owned).collect()
}

fn wait_record(cluster: &Cluster, index: usize, what: &str, good: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, || {
        let record = record(cluster, index)?;
        if good(&record) { Ok(record) } else { Err(record.to_string()) }
    })
}

#[test]
fn a_copied_data_folder_raises_an_alarm_and_harms_nobody() {
    let mut cluster = Cluster::start(1, Reach::All);
    let before = record(&cluster, 0).unwrap();
    let folder = cluster.dir.path().join("worker-1");
    let mut copy = cluster.worker("copy", "worker.secret", "");
    let copied = Command::new("cp").arg("-a").arg(&folder).arg(cluster.dir.path().join("copy")).status().unwrap();
    assert!(copied.success());

    copy.start(&[]);
    println!("{}", copy.wait_log(&["not connected", "clone", "node.data_dir"]));
    for index in 0..3 {
        let seen = wait_record(&cluster, index, "the alarm at every control node", |record| !record["clone"].is_null());
        assert!(seen["clone"]["boot"].is_string() && seen["clone"]["address"].is_string(), "{seen}");
        for field in ["id", "name", "generation", "labels", "state"] {
            assert_eq!(seen[field], before[field], "the copy does not take the worker's place: {seen}");
        }
    }
    let raised = alarms(&cluster);
    println!("{raised:#?}");
    assert_eq!(raised.len(), 1, "one line");
    for word in ["present_boot", "present_address", "clone_boot", "clone_address"] {
        assert!(raised[0].contains(word), "{}", raised[0]);
    }
    assert!(!cluster.workers[0].log().contains("the session was lost"), "{}", cluster.workers[0].log());

    copy.kill();
    wait_record(&cluster, 0, "the alarm to end", |record| record["clone"].is_null());

    // A worker that was killed and comes back is no clone.
    cluster.workers[0].kill();
    cluster.workers[0].start(&[]);
    let generation = |record: &Value| record["generation"].as_u64().unwrap();
    let back = wait_record(&cluster, 0, "the worker to be back", |record| {
        record["state"] == "ready" && generation(record) > generation(&before)
    });
    assert!(back["clone"].is_null(), "{back}");

    // Nor is one whose former process has fallen silent.
    cluster.workers[0].halt();
    copy.start(&[]);
    wait_record(&cluster, 0, "the copy to take a silent worker's place", |record| {
        record["state"] == "ready" && record["name"] == "copy" && record["clone"].is_null()
    });
    assert_eq!(alarms(&cluster).len(), 1, "no alarm but the first");
}
