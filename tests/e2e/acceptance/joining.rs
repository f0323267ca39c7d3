//! Founding, joining, and coming back.

use super::fleet::Fleet;
use super::{limit, scaled, seconds, within};
use crate::process::{stderr, wait_for};
use serde_json::Value;
use std::net::{SocketAddr, TcpListener};
use std::time::Instant;

#[test]
fn a1_a_cluster_is_founded_once_and_on_purpose() {
    let mut fleet = Fleet::new("");
    fleet.configure("");
    fleet.nodes[0].start(&["--bootstrap"]);
    let first = fleet.joined(0, 0, seconds(3));
    assert_eq!((&first["short_id"], &first["role"]), (&1.into(), &"voter".into()));
    assert_eq!(fleet.leader(0), Ok(0));
    let cluster = fleet.get(0, "/v1/cluster").unwrap()["cluster_id"].clone();

    let second = fleet.configure("");
    let start = Instant::now();
    let refused = fleet.nodes[second].command(&["run"]);
    assert!(start.elapsed() < limit(seconds(3)), "it refuses at once");
    let told = stderr(&refused);
    assert!(!refused.status.success() && told.contains("cluster.discovery") && told.contains("--bootstrap"), "{told}");
    assert_eq!(fleet.members(0).unwrap().len(), 1);

    // The flag changes nothing where there is a cluster already, and a node that was founded needs nobody to start.
    fleet.nodes[0].kill();
    fleet.nodes[0].start(&["--bootstrap"]);
    fleet.joined(0, 0, seconds(5));
    assert_eq!(fleet.get(0, "/v1/cluster").unwrap()["cluster_id"], cluster);
    fleet.nodes[0].kill();
    fleet.nodes[0].start(&[]);
    fleet.joined(0, 0, seconds(5));
}

#[test]
fn a2_one_live_seed_is_enough_and_none_founds_nothing() {
    let mut fleet = Fleet::start(2, "");
    let follower = 1 - wait_for("a leader", || fleet.leader(1));
    // One dead seed refuses, the other one takes connections and says nothing.
    let silent = TcpListener::bind(SocketAddr::new(fleet.subnet.host(202), 8140)).unwrap();
    let joiner = fleet.add(&[200, 201, u8::try_from(follower).unwrap()]);
    fleet.nodes[joiner].start(&[]);
    let joined = fleet.joined(joiner, 0, seconds(3));
    assert_eq!(joined["short_id"], 3);
    drop(silent);

    let lost = fleet.add(&[200, 201]);
    fleet.nodes[lost].start(&[]);
    fleet.nodes[lost].wait_log(&["still waiting to be taken in", "no control node of the cluster is reached"]);
    let status = fleet.get(lost, "/v1/cluster").unwrap();
    assert_eq!((&status["leader"], &status["cluster_id"]), (&Value::Null, &Value::Null), "{status}");
    let written = fleet.call(lost, "PUT", "/v1/kv/a", b"1").unwrap();
    assert_eq!(written.status, 503, "{written:?}");
    assert_eq!(fleet.members(0).unwrap().len(), 3);

    // It goes on asking: as soon as a seed lives, it is in.
    let seed = fleet.nodes.len();
    assert_eq!(seed, 4);
    fleet.nodes.truncate(seed - 1);
    let lost = fleet.add(&[4]);
    fleet.nodes[lost].start(&[]);
    fleet.nodes[lost].wait_log(&["still waiting to be taken in"]);
    let seed = fleet.add(&[0]);
    fleet.nodes[seed].start(&[]);
    fleet.joined(seed, 0, seconds(3));
    fleet.joined(lost, 0, seconds(3));
}

#[test]
fn a3_all_that_join_at_once_get_the_next_numbers() {
    for round in 1..=scaled(1, 20) {
        let mut fleet = Fleet::start(1, "");
        let many = scaled(5, 10);
        let joiners: Vec<usize> = (0..many).map(|_| fleet.add(&[0])).collect();
        joiners.iter().for_each(|joiner| fleet.nodes[*joiner].start(&[]));
        within(seconds(10), format!("round {round}: {many} join"), || {
            let members = fleet.members(0)?;
            let live = members.iter().filter(|member| member["alive"] == true);
            let mut numbers: Vec<u64> = live.filter_map(|member| member["short_id"].as_u64()).collect();
            numbers.sort_unstable();
            if numbers == (1..=many as u64 + 1).collect::<Vec<_>>() { Ok(()) } else { Err(format!("{numbers:?}")) }
        });
        for joiner in joiners {
            let own = wait_for("a joiner to know itself", || fleet.itself(joiner, joiner));
            assert_eq!(own["short_id"], fleet.itself(joiner, 0).unwrap()["short_id"]);
        }
    }
}

#[test]
fn a5_a_node_keeps_its_identity_over_a_restart() {
    let mut fleet = Fleet::start(3, "");
    for index in 0..3 {
        let before = fleet.itself(index, 0).unwrap();
        fleet.nodes[index].kill();
        fleet.nodes[index].start(&[]);
        let other = (index + 1) % 3;
        let back = within(seconds(5), format!("control-{} is back", index + 1), || {
            let now = fleet.itself(index, index)?;
            fleet.leader(index)?;
            let newer = now["generation"].as_u64() > before["generation"].as_u64();
            if newer && fleet.itself(index, other)? == now { Ok(now) } else { Err(now.to_string()) }
        });
        for field in ["id", "short_id", "name"] {
            assert_eq!(back[field], before[field]);
        }
    }

    // Without its folder it is somebody else.
    let before = fleet.itself(2, 0).unwrap();
    fleet.nodes[2].kill();
    std::fs::remove_dir_all(fleet.data(2)).unwrap();
    fleet.nodes[2].start(&[]);
    let fresh = within(seconds(5), "a new member with an empty folder", || {
        let status = fleet.get(2, "/v1/cluster")?;
        let members = fleet.members(0)?;
        let own = members.iter().find(|member| member["id"] == status["node"] && member["alive"] == true);
        own.cloned().ok_or_else(|| format!("{members:#?}"))
    });
    assert_ne!(fresh["id"], before["id"]);
    assert_ne!(fresh["short_id"], before["short_id"]);
    assert_eq!(fresh["generation"], 1);
}
