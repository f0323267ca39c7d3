//! As many voters as are wanted, whoever dies and whatever is wanted.

use super::fleet::Fleet;
use super::{scaled, seconds, within};
use crate::process::wait_for;
use serde_json::Value;

/// The members' ids and roles, where all of `live` tell the same, all are alive and `voters` of them vote.
fn agreed(fleet: &Fleet, live: &[usize], voters: usize) -> Result<Vec<Value>, String> {
    let first = fleet.members(live[0])?;
    let roles = |members: &[Value]| -> Vec<(Value, Value)> {
        members.iter().map(|member| (member["id"].clone(), member["role"].clone())).collect()
    };
    for index in live {
        let members = fleet.members(*index)?;
        if roles(&members) != roles(&first) {
            return Err(format!("control-{} says {members:#?}", index + 1));
        }
    }
    let alive = first.iter().filter(|member| member["alive"] == true).count();
    let vote = first.iter().filter(|member| member["role"] == "voter").count();
    if (first.len(), alive, vote) != (live.len(), live.len(), voters) {
        return Err(format!("{vote} of {} members vote: {first:#?}", first.len()));
    }
    Ok(first)
}

#[test]
fn a6_there_are_always_as_many_voters_as_are_wanted() {
    let mut fleet = Fleet::start(7, "");
    let mut live: Vec<usize> = (0..7).collect();
    wait_for("three of seven to vote", || agreed(&fleet, &live, 3));
    for round in 0..scaled(1, 10) {
        let witness = live[0];
        let members = fleet.members(witness).unwrap();
        let leader = wait_for("a leader", || fleet.leader(witness));
        let votes = |index: &usize| {
            let name = &fleet.nodes[*index].name;
            members.iter().any(|member| member["name"] == **name && member["role"] == "voter")
        };
        // In turn one that follows, and the one that leads.
        let follower = live.iter().copied().filter(votes).find(|index| *index != leader).unwrap();
        let dead = if round % 2 == 0 { follower } else { leader };
        fleet.nodes[dead].kill();
        live.retain(|index| *index != dead);
        within(seconds(15), format!("replacement {}", round + 1), || agreed(&fleet, &live, 3));
        let fresh = fleet.add(&live.iter().map(|index| u8::try_from(*index).unwrap()).collect::<Vec<_>>());
        fleet.nodes[fresh].start(&[]);
        live.push(fresh);
        wait_for("the new one to be a member", || agreed(&fleet, &live, 3));
        for index in &live {
            let key = format!("round/{round}/{index}");
            fleet.cli(*index).text(&["kv", "put", &key, "written"]);
        }
    }
    for wanted in [5, 3] {
        let told = fleet.cli(live[3]).json(&["cluster", "voters", &wanted.to_string()]);
        assert_eq!(told["voters"], wanted);
        let wanted = usize::try_from(wanted).unwrap();
        within(seconds(15), format!("{wanted} voters"), || agreed(&fleet, &live, wanted));
    }
    let refused = fleet.cli(live[0]).run(&["cluster", "voters", "4"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}
