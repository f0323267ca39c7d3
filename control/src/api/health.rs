//! `/livez`, `/readyz` and `/metrics`: for probes and collectors. Ask nobody, so that they always answer.

use super::{Answer, Api};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use longshore_wire::task::NodeState;
use longshore_wire::{Code, Failure};
use std::fmt::Write as _;

pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Ready = a leader is known, and this node does not stop.
pub(super) async fn ready(api: Api) -> Answer {
    if api.stop.is_cancelled() {
        return Err(Failure::new(Code::Unavailable, "this control node is stopping").into());
    }
    match api.group.leadership().borrow().leader {
        Some(_) => Ok((StatusCode::OK, "ok\n").into_response()),
        None => Err(Failure::new(Code::NoQuorum, "no leader is known; see `longshore cluster status`").into()),
    }
}

pub(super) async fn metrics(api: Api) -> Answer {
    let (state, status) = (api.group.state(), api.group.status());
    let ready = state.workers().filter(|worker| worker.state != NodeState::NotConnected).count();
    let clones = state.workers().filter(|worker| worker.clone.is_some()).count();
    let rows: [(&str, &str, &str, u64); 10] = [
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
        ("longshore_kv_revision", "counter", "Revision of the key-value store.", state.kv_revision()),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in rows {
        // Writing to a String cannot fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
