//! `/v1/nodes`: all nodes.

use super::problem::Problem;
use super::read::{Asked, Freshness, asked, json};
use super::{Answer, Api, Context};
use axum::extract::Path;
use axum::response::IntoResponse;
use bytes::Bytes;
use longshore_state::{Command, Node, Selector, State, standing_of};
use longshore_wire::kv::Consistency;
use longshore_wire::task::NodeState;
use longshore_wire::{ClusterUri, Code, Failure};
use serde::Deserialize;
use serde_json::{Value, json};

/// Query of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    #[serde(rename = "where")]
    selector: Option<String>,
    #[serde(default)]
    consistency: Consistency,
}

pub(super) async fn list(api: Api, query: Asked<ListQuery>) -> Answer {
    let ListQuery { selector, consistency } = asked(query)?;
    let selector = selector.unwrap_or_default().parse::<Selector>();
    let selector = selector.map_err(|error| Problem::invalid(format!("where: {error}")))?;
    let state = api.read(consistency).await?;
    let nodes: Vec<Value> =
        state.nodes().filter(|node| selector.matches(node)).map(|node| api.describe(&state, node)).collect();
    Ok(axum::Json(nodes).into_response())
}

pub(super) async fn show(api: Api, Path(node): Path<String>, query: Asked<Freshness>) -> Answer {
    let state = api.read(asked(query)?.consistency).await?;
    let node = state.find_node(&node)?;
    Ok(axum::Json(api.describe(&state, node)).into_response())
}

pub(super) async fn remove(api: Api, Path(node): Path<String>) -> Answer {
    let state = api.read(Consistency::Linearizable).await?;
    let node = state.find_node(&node)?;
    let connected = !matches!(node.state, NodeState::Launching | NodeState::NotConnected | NodeState::Stopped);
    if (node.is_control() && node.alive) || (node.is_worker() && connected) {
        let message = format!("node '{}' is connected and would come back at once; stop it first", node.name);
        return Err(Failure::new(Code::Conflict, message).into());
    }
    api.group.propose_one(Command::RemoveNode { node: node.id }).await?;
    Ok(axum::Json(json!({"id": node.id, "name": node.name, "removed": true})).into_response())
}

/// Body of a change of a node.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    labels: Option<Value>,
    state: Option<Value>,
}

pub(super) async fn change(api: Api, Path(node): Path<String>, body: Bytes) -> Answer {
    let Change { labels, state } = json(&body)?;
    if labels.is_none() && state.is_none() {
        return Err(Problem::invalid("the body names nothing to change; it may name labels or state"));
    }
    api.read(Consistency::Linearizable).await?.find_node(&node)?;
    let how = "labels are set in the node's own configuration for now, and a node is stopped where it runs";
    Err(Problem::unsupported(format!("changing a node through the API is not there yet in this release; {how}")))
}

/// Body of a call to a worker.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Calling {
    uri: String,
}

pub(super) async fn connect(api: Api, body: Bytes) -> Answer {
    let Calling { uri } = json(&body)?;
    let uri: ClusterUri = uri.parse().map_err(|error| Problem::invalid(format!("uri: {error}")))?;
    let peer = api.dialback.connect(&[uri], None).await?;
    let remote = peer.remote.map(|remote| remote.to_string());
    let transport = peer.carrier.name();
    let answer = json!({"node": peer.node, "address": remote, "transport": transport, "version": peer.release});
    Ok(axum::Json(answer).into_response())
}

impl Context {
    fn describe(&self, state: &State, node: &Node) -> Value {
        let owned = if node.is_worker() { state.owner_of(node.id) } else { None };
        let owner_name = owned.and_then(|(owner, _)| state.node(owner)).map(|owner| &owner.name);
        // Only the node that holds the session measures.
        let session = if node.is_worker() { self.proxies.session(node.id) } else { self.peers.session(node.id) };
        let rtt = session.and_then(|session| session.rtt()).map(|rtt| rtt.as_secs_f64() * 1000.0);
        let via = node.via.as_ref();
        let published = node.addresses.first().map(ToString::to_string);
        json!({
            "id": node.id,
            "name": node.name,
            "short_id": node.short_id,
            "generation": node.generation,
            "roles": node.roles,
            "state": standing_of(node, owned.map(|(_, epoch)| epoch)),
            "alive": node.is_control().then_some(node.alive),
            "labels": node.labels,
            "owner": owned.map(|(owner, _)| owner),
            "owner_name": owner_name,
            "epoch": owned.map(|(_, epoch)| epoch),
            "transport": via.map(|via| &via.transport),
            "address": via.and_then(|via| via.remote.clone()).or(published),
            "addresses": node.addresses,
            "clone": node.clone.as_ref().map(|clone| json!({"boot": clone.boot, "address": clone.remote})),
            "rtt_ms": rtt,
            "tasks": state.tasks_on(node.id).count(),
            "runtimes": node.runtimes,
            "version": node.release,
            "since": node.since_ms,
        })
    }
}
