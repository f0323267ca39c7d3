//! Disaster: the cluster out of a saved snapshot, and out of the one control node that is left.

use crate::cluster::{Cluster, Reach};
use crate::process::{BINARY, stderr, wait_for};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A command that needs no cluster.
fn offline(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).env_remove("LONGSHORE_API").output().unwrap()
}

fn offline_json(arguments: &[&str]) -> Value {
    let output = offline(&[arguments, &["-o", "json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn data(cluster: &Cluster, number: usize) -> PathBuf {
    cluster.dir.path().join(format!("control-{number}"))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn worker_ids(cluster: &Cluster) -> Vec<String> {
    let records = wait_for("the workers' records", || cluster.worker_records(0));
    let mut ids: Vec<String> = records.iter().map(|node| node["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

/// Starts all control nodes on what stands in their folders, and waits until the cluster is as it was.
fn come_back(cluster: &mut Cluster, ids: &[String]) {
    for control in &mut cluster.controls {
        control.start(&[]);
    }
    cluster.wait_voters();
    cluster.wait_driven();
    assert_eq!(worker_ids(cluster), ids, "workers come back as who they were, and nobody else is there");
    for number in 0..3 {
        cluster.cli(number).text(&["kv", "put", "after", "written again"]);
    }
}

#[test]
fn a_cluster_is_restored_from_a_saved_snapshot() {
    let mut cluster = Cluster::start(2, Reach::All);
    for number in 0..20 {
        cluster.cli(number % 3).text(&["kv", "put", &format!("keep/{number}"), &format!("value {number}")]);
    }
    let ids = worker_ids(&cluster);
    let file = cluster.dir.path().join("cluster.snap");
    // A node that does not lead has it all, too: the read index sees to that.
    let follower = (wait_for("a leader", || cluster.leader_seen_by(0)) + 1) % 3;
    let kept = cluster.cli(follower).json(&["kv", "get", "keep/7"]);
    let saved = cluster.cli(follower).json(&["snapshot", "save", text(&file)]);
    assert_eq!((&saved["counts"]["keys"], &saved["counts"]["workers"]), (&20.into(), &2.into()), "{saved}");
    cluster.cli(0).text(&["kv", "put", "lost", "written after the snapshot"]);
    let verified = offline_json(&["snapshot", "verify", text(&file)]);
    assert_eq!(verified, saved);

    let damaged = cluster.dir.path().join("damaged.snap");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    let refused = offline(&["snapshot", "verify", text(&damaged)]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("damaged.snap: the snapshot is damaged in block"), "{}", stderr(&refused));

    let folder = data(&cluster, 1);
    let occupied = offline(&["snapshot", "restore", text(&file), "--data", text(&folder)]);
    assert!(stderr(&occupied).contains("not empty"), "{}", stderr(&occupied));
    for (index, control) in cluster.controls.iter_mut().enumerate() {
        control.kill();
        std::fs::remove_dir_all(cluster.dir.path().join(format!("control-{}", index + 1))).unwrap();
    }
    let restored = offline(&["snapshot", "restore", text(&file), "--data", text(&folder)]);
    assert!(restored.status.success(), "{}", stderr(&restored));
    come_back(&mut cluster, &ids);

    assert_eq!(cluster.cli(2).json(&["kv", "get", "keep/7"]), kept, "value and revision");
    let lost = cluster.cli(1).run(&["kv", "get", "lost"]);
    assert_eq!(lost.status.code(), Some(3), "{}", stderr(&lost));
    let status = cluster.cli(0).json(&["cluster", "status"]);
    assert_eq!(status["cluster_id"], saved["cluster_id"]);
}

/// The rehearsal: two of three control nodes are destroyed.
#[test]
fn a_lost_quorum_is_recovered() {
    let mut cluster = Cluster::start(2, Reach::All);
    for number in 0..20 {
        cluster.cli(0).text(&["kv", "put", &format!("keep/{number}"), &format!("value {number}")]);
    }
    let (ids, before) = (worker_ids(&cluster), cluster.cli(0).json(&["cluster", "status"]));
    let kept = cluster.cli(0).json(&["kv", "get", "keep/7"]);
    let folder = data(&cluster, 1);
    let running = offline(&["recover", "--data", text(&folder)]);
    assert!(stderr(&running).contains("another process uses this data folder"), "{}", stderr(&running));

    // A read index first, so that the one that stays has applied all of it.
    cluster.cli(0).text(&["kv", "get", "keep/19"]);
    for (index, control) in cluster.controls.iter_mut().enumerate() {
        control.kill();
        if index > 0 {
            std::fs::remove_dir_all(cluster.dir.path().join(format!("control-{}", index + 1))).unwrap();
        }
    }
    let shown = offline(&["recover", "--data", text(&folder)]);
    let told = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(shown.status.code(), Some(4), "{told}");
    assert!(told.contains("20 keys") && told.contains("control-3"), "{told}");
    assert!(stderr(&shown).contains("--accept-lost-writes"), "{}", stderr(&shown));
    let again = offline(&["recover", "--data", text(&folder)]);
    assert_eq!(String::from_utf8_lossy(&again.stdout), told, "looking changes nothing");

    let recovered = offline_json(&["recover", "--data", text(&folder), "--accept-lost-writes"]);
    assert!(Path::new(recovered["founded"]["kept"].as_str().unwrap()).join("log").exists(), "{recovered}");
    come_back(&mut cluster, &ids);

    assert_eq!(cluster.cli(2).json(&["kv", "get", "keep/7"]), kept, "value and revision");
    let after = cluster.cli(0).json(&["cluster", "status"]);
    assert_eq!(after["cluster_id"], before["cluster_id"]);
    assert_eq!(after["members"].as_array().unwrap().len(), 3, "{after}");
}

#[test]
fn snapshots_are_saved_by_the_clock() {
    let mut cluster = Cluster::prepare(0, Reach::All);
    let (folder, config) = (cluster.dir.path().join("backup"), cluster.dir.path().join("control-1.toml"));
    let section = format!("[snapshots]\nfolder = \"{}\"\nevery = \"100ms\"\nkeep = 2\n", folder.display());
    std::fs::write(&config, std::fs::read_to_string(&config).unwrap() + &section).unwrap();
    cluster.controls[0].start(&["--bootstrap"]);
    let told = |what: &str, fits: fn(&Value) -> bool| {
        wait_for(what, || {
            let saved = cluster.cli(0).try_json(&["cluster", "status"])?["saved_snapshots"].clone();
            if fits(&saved) { Ok(saved) } else { Err(saved.to_string()) }
        })
    };
    let saved = told("a saved snapshot", |saved| saved["file"].is_string());
    assert!(saved["age_ms"].is_u64() && saved["failure"].is_null(), "{saved}");
    let files = || -> Vec<PathBuf> {
        let items = std::fs::read_dir(&folder).unwrap().map(|item| item.unwrap().path());
        let mut files: Vec<PathBuf> = items.filter(|path| path.extension().is_some_and(|end| end == "snap")).collect();
        files.sort();
        files
    };
    let first = files()[0].clone();
    wait_for("the first one to be pruned", || if first.exists() { Err(format!("{:?}", files())) } else { Ok(()) });

    // The folder becomes a file: nothing can be saved, and everybody is told.
    let aside = cluster.dir.path().join("aside");
    std::fs::rename(&folder, &aside).unwrap();
    wait_for("the folder to be a file", || {
        std::fs::write(&folder, "in the way").map_err(|error| {
            drop(std::fs::remove_dir_all(&folder));
            error.to_string()
        })
    });
    let failed = told("the failure to be told", |saved| saved["failure"].is_string());
    assert!(failed["failure"].as_str().unwrap().contains("backup"), "{failed}");
    assert!(failed["file"].is_string(), "the last good one is still known: {failed}");
    cluster.controls[0].wait_log(&["ERROR", "no snapshot could be saved", "backup"]);
    std::fs::remove_file(&folder).unwrap();
    told("a success after the failure", |saved| saved["failure"].is_null());
    cluster.controls[0].kill();
    let last = files().pop().unwrap();
    assert_eq!(offline_json(&["snapshot", "verify", text(&last)])["cluster"], "test");
    assert!(files().len() <= 3, "two, and one that was written when the node was killed: {:?}", files());
}

/// Damage of a follower's log or snapshot is named, put aside, and mended from the peers; a lone node touches nothing.
#[test]
fn damage_on_a_minority_is_mended_from_the_peers() {
    let mut cluster = Cluster::prepare(0, Reach::All);
    for number in 1..=3 {
        let config = cluster.dir.path().join(format!("control-{number}.toml"));
        let text = std::fs::read_to_string(&config).unwrap() + "[timers]\nvoter_grace = \"1s\"\n";
        std::fs::write(&config, text).unwrap();
    }
    cluster.controls[0].start(&["--bootstrap"]);
    wait_for("the first key", || match cluster.cli(0).run(&["kv", "put", "keep", "this"]) {
        output if output.status.success() => Ok(()),
        output => Err(stderr(&output)),
    });
    // A group that begins anew has a snapshot on every node.
    cluster.controls[0].kill();
    offline_json(&["recover", "--data", text(&data(&cluster, 1)), "--accept-lost-writes"]);
    cluster.start_controls();
    for (round, damage) in ["flip log", "cut log", "flip snapshot", "cut snapshot"].iter().enumerate() {
        let leader = wait_for("a leader", || cluster.leader_seen_by(0));
        let follower = (1..3).find(|index| *index != leader).unwrap();
        let folder = data(&cluster, follower + 1);
        wait_for("the follower to know the others", || {
            let known = std::fs::read_to_string(folder.join("members")).unwrap_or_default();
            if known.lines().count() >= 3 { Ok(()) } else { Err(known) }
        });
        cluster.controls[follower].kill();
        let former = std::fs::read_to_string(folder.join("node-id")).unwrap().trim().to_owned();
        let file = if damage.ends_with("log") { first_segment(&folder) } else { newest_snapshot(&folder) };
        spoil(&file, damage.starts_with("cut"));
        cluster.controls[follower].start(&[]);
        let name = file.file_name().unwrap().to_str().unwrap();
        cluster.controls[follower].wait_log(&["ERROR", "this control node's data is damaged", name, &former]);
        assert!(folder.join(format!("damaged-{former}")).exists(), "{damage}");
        cluster.wait_voters();
        let key = format!("after/{round}");
        cluster.cli(follower).text(&["kv", "put", &key, damage]);
        assert_eq!(cluster.cli(follower).text(&["kv", "get", "keep"]).trim_end(), "this", "{damage}");
        wait_for("the former node to be seen as gone", || match cluster.cli(0).run(&["node", "remove", &former]) {
            output if output.status.success() => Ok(()),
            output => Err(stderr(&output)),
        });
    }
}

#[test]
fn a_lone_damaged_node_refuses_and_touches_nothing() {
    let mut cluster = Cluster::prepare(0, Reach::All);
    cluster.controls[0].start(&["--bootstrap"]);
    wait_for("a leader", || cluster.leader_seen_by(0));
    cluster.controls[0].kill();
    let (folder, file) = (data(&cluster, 1), first_segment(&data(&cluster, 1)));
    spoil(&file, true);
    let before = std::fs::read(&file).unwrap();
    let output = cluster.controls[0].command(&["run"]);
    let told = stderr(&output);
    assert!(!output.status.success() && told.contains("knows of no other control node"), "{told}");
    assert!(told.contains(file.to_str().unwrap()) && told.contains("snapshot restore"), "{told}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert!(folder.join("node-id").exists());
}

fn first_segment(folder: &Path) -> PathBuf {
    let items = std::fs::read_dir(folder.join("log")).unwrap().map(|item| item.unwrap().path());
    items.min().expect("a segment")
}

fn newest_snapshot(folder: &Path) -> PathBuf {
    let items = std::fs::read_dir(folder.join("snapshots")).unwrap().map(|item| item.unwrap().path());
    items.max().expect("a snapshot")
}

/// Flips bits all over the file, or cuts off its second half.
fn spoil(file: &Path, cut: bool) {
    let mut bytes = std::fs::read(file).unwrap();
    if cut {
        bytes.truncate(bytes.len() / 2);
    } else {
        // Past the head of the file, one byte in each 512.
        bytes.iter_mut().skip(4096).step_by(512).for_each(|byte| *byte ^= 0x55);
    }
    std::fs::write(file, bytes).unwrap();
}
