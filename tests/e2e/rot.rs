//! Damage on disk that shows only while a control node runs, since what is damaged is read late.

use crate::acceptance::http::call;
use crate::cluster::{Cluster, Reach};
use crate::process::{stderr, wait_for};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// More than a node keeps of its log in memory.
const VALUES: usize = 12;
const VALUE: usize = 600_000;

#[test]
fn damage_met_while_running_is_mended_from_the_peers() {
    let mut cluster = Cluster::prepare(0, Reach::All);
    for number in 1..=3 {
        let config = cluster.dir.path().join(format!("control-{number}.toml"));
        let text = std::fs::read_to_string(&config).unwrap() + "[timers]\nvoter_grace = \"1s\"\n";
        std::fs::write(&config, text).unwrap();
    }
    cluster.start_controls();
    let leader = wait_for("a leader", || cluster.leader_seen_by(0));
    let (late, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let folder = cluster.dir.path().join(format!("control-{}", leader + 1));
    wait_for("the leader to know the others", || {
        let known = std::fs::read_to_string(folder.join("members")).unwrap_or_default();
        if known.lines().count() >= 3 { Ok(()) } else { Err(known) }
    });
    let former = std::fs::read_to_string(folder.join("node-id")).unwrap().trim().to_owned();
    cluster.controls[late].kill();
    let api = SocketAddr::new(cluster.subnet.host(u8::try_from(other).unwrap() + 1), 8138);
    for number in 0..VALUES {
        wait_for("a write", || match call(api, "PUT", &format!("/v1/kv/rot/{number}"), &[b'x'; VALUE])? {
            answer if answer.status == 200 => Ok(()),
            answer => Err(String::from_utf8_lossy(&answer.body).into_owned()),
        });
    }
    let leader_now = wait_for("a leader", || cluster.leader_seen_by(other));
    assert_eq!(leader_now, leader, "nothing has shaken it");
    // The next message to the late one, of a single value, may have been read already.
    let segment = spoil(&folder, b"rot/3");

    // The leader reads its log for the one that comes back.
    cluster.controls[late].start(&[]);
    cluster.controls[leader].wait_log(&["ERROR", "the control group has ended on this node", &segment, "damaged"]);
    cluster.controls[leader].wait_log(&["ERROR", "put aside", &former, "start this node again"]);
    assert!(folder.join(format!("damaged-{former}/log")).join(&segment).exists(), "nothing is thrown away");
    wait_for("the late one to have everything from the other", || {
        let last = format!("rot/{}", VALUES - 1);
        let output = cluster.cli(late).run(&["kv", "get", "--local", &last]);
        if output.status.success() { Ok(()) } else { Err(stderr(&output)) }
    });
    cluster.controls[leader].kill();
    cluster.controls[leader].start(&[]);
    wait_for("it to be back with everything", || {
        let output = cluster.cli(leader).run(&["kv", "get", "rot/0"]);
        if output.status.success() { Ok(()) } else { Err(stderr(&output)) }
    });
    assert_ne!(std::fs::read_to_string(folder.join("node-id")).unwrap().trim(), former);
    cluster.wait_voters();
}

/// Flips a bit behind `mark` in the log of this data folder; the name of the file.
fn spoil(folder: &Path, mark: &[u8]) -> String {
    let mut segments: Vec<PathBuf> =
        std::fs::read_dir(folder.join("log")).unwrap().map(|item| item.unwrap().path()).collect();
    segments.sort();
    for path in segments {
        let bytes = std::fs::read(&path).unwrap();
        let Some(at) = bytes.windows(mark.len()).position(|window| window == mark) else { continue };
        let at = at + 1000;
        // In place: the node has it open.
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
        return path.file_name().unwrap().to_str().unwrap().to_owned();
    }
    panic!("no log entry of {}", String::from_utf8_lossy(mark));
}
