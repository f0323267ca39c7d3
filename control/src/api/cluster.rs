//! `/v1/cluster`: the control group as this node knows it. Answers without a majority too.

use super::read::json;
use super::{Answer, Api, Context};
use axum::response::IntoResponse;
use bytes::Bytes;
use longshore_state::{Command, Node};
use longshore_wire::NodeId;
use longshore_wire::peer::Vitals;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub(super) async fn status(api: Api) -> Answer {
    let vitals = api.vitals.everywhere().await;
    Ok(axum::Json(api.status(&vitals)).into_response())
}

pub(super) async fn voters(api: Api) -> Answer {
    let status = api.group.status();
    let wanted = api.group.state().cluster().map(|cluster| cluster.voters_wanted);
    Ok(axum::Json(json!({"voters": wanted, "now": status.voters})).into_response())
}

/// Body of a change of the number of voters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Voters {
    voters: u32,
}

pub(super) async fn set_voters(api: Api, body: Bytes) -> Answer {
    let Voters { voters: wanted } = json(&body)?;
    api.group.propose_one(Command::SetVoters { wanted }).await?;
    api.read_after_write().await;
    voters(api).await
}

pub(super) async fn leave(api: Api) -> Answer {
    api.departure.leave_and_stop().await?;
    Ok(axum::Json(json!({"id": api.me, "left": true})).into_response())
}

pub(super) async fn limits(api: Api) -> Answer {
    let state = api.group.state();
    let (used, quota) = state.kv_usage();
    let brake = state.cluster().and_then(|cluster| cluster.kv_brake);
    Ok(axum::Json(json!({"quota": quota, "used": used, "brake": brake})).into_response())
}

/// Body of a change of limits: what is absent stays, `null` is the default.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    #[serde(default, deserialize_with = "given")]
    quota: Option<Option<u64>>,
    #[serde(default, deserialize_with = "given")]
    brake: Option<Option<u32>>,
}

/// Tells a `null` from nothing.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

pub(super) async fn set_limits(api: Api, body: Bytes) -> Answer {
    let Limits { quota, brake } = json(&body)?;
    if let Some(bytes) = quota {
        api.group.propose_one(Command::SetQuota { bytes }).await?;
    }
    if let Some(writes) = brake {
        api.group.propose_one(Command::SetBrake { writes }).await?;
    }
    api.read_after_write().await;
    limits(api).await
}

impl Context {
    fn status(&self, vitals: &BTreeMap<NodeId, Vitals>) -> Value {
        let (state, status) = (self.group.state(), self.group.status());
        let leadership = *self.group.leadership().borrow();
        let name = |id: NodeId| state.node(id).map(|node| node.name.clone());
        // As far as anybody has told: the log's end as the leader has it, unless the leader does not answer.
        let end = vitals.values().filter_map(|vitals| vitals.last).max();
        let known = state.controls().map(|node| {
            let mut told = member(node, &status.voters, &status.learners);
            let lag = status.lag.get(&node.id).copied().flatten();
            add_vitals(&mut told, vitals.get(&node.id), (end, lag));
            told
        });
        let strangers = status.voters.union(&status.learners).filter(|id| state.node(**id).is_none()).map(|id| {
            json!({
                "id": id, "name": null, "short_id": null, "generation": null,
                "role": if status.voters.contains(id) { "voter" } else { "learner" },
                "alive": *id == self.me || self.peers.session(*id).is_some(), "address": null, "addresses": [],
            })
        });
        json!({
            "cluster": state.cluster().map_or(&self.cluster, |cluster| &cluster.name),
            "cluster_id": state.cluster().map(|cluster| cluster.id),
            "node": self.me,
            "leader": leadership.leader,
            "leader_name": leadership.leader.and_then(name),
            "term": status.term,
            "committed": status.committed,
            "applied": status.applied,
            "quorum": leadership.leader.is_some(),
            "saved_snapshots": self.schedule.describe(),
            "voters_wanted": state.cluster().map(|cluster| cluster.voters_wanted),
            "voters_changing": status.unfinished.is_some(),
            "members": known.chain(strangers).collect::<Vec<_>>(),
        })
    }
}

/// What a member has told of itself, and how many log entries it lacks; `lag` is what a leader knows of who says nothing.
fn add_vitals(member: &mut Value, vitals: Option<&Vitals>, (end, lag): (Option<u64>, Option<u64>)) {
    let behind = |vitals: &Vitals| Some(end?.saturating_sub(vitals.last.unwrap_or(0)));
    member["lag"] = json!(vitals.and_then(behind).or(lag));
    if let Some(vitals) = vitals {
        member["applied"] = json!(vitals.applied);
        member["log_bytes"] = json!(vitals.log_bytes);
        member["snapshot"] = json!(vitals.snapshot);
        member["snapshot_age_ms"] = json!(vitals.snapshot_age_ms);
        member["disk_free"] = json!(vitals.disk_free);
        member["disk_total"] = json!(vitals.disk_total);
        member["disk_short"] = json!(vitals.disk_short);
    }
}

fn member(node: &Node, voters: &BTreeSet<NodeId>, learners: &BTreeSet<NodeId>) -> Value {
    let role = match (voters.contains(&node.id), learners.contains(&node.id)) {
        (true, _) => Some("voter"),
        (false, true) => Some("learner"),
        (false, false) => None,
    };
    json!({
        "id": node.id,
        "name": node.name,
        "short_id": node.short_id,
        "generation": node.generation,
        "role": role,
        "alive": node.alive,
        "address": node.addresses.first(),
        "addresses": node.addresses,
        "version": node.release,
    })
}
