//! A leader that was halted, or handed its part over, is a member like any other a moment later.

use super::fleet::Fleet;
use super::{scaled, seconds, within};
use crate::process::wait_for;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// Waits until `index` is a member that has this value of the key itself, and that follows the same leader as the others.
fn is_back(fleet: &Fleet, index: usize, value: &str) -> Result<(), String> {
    let other = (index + 1) % 3;
    fleet.itself(index, other)?;
    fleet.itself(index, index)?;
    let (own, theirs) = (fleet.leader(index)?, fleet.leader(other)?);
    let seen = fleet.call(index, "GET", "/v1/kv/key?consistency=local", b"")?;
    let same = own == theirs && seen.body == value.as_bytes();
    if same { Ok(()) } else { Err(format!("leader {own} and {theirs}, {seen:?}")) }
}

#[test]
fn a15_a_halted_or_deposed_leader_comes_back_by_itself() {
    let mut fleet = Fleet::start(3, "");
    let halted = wait_for("a leader", || fleet.leader(0));
    let others = [(halted + 1) % 3, (halted + 2) % 3];
    fleet.cli(halted).text(&["kv", "put", "key", "before"]);
    fleet.nodes[halted].halt();
    let start = Instant::now();
    wait_for("another leader", || match fleet.leader(others[0])? {
        leader if leader == halted => Err("the halted one".to_owned()),
        leader => Ok(leader),
    });
    // The others write all the while.
    let (pause, mut written) = (Duration::from_secs(scaled(4, 10)), 0);
    while start.elapsed() < pause {
        written += 1;
        fleet.cli(others[written % 2]).text(&["kv", "put", "key", &format!("value {written}")]);
    }
    fleet.nodes[halted].signal(Signal::CONT);
    // Linearizable: never what was there when it was halted.
    let read = fleet.call(halted, "GET", "/v1/kv/key", b"").unwrap();
    let is_new = read.status == 200 && read.body == format!("value {written}").as_bytes();
    assert!(is_new || read.status == 503, "{read:?}");
    within(seconds(10), "the halted leader is back", || is_back(&fleet, halted, &format!("value {written}")));
    fleet.cli(halted).text(&["kv", "put", "key", "by the halted one"]);

    // One that is asked to stop hands over first, and is back after its start.
    let deposed = wait_for("a leader", || fleet.leader(halted));
    let witness = (deposed + 1) % 3;
    assert!(fleet.nodes[deposed].terminate().success());
    fleet.nodes[deposed].wait_log(&["the leadership has been handed over"]);
    fleet.cli(witness).text(&["kv", "put", "key", "without it"]);
    fleet.nodes[deposed].start(&[]);
    within(seconds(10), "the deposed leader is back", || is_back(&fleet, deposed, "without it"));
}
