//! `/v1/credentials`: verifiers come in, and never go out again; a secret never comes this way.

use super::problem::Problem;
use super::read::{Asked, Freshness, asked, json};
use super::{Answer, Api, Context};
use crate::credentials::Report;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use bytes::Bytes;
use longshore_state::{Command, Credential, Holder, Reply, State, StoredSecret};
use longshore_wire::credential::Verifier;
use longshore_wire::kv::Consistency;
use longshore_wire::{Code, Failure, NodeId, Role};
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) async fn list(api: Api, query: Asked<Freshness>) -> Answer {
    let state = api.read(asked(query)?.consistency).await?;
    let report = api.credentials.everywhere(None).await;
    let all: Vec<Value> = state.credentials().map(|each| describe(&state, each, &report)).collect();
    Ok(axum::Json(all).into_response())
}

pub(super) async fn show(api: Api, Path(credential): Path<String>, query: Asked<Freshness>) -> Answer {
    let state = api.read(asked(query)?.consistency).await?;
    let credential = find(&state, &credential)?;
    let report = api.credentials.everywhere(Some(&credential.name)).await;
    let mut shown = describe(&state, credential, &report);
    // Everybody who knocks is told both; whoever adds a secret derives it with them.
    let derivation = credential.secrets.last().map(|secret| &secret.verifier);
    shown["salt"] = json!(derivation.map(|verifier| &verifier.salt));
    shown["iterations"] = json!(derivation.map(|verifier| verifier.iterations));
    let nodes: Vec<Value> = credential
        .secrets
        .iter()
        .map(
            |secret| json!({"secret": secret.number, "nodes": users(&state, &report, &credential.name, secret.number)}),
        )
        .collect();
    shown["in_use"] = Value::from(nodes);
    Ok(axum::Json(shown).into_response())
}

/// Body of a new credential.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    verifier: Verifier,
    /// A node that is there, by name or id; or the name of one that is still to come.
    node: Option<String>,
}

pub(super) async fn create(api: Api, body: Bytes) -> Answer {
    let New { verifier, node } = json(&body)?;
    let name = verifier.credential.clone();
    let holder = match node {
        None => None,
        Some(node) => Some(holder(&*api.read(Consistency::Linearizable).await?, verifier.role, &node)?),
    };
    api.group.propose_one(Command::CreateCredential { verifier, holder }).await?;
    let state = api.read_after_write().await;
    let made = describe(&state, find(&state, &name)?, &Report::default());
    Ok((StatusCode::CREATED, axum::Json(made)).into_response())
}

/// Whom an operator means: a node that is there, else one that will have this name.
fn holder(state: &State, role: Role, text: &str) -> Result<Holder, Problem> {
    match state.find_node(text) {
        Ok(node) if node.roles.contains(&role) => Ok(Holder::Node(node.id)),
        Ok(node) => Err(Problem::invalid(format!("node '{}' is no {role} node", node.name))),
        Err(failure) if failure.code != Code::NotFound => Err(failure.into()),
        Err(_) => match text.parse::<NodeId>() {
            // Never a name: who writes an id means that very node.
            Ok(id) => Err(Failure::new(Code::NotFound, format!("no node {id}; see `longshore node list`")).into()),
            Err(_) => Ok(Holder::Awaited(node_name(text)?)),
        },
    }
}

fn node_name(text: &str) -> Result<String, Problem> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(fine) {
        return Ok(text.to_owned());
    }
    Err(Problem::invalid("node: a name of a node is 1 to 64 of letters, digits, - _ ."))
}

/// Body of a rotation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Another {
    verifier: Verifier,
}

pub(super) async fn act(api: Api, Path((credential, verb)): Path<(String, String)>, body: Bytes) -> Answer {
    match verb.as_str() {
        "rotate" => rotate(&api, &credential, &body).await,
        "finish" => finish(&api, &credential).await,
        "revoke" => revoke(&api, &credential).await,
        other => Err(Failure::new(Code::NotFound, format!("credentials cannot '{other}'")).into()),
    }
}

