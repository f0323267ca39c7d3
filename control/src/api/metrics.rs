//! What `/metrics` tells beside plain numbers: histograms, what has labels, and the API's own requests.

use super::Context;
use crate::clock::now_ms;
use crate::counts::Counts;
use crate::histogram::Histogram;
use axum::http::{Method, StatusCode};
use longshore_transport::ServerTls;
use std::fmt::Write as _;
use std::time::Duration;

/// The API's requests since the start.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// By method and status. Both are few: methods that are not ours count as one.
    answered: Counts<(&'static str, u16)>,
    took: Histogram,
}

impl Requests {
    /// Counts a request.
    pub(super) fn count(&self, called: &Method, status: StatusCode, took: Duration) {
        self.took.add(took);
        self.answered.add((method(called), status.as_u16()));
    }
}

fn method(method: &Method) -> &'static str {
    let ours = ["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD"];
    ours.into_iter().find(|name| *name == method.as_str()).unwrap_or("other")
}

/// Adds what has more than one value, or none for now.
pub(super) fn write(context: &Context, text: &mut String) {
    gauges(context, text);
    counters(context, text);
    // Only the leader knows, so only it tells.
    heading(text, "longshore_raft_member_lag_entries", "gauge", "Log entries that a member lacks; told by the leader.");
    let (status, state) = (context.group.status(), context.group.state());
    for (node, lag) in status.lag.iter().filter_map(|(node, lag)| Some((node, (*lag)?))) {
        let name = state.node(*node).map_or_else(|| node.to_string(), |node| label(&node.name));
        let _ = writeln!(text, "longshore_raft_member_lag_entries{{member=\"{name}\"}} {lag}");
    }
    sessions(context, text);
    endings(context, text);
    context.group.storage().syncs().write("longshore_raft_fsync_seconds", "How long the log's syncs take.", text);
    heading(text, "longshore_api_requests_total", "counter", "Requests to this node's API.");
    for ((method, status), count) in context.requests.answered.all() {
        let _ = writeln!(text, "longshore_api_requests_total{{method=\"{method}\",status=\"{status}\"}} {count}");
    }
    context.requests.took.write("longshore_api_request_seconds", "How long the API's answers take to begin.", text);
}

fn gauges(context: &Context, text: &mut String) {
    let (status, vitals) = (context.group.status(), context.vitals.here());
    let snapshot = context.group.storage().snapshot;
    let age = snapshot.and_then(|snapshot| snapshot.age).map(|age| age.as_secs());
    let leader = u64::from(context.group.leadership().borrow().leader.is_some());
    for (name, help, value) in [
        ("longshore_raft_has_leader", "Whether this node knows a leader with a majority.", Some(leader)),
        ("longshore_raft_voters", "Control nodes that vote.", Some(status.voters.len() as u64)),
        (
            "longshore_raft_proposals_pending",
            "Proposals at this node that wait for their outcome.",
            Some(context.group.tally().pending()),
        ),
        ("longshore_raft_log_bytes", "Bytes of the Raft log's entries.", Some(vitals.log_bytes)),
        ("longshore_raft_snapshot_index", "Last log index in the newest snapshot.", vitals.snapshot),
        ("longshore_raft_snapshot_bytes", "Bytes of the newest snapshot.", snapshot.map(|snapshot| snapshot.size)),
        ("longshore_raft_snapshot_age_seconds", "Age of the newest snapshot.", age),
        ("longshore_disk_free_bytes", "Bytes free below the data folder.", vitals.disk_free),
        ("longshore_disk_size_bytes", "Bytes of the file system below the data folder.", vitals.disk_total),
        (
            "longshore_disk_short",
            "Whether so little is free there that this node takes no writes and does not lead.",
            Some(u64::from(vitals.disk_short)),
        ),
        ("longshore_event_readers", "Readers of the events at this node.", Some(context.readers.count() as u64)),
        ("longshore_kv_watches", "Watches of the key-value store at this node.", Some(context.kv.watching() as u64)),
        (
            "longshore_sessions",
            "Proven sessions of workers and clients at this node.",
            Some(context.credentials.sessions.count()),
        ),
    ] {
        if let Some(value) = value {
            heading(text, name, "gauge", help);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name} {value}");
        }
    }
}

