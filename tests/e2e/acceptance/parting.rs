//! Leaving on purpose, stopping, and dying: what the others see of it, and what becomes of the short id and the vote.

use super::fleet::Fleet;
use super::{limit, seconds, within};
use crate::events::Follower;
use crate::process::{stderr, wait_for};
use rustix::process::Signal;
use serde_json::Value;
use std::time::Instant;

/// Every node but `index`, with a reader of its events that has got its snapshot.
fn observers(fleet: &Fleet, index: usize) -> Vec<(usize, Follower)> {
    let others = (0..fleet.nodes.len()).filter(|other| *other != index);
    let observers: Vec<_> = others.map(|other| (other, Follower::start(&fleet.cli(other), &[]))).collect();
    for (_, observer) in &observers {
        wait_for("a snapshot", || observer.told().first().map(drop).ok_or_else(String::new));
    }
    observers
}

/// The one event of this kind about a node.
fn told(observer: &Follower, event: &str, node: &Value) -> Result<Value, String> {
    let told = observer.told();
    let found = told.iter().find(|it| it["event"] == event && it["node"]["id"] == node["id"]);
    found.cloned().ok_or_else(|| format!("{told:#?}"))
}

/// Whom node `index` knows of, by id.
fn knows(fleet: &Fleet, index: usize, node: &Value) -> bool {
    let nodes = fleet.get(index, "/v1/nodes").unwrap();
    nodes.as_array().unwrap().iter().any(|known| known["id"] == node["id"])
}

#[test]
fn a10_a_graceful_leave_and_a_crash_are_told() {
    let mut fleet = Fleet::start(5, "[control]\non_stop = \"leave\"\n");
    // A follower, then whoever leads.
    for round in 0..2 {
        let leader = wait_for("a leader", || fleet.leader(4));
        let leaver = if round == 0 { usize::from(leader == 0) } else { leader };
        let before = fleet.itself(leaver, 4).unwrap();
        let observers = observers(&fleet, leaver);
        let start = Instant::now();
        fleet.nodes[leaver].signal(Signal::TERM);
        for (observer, follower) in &observers {
            let left =
                within(seconds(1), format!("'left' at control-{}", observer + 1), || told(follower, "left", &before));
            assert_eq!((&left["reason"], &left["node"]["short_id"]), (&"removed".into(), &before["short_id"]));
        }
        assert!(fleet.nodes[leaver].terminate().success(), "{}", fleet.nodes[leaver].log());
        println!("exit: {:.2} s", start.elapsed().as_secs_f64());
        assert!(start.elapsed() < limit(seconds(5)), "it took {:?}", start.elapsed());
        // Neither its record nor its vote is left, and nobody misses it.
        let (other, _) = observers[0];
        assert!(!knows(&fleet, other, &before), "its short id is free");
        let members = within(seconds(2), "the vote of the leaver is gone", || {
            let members = fleet.members(other)?;
            if members.iter().all(|member| member["id"] != before["id"]) {
                Ok(members)
            } else {
                Err(format!("{members:#?}"))
            }
        });
        let voters = members.iter().filter(|member| member["role"] == "voter").count();
        assert!(voters >= 3 - round, "{members:#?}");
        drop(observers);
        // With its folder it comes back, as a member under a number of its own.
        fleet.nodes[leaver].start(&[]);
        let back = fleet.joined(leaver, 4, seconds(15));
        assert_eq!(back["id"], before["id"]);
        assert_ne!(back["short_id"], before["short_id"], "the former one rests");
    }

    let leader = wait_for("a leader", || fleet.leader(4));
    for dead in [(leader + 1) % 4, leader] {
        let before = fleet.itself(dead, 4).unwrap();
        let observers = observers(&fleet, dead);
        fleet.nodes[dead].kill();
        let start = Instant::now();
        for (observer, follower) in &observers {
            let rest = seconds(10).saturating_sub(start.elapsed());
            within(rest, format!("the crash is told at control-{}", observer + 1), || {
                told(follower, "state", &before).and_then(|state| match &state["node"]["state"] {
                    gone if gone == "not_connected" => Ok(()),
                    _ => Err(state.to_string()),
                })
            });
        }
        assert!(knows(&fleet, observers[0].0, &before), "who has died keeps its number");
        drop(observers);
        fleet.nodes[dead].start(&[]);
        fleet.joined(dead, 4, seconds(5));
    }
}

#[test]
fn a_node_leaves_by_command_and_the_last_voter_does_not() {
    let mut fleet = Fleet::start(2, "");
    fleet.cli(0).text(&["kv", "put", "kept", "value"]);
    let before = fleet.itself(0, 1).unwrap();
    // It leads: the other one takes over first, and goes on alone.
    assert_eq!(fleet.leader(1), Ok(0));
    let left = fleet.cli(0).json(&["cluster", "leave"]);
    assert_eq!((&left["left"], &left["id"]), (&true.into(), &before["id"]));
    assert!(fleet.nodes[0].end().success(), "{}", fleet.nodes[0].log());
    assert_eq!(fleet.leader(1), Ok(1));
    wait_for("the other one to be alone", || match fleet.members(1)?.len() {
        1 => Ok(()),
        count => Err(format!("{count} members")),
    });
    assert_eq!(fleet.cli(1).text(&["kv", "get", "kept"]).trim_end(), "value");

    let refused = fleet.cli(1).run(&["cluster", "leave"]);
    assert_eq!(refused.status.code(), Some(4), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("only voter"), "{}", stderr(&refused));
    fleet.cli(1).text(&["kv", "put", "kept", "more"]);
    assert!(fleet.nodes[1].terminate().success(), "without `on_stop` it stops, and stays a member");
    fleet.nodes[1].start(&[]);
    wait_for("it to be back as who it was", || {
        let back = fleet.itself(1, 1)?;
        if back["generation"] == 2 { Ok(()) } else { Err(back.to_string()) }
    });
}

/// A node that was removed while it was stopped, or halted, asks to be taken in again.
#[test]
fn a_node_that_was_forgotten_comes_back() {
    let mut fleet = Fleet::start(
        4,
        "[timers]\nsession_lost_after = \"2s\"\nping_every = \"500ms\"\nping_deadline = \"400ms\"\nvoter_grace = \"1s\"\n",
    );
    let leader = wait_for("a leader", || fleet.leader(0));
    let away = [(leader + 1) % 4, (leader + 2) % 4];
    for (number, index) in away.into_iter().enumerate() {
        let before = fleet.itself(index, leader).unwrap();
        if number == 0 {
            fleet.nodes[index].kill();
        } else {
            fleet.nodes[index].halt();
        }
        wait_for("it to be removed", || match fleet.cli(leader).run(&["node", "remove", &fleet.nodes[index].name]) {
            output if output.status.success() => Ok(()),
            output => Err(stderr(&output)),
        });
        wait_for("it to be gone from the group", || {
            let members = fleet.members(leader)?;
            let gone = members.iter().all(|member| member["id"] != before["id"]);
            if gone && members.len() == 3 { Ok(()) } else { Err(format!("{members:#?}")) }
        });
        if number == 0 {
            fleet.nodes[index].start(&[]);
        } else {
            fleet.nodes[index].signal(Signal::CONT);
        }
        let back = fleet.joined(index, leader, seconds(20));
        assert_eq!(back["id"], before["id"]);
        let key = format!("after/{number}");
        fleet.cli(index).text(&["kv", "put", &key, "written"]);
        assert_eq!(fleet.cli(leader).text(&["kv", "get", &key]).trim_end(), "written");
    }
}
