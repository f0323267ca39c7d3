//! Requests to job classes of workers, and what became of them: `/v1/nodes/N/request`, `/v1/nodes/N/requests/ID`.

use super::problem::Problem;
use super::read::{Asked, asked, json};
use super::{Answer, Api};
use crate::identity::random_ulid;
use crate::reach::Hop;
use crate::relay::{Bounds, Relay};
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use bytes::Bytes;
use longshore_state::{Node, State};
use longshore_wire::edge::ClassRequest;
use longshore_wire::relay::{OutcomeAsk, OutcomeOf, OutcomeReply, RelayResult};
use longshore_wire::{Failure, Outcome, RequestId, Role, base64};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// Time for a class request when the caller names none, and the most that it may name.
const TIMEOUT_MS: (u64, u64) = (30_000, 300_000);
/// Time for a worker to say what became of a request.
const OUTCOME: Duration = Duration::from_secs(10);

/// Body of a class request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asking {
    class: String,
    #[serde(default)]
    body: Value,
    timeout_ms: Option<u64>,
    /// Names the request; a repeat gets the first outcome as long as the worker remembers it.
    id: Option<RequestId>,
}

pub(super) async fn request(api: Api, Path(node): Path<String>, body: Bytes) -> Answer {
    let Asking { class, body, timeout_ms, id } = json(&body)?;
    let wait = Duration::from_millis(timeout_ms.unwrap_or(TIMEOUT_MS.0).min(TIMEOUT_MS.1));
    // What this node knows is enough to find a worker; a question to the leader would double the way.
    let state = api.group.state();
    let worker = worker_of(&state, &node)?;
    let id = id.unwrap_or_else(|| RequestId::from_u128(random_ulid()));
    let asked = ClassRequest { class: class.clone(), body };
    let relay = Relay::json((id, worker.id), asked, Bounds { hop: Hop::Allowed, deadline: Instant::now() + wait });
    let reply = api.relays.ask(&relay).await.map_err(|failure| with_advice(failure, worker, id))?;
    let mut answer = json!({"node": worker.id, "node_name": worker.name, "class": class, "id": id, "outcome": "done"});
    add_reply(&mut answer, &reply);
    Ok((StatusCode::OK, axum::Json(answer)).into_response())
}

/// Query of an outcome.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OutcomeQuery {
    boot: Option<RequestId>,
}

pub(super) async fn outcome(api: Api, Path((node, id)): Path<(String, String)>, query: Asked<OutcomeQuery>) -> Answer {
    let OutcomeQuery { boot } = asked(query)?;
    let id: RequestId = id.parse().map_err(|error| Problem::invalid(format!("the request's id: {error}")))?;
    let state = api.group.state();
    let worker = worker_of(&state, &node)?;
    let of = OutcomeOf { node: worker.id, ask: OutcomeAsk { id, boot } };
    let reply = api.relays.outcome(of, Bounds { hop: Hop::Allowed, deadline: Instant::now() + OUTCOME }).await?;
    let mut answer = json!({"node": worker.id, "node_name": worker.name, "id": id, "outcome": name(&reply)});
    match reply {
        OutcomeReply::Done { reply: RelayResult::Ok(reply) } => add_reply(&mut answer, &reply),
        OutcomeReply::Done { reply: RelayResult::Failed(failure) } => {
            answer["error"] = json!({"code": failure.code, "detail": failure.message, "outcome": failure.outcome});
        }
        OutcomeReply::Running | OutcomeReply::NotDone | OutcomeReply::Unknown => (),
    }
    Ok((StatusCode::OK, axum::Json(answer)).into_response())
}

fn worker_of<'a>(state: &'a State, node: &str) -> Result<&'a Node, Problem> {
    let worker = state.find_node(node)?;
    match worker.is_worker() {
        true => Ok(worker),
        false => Err(Problem::invalid(format!("node '{}' is no worker", worker.name))),
    }
}

/// What a worker answered: JSON as it is, other bytes in base 64.
fn add_reply(answer: &mut Value, reply: &[u8]) {
    match serde_json::from_slice::<Value>(reply) {
        Ok(reply) => answer["reply"] = reply,
        Err(_) => answer["reply_base64"] = base64::encode(reply).into(),
    }
}

/// Says how to ask later for an outcome that nobody knows now.
fn with_advice(mut failure: Failure, worker: &Node, id: RequestId) -> Failure {
    if failure.outcome == Outcome::Unknown {
        let boot = worker.boot(Role::Worker).map(|boot| format!(" --boot {boot}")).unwrap_or_default();
        failure.message.push_str(&format!("; to ask later: `longshore outcome {} {id}{boot}`", worker.name));
    }
    failure
}

const fn name(reply: &OutcomeReply) -> &'static str {
    match reply {
        OutcomeReply::Done { .. } => "done",
        OutcomeReply::Running => "running",
        OutcomeReply::NotDone => "not_done",
        OutcomeReply::Unknown => "unknown",
    }
}
