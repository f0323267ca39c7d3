//! `longshore node`: all nodes.

use super::{Remote, items};
use crate::args::cluster::{Node, NodeName};
use crate::client::{Call, path, query};
use crate::output::{self, Table, cell};
use hyper::Method;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

pub(super) async fn node(remote: &Remote, args: Node) -> anyhow::Result<()> {
    match args {
        Node::List { selector } => {
            let call = Call::get(format!("/v1/nodes{}", query(&[("where", selector.as_deref())])));
            let nodes = remote.client.json(call).await?;
            remote.print(&nodes, |nodes| list(remote, nodes))
        }
        Node::Show(NodeName { node }) => {
            let node = remote.client.json(Call::get(path("/v1/nodes/{}", &[&node]))).await?;
            remote.print(&node, details)
        }
        Node::Connect { uri } => {
            let called = Call::post("/v1/nodes/connect", &json!({"uri": uri}));
            let worker = remote.client.json(called).await?;
            remote.print(&worker, |worker| {
                let (node, release) = (cell(&worker["node"]), cell(&worker["version"]));
                output::line(&format!(
                    "worker {node} (release {release}) answers at {uri}; `longshore node list` shows when it is ready"
                ))
            })
        }
        Node::Remove(NodeName { node }) => {
            let removed = remote.client.json(Call::new(Method::DELETE, path("/v1/nodes/{}", &[&node]))).await?;
            remote.print(&removed, |_| {
                output::say(&format!("node {} is removed", output::plain(&node)));
                Ok(())
            })
        }
    }
}

fn list(remote: &Remote, nodes: &Value) -> anyhow::Result<()> {
    let names = ["NAME", "SHORT", "ROLES", "STATE", "OWNER", "TRANSPORT", "TASKS", "LABELS"];
    let wide = ["(ID)", "(GENERATION)", "(EPOCH)", "(ADDRESS)", "(RTT MS)", "(VERSION)"];
    let mut table = Table::new(&[&names[..], &wide[..]].concat(), remote.wide());
    for node in items(nodes) {
        let text = |name: &str| cell(&node[name]);
        table.row(vec![
            text("name"),
            text("short_id"),
            text("roles"),
            state(node),
            owner(nodes, node),
            text("transport"),
            tasks(node),
            text("labels"),
            text("id"),
            text("generation"),
            text("epoch"),
            text("address"),
            text("rtt_ms"),
            text("version"),
        ]);
    }
    table.print()
}

/// The state, and whether a second process has the node's id.
fn state(node: &Value) -> String {
    let clone = if node["clone"].is_null() { "" } else { " (CLONE)" };
    format!("{}{clone}", cell(&node["state"]))
}

/// The owner's name where the list has it.
fn owner(nodes: &Value, node: &Value) -> String {
    let owner = &node["owner"];
    let known = items(nodes).iter().find(|other| !owner.is_null() && other["id"] == *owner);
    known.map_or_else(|| cell(owner), |known| cell(&known["name"]))
}

fn tasks(node: &Value) -> String {
    match &node["tasks"] {
        Value::Array(tasks) => tasks.len().to_string(),
        other => cell(other),
    }
}

/// All fields of one record, a line each.
pub(super) fn details(record: &Value) -> anyhow::Result<()> {
    let Some(fields) = record.as_object() else { return output::json(record) };
    let width = fields.keys().map(String::len).max().unwrap_or_default();
    for (name, value) in fields {
        let text = match value {
            // Unix milliseconds.
            Value::Number(millis) if TIMES.contains(&name.as_str()) => time(millis.as_u64().unwrap_or_default()),
            Value::Array(items) if items.iter().any(Value::is_object) => value.to_string(),
            other => cell(other),
        };
        output::line(&format!("{name:<width$}  {}", output::plain(&text)))?;
    }
    Ok(())
}

/// Fields that hold a time.
const TIMES: [&str; 6] = ["since", "started", "installed", "created", "revoked", "last_used"];

/// A time as people and logs write it.
pub(super) fn time(millis: u64) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    humantime::format_rfc3339_seconds(time).to_string()
}
