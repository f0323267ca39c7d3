//! `longshore flow`: instances of flows.

use super::{Remote, items, task};
use crate::args::flow::{Flow, Instance, Start, Stop};
use crate::client::{Call, Client, path};
use crate::error::{Exit, Failed};
use crate::output::{self, Table, cell};
use longshore_wire::task::TaskState;
use serde::Deserialize as _;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// Pause between two looks while waiting.
const POLL: Duration = Duration::from_millis(200);

pub(super) async fn flow(remote: &Remote, args: Flow) -> anyhow::Result<()> {
    match args {
        Flow::Start(args) => {
            let mut instance = start(&remote.client, &args).await?;
            if args.wait {
                instance = wait(&remote.client, &instance, settled, "run").await?;
            }
            remote.print(&instance, |instance| said(instance, "started"))
        }
        Flow::List => {
            let instances = remote.client.json(Call::get("/v1/instances")).await?;
            remote.print(&instances, |instances| list(remote, instances))
        }
        Flow::Show(Instance { instance }) => {
            let instance = remote.client.json(Call::get(path("/v1/instances/{}", &[&instance]))).await?;
            remote.print(&instance, |instance| show(remote, instance))
        }
        Flow::Stop(Stop { instance: Instance { instance }, wait: patient }) => {
            let call = Call::post(path("/v1/instances/{}/stop", &[&instance]), &json!({}));
            let mut stopped = remote.client.json(call).await?;
            if patient {
                stopped = wait(&remote.client, &json!({"instance": instance}), over, "have ended").await?;
            }
            remote.print(&stopped, |_| said(&json!({"instance": instance}), "stopped"))
        }
    }
}

fn said(instance: &Value, what: &str) -> anyhow::Result<()> {
    output::say(&format!("instance {} is {what}", output::plain(&cell(&instance["instance"]))));
    Ok(())
}

/// Starts a flow.
pub(super) async fn start(client: &Client, args: &Start) -> anyhow::Result<Value> {
    let (app, flow) = args.flow.split_once('/').unwrap_or((&args.flow, "main"));
    let given: Map<String, Value> = args.args.iter().map(|(key, value)| (key.clone(), argument(value))).collect();
    if given.len() != args.args.len() {
        return Err(Failed::usage("--arg: a key stands twice").into());
    }
    let mut wish = json!({"args": given, "on": args.on});
    if let Some(name) = &args.name {
        wish["instance"] = name.clone().into();
    }
    if let Some(selector) = &args.selector {
        wish["where"] = selector.clone().into();
    }
    client.json(Call::post(path("/v1/apps/{}/flows/{}", &[app, flow]), &wish)).await
}

/// JSON if it is JSON, else text: `5` is a number, `hello` and `"5"` are texts.
fn argument(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// The state of a task out of its record.
pub(super) fn state(task: &Value) -> Option<TaskState> {
    TaskState::deserialize(&task["state"]).ok()
}

/// Whether all that should run runs, or has run.
fn settled(tasks: &[Value]) -> bool {
    let settled = |state: TaskState| state == TaskState::Running || state.is_final();
    !tasks.is_empty() && tasks.iter().all(|task| state(task).is_some_and(settled))
}

/// Whether nothing runs any more.
fn over(tasks: &[Value]) -> bool {
    tasks.iter().all(|task| state(task).is_some_and(TaskState::is_final))
}

async fn wait(client: &Client, instance: &Value, enough: fn(&[Value]) -> bool, what: &str) -> anyhow::Result<Value> {
    let name = instance["instance"].as_str().unwrap_or_default();
    let start = Instant::now();
    loop {
        let now = client.json(Call::get(path("/v1/instances/{}", &[name]))).await?;
        if enough(items(&now["tasks"])) {
            return Ok(now);
        }
        if start.elapsed() > client.timeout() {
            let why = format!("not all tasks of {name} {what}; see `longshore flow show {name}`");
            return Err(Failed::new(Exit::TimedOut, why).into());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until no task of the instance runs any more.
pub(super) async fn wait_over(client: &Client, instance: &str) -> anyhow::Result<()> {
    wait(client, &json!({"instance": instance}), over, "have ended").await.map(drop)
}

fn list(remote: &Remote, instances: &Value) -> anyhow::Result<()> {
    let names = ["INSTANCE", "APP", "VERSION", "FLOW", "ON", "WHERE", "WANTED", "TASKS"];
    let mut table = Table::new(&names, remote.wide());
    for instance in items(instances) {
        let text = |name: &str| cell(&instance[name]);
        let tasks = items(&instance["tasks"]);
        let running = tasks.iter().filter(|task| state(task) == Some(TaskState::Running)).count();
        table.row(vec![
            text("instance"),
            text("app"),
            text("version"),
            text("flow"),
            text("on"),
            text("where"),
            text("wanted"),
            format!("{running}/{} running", tasks.len()),
        ]);
    }
    table.print()
}

fn show(remote: &Remote, instance: &Value) -> anyhow::Result<()> {
    for name in ["instance", "app", "version", "flow", "on", "where", "args", "wanted"] {
        output::line(&format!("{name:<8}  {}", output::plain(&cell(&instance[name]))))?;
    }
    output::line("")?;
    task::table(remote, items(&instance["tasks"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_json_or_text() {
        assert_eq!(argument("5"), json!(5));
        assert_eq!(argument("\"5\""), json!("5"));
        assert_eq!(argument("hello world"), json!("hello world"));
        assert_eq!(argument(""), json!(""));
    }

    #[test]
    fn when_waiting_ends() {
        let tasks = |states: &[&str]| states.iter().map(|state| json!({"state": state})).collect::<Vec<_>>();
        assert!(settled(&tasks(&["running", "stopped"])) && !settled(&tasks(&["running", "pending"])));
        assert!(!settled(&[]) && over(&[]));
        assert!(!over(&tasks(&["stopping"])));
    }
}