/// All since the start of this node.
fn counters(context: &Context, text: &mut String) {
    let (storage, tally) = (context.group.storage(), context.group.tally());
    for (name, help, value) in [
        ("longshore_raft_leader_changes_total", "How often this node has seen another leader.", tally.leader_changes()),
        (
            "longshore_raft_snapshot_installs_total",
            "Snapshots taken over from other control nodes since the start.",
            storage.installs,
        ),
        (
            "longshore_raft_snapshot_received_bytes_total",
            "Bytes of snapshots that came from other control nodes since the start.",
            storage.received,
        ),
        (
            "longshore_owner_moves_total",
            "How often a worker has got another owner, as this node has seen it.",
            context.group.journal().moves(),
        ),
    ] {
        heading(text, name, "counter", help);
        let _ = writeln!(text, "{name} {value}");
    }
    heading(
        text,
        "longshore_readers_cut_off_total",
        "counter",
        "How often a reader of a stream was told that what it lacks is forgotten.",
    );
    for (stream, count) in [("events", context.readers.cut_off()), ("kv", context.kv.gaps())] {
        let _ = writeln!(text, "longshore_readers_cut_off_total{{stream=\"{stream}\"}} {count}");
    }
    heading(
        text,
        "longshore_raft_proposals_total",
        "counter",
        "Proposals at this node, those of other nodes included.",
    );
    for (outcome, count) in [("committed", tally.committed()), ("failed", tally.failed())] {
        let _ = writeln!(text, "longshore_raft_proposals_total{{outcome=\"{outcome}\"}} {count}");
    }
}

/// When something ends by itself, in seconds since the Unix epoch; nothing where nothing does.
fn endings(context: &Context, text: &mut String) {
    let now = now_ms();
    let tokens = context.group.state();
    let token = tokens.tokens().filter_map(|token| token.expires_ms).filter(|expires| *expires > now).min();
    for (name, help, value) in [
        (
            "longshore_tls_certificate_not_after_seconds",
            "When the certificate that this node shows ends.",
            context.tls.as_ref().and_then(ServerTls::not_after),
        ),
        (
            "longshore_token_expiry_seconds",
            "When the next of the API's tokens expires.",
            token.and_then(|expires| i64::try_from(expires / 1000).ok()),
        ),
    ] {
        if let Some(value) = value {
            heading(text, name, "gauge", help);
            let _ = writeln!(text, "{name} {value}");
        }
    }
}

/// What comes and goes over the session protocol.
fn sessions(context: &Context, text: &mut String) {
    let sessions = &context.credentials.sessions;
    heading(text, "longshore_handshakes_refused_total", "counter", "Peers that did not prove themselves at this node.");
    for (reason, count) in sessions.refusals.counts() {
        let _ = writeln!(text, "longshore_handshakes_refused_total{{reason=\"{reason}\"}} {count}");
    }
    heading(
        text,
        "longshore_sessions_ended_total",
        "counter",
        "Sessions of workers and clients that have ended at this node, by the code of the reason.",
    );
    for ((role, reason), count) in sessions.endings.all() {
        let _ = writeln!(text, "longshore_sessions_ended_total{{role=\"{role}\",reason=\"{reason}\"}} {count}");
    }
    heading(
        text,
        "longshore_session_bytes_total",
        "counter",
        "Bytes over this node's sessions: the bulk of streams, and everything else.",
    );
    for (direction, kind, bytes) in context.traffic.counts() {
        let _ = writeln!(text, "longshore_session_bytes_total{{direction=\"{direction}\",kind=\"{kind}\"}} {bytes}");
    }
}

fn heading(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A label's value (Prometheus' text format).
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
