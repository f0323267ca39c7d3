//! `/v1/tasks`: what runs where, and its output.

use super::problem::Problem;
use super::read::{Asked, Freshness, asked};
use super::{Answer, Api};
use axum::body::Body;
use axum::extract::Path;
use axum::http::header;
use axum::response::IntoResponse;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use longshore_state::{State, Task};
use longshore_transport::{Stream, failure_of};
use longshore_wire::edge::LogRequest;
use longshore_wire::kv::Consistency;
use longshore_wire::task::{NodeState, TaskState};
use longshore_wire::{Code, Failure, TaskId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

/// A refusal of the worker arrives within this, as a rule; then it is an error of its own instead of a broken body.
const FIRST: Duration = Duration::from_secs(2);
/// Bytes of output passed on at a time.
const CHUNK: usize = 32 * 1024;

/// Query of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    instance: Option<String>,
    node: Option<String>,
    #[serde(default)]
    consistency: Consistency,
}

/// Query of the output.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogQuery {
    follow: Option<String>,
    tail: Option<u64>,
}

pub(super) async fn list(api: Api, query: Asked<ListQuery>) -> Answer {
    let ListQuery { instance, node, consistency } = asked(query)?;
    let state = api.read(consistency).await?;
    let node = node.map(|node| state.find_node(&node).map(|node| node.id)).transpose()?;
    let fits = |task: &&Task| {
        node.is_none_or(|node| task.node == node) && instance.as_ref().is_none_or(|instance| task.instance == *instance)
    };
    let tasks: Vec<Value> = state.tasks().filter(fits).map(|task| describe(&state, task)).collect();
    Ok(axum::Json(tasks).into_response())
}

pub(super) async fn show(api: Api, Path(task): Path<String>, query: Asked<Freshness>) -> Answer {
    let state = api.read(asked(query)?.consistency).await?;
    let task = find(&state, task)?;
    Ok(axum::Json(describe(&state, task)).into_response())
}

pub(super) async fn logs(api: Api, Path(task): Path<String>, query: Asked<LogQuery>) -> Answer {
    let LogQuery { follow, tail } = asked(query)?;
    let follow = match follow.as_deref() {
        None | Some("false" | "0") => false,
        Some("" | "true" | "1") => true,
        Some(other) => return Err(Problem::invalid(format!("follow: '{other}' is neither true nor false"))),
    };
    let state = api.read(Consistency::Linearizable).await?;
    let task = find(&state, task)?;
    let request = LogRequest { task: task.id.clone(), tail, follow };
    let mut stream = api.reach.logs(task.node, request).await?;
    let mut first = BytesMut::with_capacity(CHUNK);
    if let Ok(Err(error)) = tokio::time::timeout(FIRST, stream.read_buf(&mut first)).await {
        let broken = || Failure::new(Code::Unavailable, format!("the task's output cannot be read: {error}"));
        return Err(failure_of(&error).cloned().unwrap_or_else(broken).into());
    }
    let body = Body::from_stream(output(first.freeze(), stream, api.stop.clone()));
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

/// What has been read already, then the rest, until the end, a fault, or the node's stop.
fn output(
    first: Bytes,
    stream: Stream,
    stop: CancellationToken,
) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send {
    let head = stream::iter((!first.is_empty()).then_some(Ok(first)));
    let rest = stream::try_unfold((stream, stop), |(mut stream, stop)| async move {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let read = tokio::select! {
            biased;
            () = stop.cancelled() => Err(io::Error::other("this control node is stopping")),
            read = stream.read_buf(&mut chunk) => read,
        };
        Ok((read? > 0).then(|| (chunk.freeze(), (stream, stop))))
    });
    futures_util::StreamExt::chain(head, rest)
}

fn find(state: &State, task: String) -> Result<&Task, Failure> {
    let task = TaskId(task);
    let missing = || Failure::new(Code::NotFound, format!("there is no task '{task}'; see `longshore task list`"));
    state.task(&task).ok_or_else(missing)
}

/// One task as scripts see it.
pub(super) fn describe(state: &State, task: &Task) -> Value {
    let node = state.node(task.node);
    let status = task.status.as_ref();
    json!({
        "task": task.id,
        "instance": task.instance,
        "node": task.node,
        "node_name": node.map(|node| &node.name),
        "node_state": node.map(|node| node.state),
        "state": shown_state(task, node.map(|node| node.state)),
        "restarts": status.map_or(0, |status| status.restarts),
        "exit_code": status.and_then(|status| status.exit_code),
        "since": status.map(|status| status.since_ms),
        "message": status.and_then(|status| status.message.clone()),
        "assigned": task.assigned,
    })
}

/// The worker's last word, except that a task which shall end is stopping until it is gone.
fn shown_state(task: &Task, node: Option<NodeState>) -> TaskState {
    match (task.state(), task.assigned, node) {
        (_, _, None) => TaskState::Lost,
        (state, false, _) if !state.is_final() => TaskState::Stopping,
        (state, _, _) => state,
    }
}