async fn rotate(api: &Context, name: &str, body: &Bytes) -> Answer {
    let Another { verifier } = json(body)?;
    if verifier.credential != name {
        return Err(Problem::invalid(format!("the verifier is for credential '{}'", verifier.credential)));
    }
    let reply = api.group.propose_one(Command::AddSecret { verifier }).await?;
    let number = if let Reply::Secret { number } = reply { Some(number) } else { None };
    Ok(axum::Json(json!({"credential": name, "secret_number": number, "valid": 2})).into_response())
}

async fn finish(api: &Context, name: &str) -> Answer {
    let state = api.read(Consistency::Linearizable).await?;
    let credential = find(&state, name)?;
    let valid: Vec<&StoredSecret> = credential.valid().collect();
    let [older, newer] = valid.as_slice() else {
        let message = format!("credential '{name}' has {} valid secret; there is no rotation to finish", valid.len());
        return Err(Failure::new(Code::Conflict, message).into());
    };
    api.credentials.spares_the_group(credential, |secret| secret != newer.number).await?;
    let report = api.credentials.everywhere(Some(name)).await;
    let (cut, sessions) = (users(&state, &report, name, older.number), report.sessions(name, older.number));
    let command = Command::RetireSecret { credential: name.to_owned(), secret: older.number };
    api.group.propose_one(command).await?;
    let done =
        json!({"credential": name, "retired": older.number, "valid": 1, "nodes_cut": cut, "sessions_cut": sessions});
    Ok(axum::Json(done).into_response())
}

async fn revoke(api: &Context, name: &str) -> Answer {
    let state = api.read(Consistency::Linearizable).await?;
    let credential = find(&state, name)?;
    api.credentials.spares_the_group(credential, |_| true).await?;
    let report = api.credentials.everywhere(Some(name)).await;
    let sessions: u64 = credential.secrets.iter().map(|secret| report.sessions(name, secret.number)).sum();
    api.group.propose_one(Command::RevokeCredential { credential: name.to_owned() }).await?;
    Ok(axum::Json(json!({"credential": name, "revoked": true, "sessions_cut": sessions})).into_response())
}

fn find<'a>(state: &'a State, name: &str) -> Result<&'a Credential, Problem> {
    let missing = || Failure::new(Code::NotFound, format!("no credential '{name}'; see `longshore credential list`"));
    Ok(state.credential(name).ok_or_else(missing)?)
}

fn describe(state: &State, credential: &Credential, report: &Report) -> Value {
    let name = &credential.name;
    let (node, awaits) = match &credential.holder {
        None => (None, None),
        Some(Holder::Node(node)) => (Some(*node), None),
        Some(Holder::Awaited(awaited)) => (None, Some(awaited)),
    };
    let secrets: Vec<Value> = credential
        .secrets
        .iter()
        .map(|secret| {
            json!({
                "secret": secret.number,
                "created": secret.created_ms,
                "retired": secret.retired_ms,
                "sessions": report.sessions(name, secret.number),
                "last_used": report.last_used(name, secret.number),
            })
        })
        .collect();
    json!({
        "credential": name,
        "role": credential.role,
        "node": node,
        "node_name": node.and_then(|node| state.node(node)).map(|node| &node.name),
        "awaits": awaits,
        "created": credential.created_ms,
        "revoked": credential.revoked_ms,
        "valid": credential.valid().count(),
        "sessions": credential.secrets.iter().map(|secret| report.sessions(name, secret.number)).sum::<u64>(),
        "last_used": credential.secrets.iter().filter_map(|secret| report.last_used(name, secret.number)).max(),
        "secrets": secrets,
    })
}

fn users(state: &State, report: &Report, credential: &str, secret: u32) -> Vec<String> {
    let name = |node: NodeId| state.node(node).map_or_else(|| node.to_string(), |node| node.name.clone());
    report.nodes(credential, secret).into_iter().map(name).collect()
}
