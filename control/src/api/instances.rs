//! `/v1/instances`, and the start of flows.

use super::problem::Problem;
use super::read::{Asked, Freshness, asked, json};
use super::{Answer, Api, tasks};
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use bytes::Bytes;
use longshore_state::{Command, Instance, InstanceSpec, On, State};
use longshore_wire::{Code, Failure};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Body of a start.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    instance: Option<String>,
    #[serde(default)]
    args: BTreeMap<String, Value>,
    on: Option<Value>,
    #[serde(default, rename = "where")]
    selector: Option<String>,
    #[serde(default)]
    paused: bool,
}

pub(super) async fn start(api: Api, Path((app, flow)): Path<(String, String)>, body: Bytes) -> Answer {
    let Wish { instance, args, on, selector, paused } = json(&body)?;
    if paused {
        return Err(Problem::unsupported("starting a flow paused is not there yet in this release"));
    }
    let instance = instance.unwrap_or_else(|| flow.clone());
    let spec = InstanceSpec {
        instance: instance.clone(),
        app,
        flow,
        args,
        on: wanted_on(on.as_ref())?,
        selector: selector.unwrap_or_default(),
    };
    api.group.propose_one(Command::StartInstance(spec)).await?;
    let state = api.read_after_write().await;
    match state.instance(&instance) {
        Some(instance) => Ok((StatusCode::CREATED, axum::Json(describe(&state, instance))).into_response()),
        None => Ok((StatusCode::CREATED, axum::Json(json!({"instance": instance}))).into_response()),
    }
}

/// `all`, `one` or a number, as text or as a JSON number; nothing = `all`.
fn wanted_on(on: Option<&Value>) -> Result<On, Problem> {
    let text = match on {
        None | Some(Value::Null) => return Ok(On::All),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(other) => return Err(Problem::invalid(format!("on: {other} is neither a text nor a number"))),
    };
    if text.starts_with("vnodes:") {
        return Err(Problem::unsupported("on: vnodes are not there yet in this release; use all, one or a number"));
    }
    text.parse().map_err(|error| Problem::invalid(format!("on: {error}")))
}

pub(super) async fn list(api: Api, query: Asked<Freshness>) -> Answer {
    let state = api.read(asked(query)?.consistency).await?;
    let instances: Vec<Value> = state.instances().map(|instance| describe(&state, instance)).collect();
    Ok(axum::Json(instances).into_response())
}

pub(super) async fn show(api: Api, Path(instance): Path<String>, query: Asked<Freshness>) -> Answer {
    let state = api.read(asked(query)?.consistency).await?;
    let instance = state.instance(&instance).ok_or_else(|| not_found(&instance))?;
    Ok(axum::Json(describe(&state, instance)).into_response())
}

/// Verbs take no body, or an empty object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

pub(super) async fn act(api: Api, Path((instance, verb)): Path<(String, String)>, body: Bytes) -> Answer {
    let Nothing {} = json(&body)?;
    match verb.as_str() {
        "stop" => (),
        "pause" | "resume" => {
            return Err(Problem::unsupported(format!(
                "'{verb}' is not there yet in this release; stop and start instead"
            )));
        }
        other => return Err(Failure::new(Code::NotFound, format!("instances cannot '{other}'")).into()),
    }
    api.group.propose_one(Command::StopInstance { instance: instance.clone() }).await?;
    let state = api.read_after_write().await;
    let answer = state.instance(&instance).map(|instance| describe(&state, instance));
    Ok(axum::Json(answer.unwrap_or_else(|| json!({"instance": instance, "wanted": "stopped", "tasks": []})))
        .into_response())
}

fn not_found(instance: &str) -> Failure {
    Failure::new(Code::NotFound, format!("there is no instance '{instance}'; see `longshore flow list`"))
}

fn describe(state: &State, instance: &Instance) -> Value {
    let tasks: Vec<Value> = state.tasks_of_instance(&instance.name).map(|task| tasks::describe(state, task)).collect();
    json!({
        "instance": instance.name,
        "app": instance.app,
        "version": instance.version,
        "flow": instance.flow,
        "on": instance.on,
        "where": instance.selector,
        "args": instance.args,
        "wanted": instance.wanted.name(),
        "started": instance.started_ms,
        "tasks": tasks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_how_many() {
        let read = |on: Value| wanted_on(Some(&on)).map(|on| on.to_string()).map_err(|problem| problem.status());
        assert_eq!(wanted_on(None).unwrap(), On::All);
        assert_eq!(read(json!("one")).unwrap(), "one");
        assert_eq!(read(json!(3)).unwrap(), "3");
        assert_eq!(read(json!("vnodes:8")).unwrap_err(), StatusCode::NOT_IMPLEMENTED);
        for wrong in [json!("some"), json!(0), json!(-1), json!([]), json!(1.5)] {
            assert_eq!(read(wrong).unwrap_err(), StatusCode::BAD_REQUEST);
        }
    }
}
