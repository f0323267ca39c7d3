//! `/livez`, `/readyz` and `/metrics`: for probes and collectors. Ask nobody, so that they always answer.

use super::read::{Asked, asked};
use super::{Answer, Api, Context, metrics, problem};
use crate::room::Level;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use longshore_wire::task::NodeState;
use longshore_wire::{Code, Failure};
use serde::Deserialize;
use std::fmt::Write as _;

/// A node that has applied so many entries less than are committed is catching up.
const MAX_LAG: u64 = 10_000;

/// Alive = the process answers. Nothing else: a node without majority, or with a full disk, is not mended by a restart.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Query of `/readyz`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadyQuery {
    verbose: Option<String>,
}

/// One condition of being ready: its name, and why it does not hold.
type Check = (&'static str, Result<(), (Code, String)>);

/// Ready = requests sent to this node will be served.
pub(super) async fn ready(api: Api, query: Asked<ReadyQuery>) -> Answer {
    let verbose = asked(query)?.verbose.is_some_and(|value| !["false", "0"].contains(&value.as_str()));
    let checks = api.checks();
    let failed: Vec<(&str, Code, &String)> = checks
        .iter()
        .filter_map(|(name, result)| result.as_ref().err().map(|(code, why)| (*name, *code, why)))
        .collect();
    let Some((_, code, _)) = failed.first() else {
        let all: String = checks.iter().map(|(name, _)| format!("[+] {name}: ok\n")).collect();
        return Ok((StatusCode::OK, if verbose { all + "ready\n" } else { "ok\n".to_owned() }).into_response());
    };
    let why = failed.iter().map(|(name, _, why)| format!("{name}: {why}")).collect::<Vec<_>>().join("; ");
    if !verbose {
        return Err(Failure::new(*code, why).into());
    }
    let line = |(name, result): &Check| match result {
        Ok(()) => format!("[+] {name}: ok\n"),
        Err((_, why)) => format!("[-] {name}: {why}\n"),
    };
    let text = checks.iter().map(line).collect::<String>() + "not ready\n";
    Ok((problem::status(*code), axum::Extension(problem::AsIs), text).into_response())
}

impl Context {
    fn checks(&self) -> [Check; 6] {
        let status = self.group.status();
        let leader = self.group.leadership().borrow().leader;
        let unless = |fine: bool, code: Code, why: String| if fine { Ok(()) } else { Err((code, why)) };
        let lag = status.committed.unwrap_or(0).saturating_sub(status.applied.unwrap_or(0));
        let member = status.voters.contains(&self.me) || status.learners.contains(&self.me);
        let fault = self.group.storage().fault();
        let unavailable = Code::Unavailable;
        [
            ("running", unless(!self.stop.is_cancelled(), unavailable, "this control node is stopping".to_owned())),
            ("member", unless(member, unavailable, "the leader has not taken this node into the group yet".to_owned())),
            (
                "leader",
                unless(
                    leader.is_some(),
                    Code::NoQuorum,
                    "no leader is known; see `longshore cluster status`".to_owned(),
                ),
            ),
            (
                "applied",
                unless(
                    lag <= MAX_LAG,
                    unavailable,
                    format!("{lag} committed log entries are not applied yet; it catches up"),
                ),
            ),
            ("log", fault.map_or(Ok(()), |fault| Err((unavailable, fault)))),
            ("disk", unless(self.vitals.room.level() == Level::Enough, unavailable, self.vitals.room.to_string())),
        ]
    }
}

pub(super) async fn metrics(api: Api) -> Answer {
    let (state, status) = (api.group.state(), api.group.status());
    let ready = state.workers().filter(|worker| worker.state != NodeState::NotConnected).count();
    let clones = state.workers().filter(|worker| worker.clone.is_some()).count();
    let rows: [(&str, &str, &str, u64); 13] = [
        ("longshore_raft_term", "gauge", "Current Raft term.", status.term),
        ("longshore_raft_is_leader", "gauge", "Whether this node leads.", u64::from(status.is_leader)),
        ("longshore_raft_applied_index", "counter", "Last log index applied.", status.applied.unwrap_or(0)),
        ("longshore_raft_committed_index", "counter", "Last log index committed.", status.committed.unwrap_or(0)),
        (
            "longshore_control_peers",
            "gauge",
            "Control nodes connected to this one.",
            api.peers.connected().len() as u64,
        ),
        ("longshore_workers", "gauge", "Workers registered.", state.workers().count() as u64),
        ("longshore_workers_connected", "gauge", "Workers with a session, cluster-wide.", ready as u64),
        ("longshore_clone_alarms", "gauge", "Workers whose node id a second live process has.", clones as u64),
        ("longshore_proxies_connected", "gauge", "Workers driven by this node.", api.proxies.connected() as u64),
        ("longshore_kv_bytes", "gauge", "Bytes of keys and values.", state.kv_usage().0),
        ("longshore_kv_quota_bytes", "gauge", "How many there may be.", state.kv_usage().1),
        ("longshore_kv_leases", "gauge", "Leases.", state.leases().count() as u64),
        ("longshore_kv_revision", "counter", "Revision of the key-value store.", state.kv_revision()),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in rows {
        // Writing to a String cannot fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    }
    metrics::write(&api, &mut text);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
