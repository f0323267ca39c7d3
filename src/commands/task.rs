//! `longshore task` and `longshore request`: what runs on the workers, and a word with one of them.

use super::{Remote, items, node};
use crate::args::task::{Logs, Outcome, Request, Task};
use crate::client::{Call, path, query};
use crate::error::{Exit, Failed};
use crate::output::{self, Format, Table, cell};
use longshore_wire::RequestId;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

pub(super) async fn task(remote: &Remote, args: Task) -> anyhow::Result<()> {
    match args {
        Task::List { instance, node } => {
            let query = query(&[("instance", instance.as_deref()), ("node", node.as_deref())]);
            let tasks = remote.client.json(Call::get(format!("/v1/tasks{query}"))).await?;
            remote.print(&tasks, |tasks| table(remote, items(tasks)))
        }
        Task::Show { task } => {
            let task = remote.client.json(Call::get(path("/v1/tasks/{}", &[&task]))).await?;
            remote.print(&task, node::details)
        }
        Task::Logs(args) => logs(remote, &args).await,
    }
}

/// The table of tasks. Reasons are shown where there are any: without them a pause before a restart looks like a task that
/// nobody has heard of.
pub(super) fn table(remote: &Remote, tasks: &[Value]) -> anyhow::Result<()> {
    let message = if tasks.iter().any(|task| task["message"].is_string()) { "MESSAGE" } else { "(MESSAGE)" };
    let names = ["TASK", "NODE", "STATE", "RESTARTS", "EXIT", "AGE", message];
    let mut table = Table::new(&names, remote.wide());
    for task in tasks {
        let text = |name: &str| cell(&task[name]);
        let node = if task["node_name"].is_null() { text("node") } else { text("node_name") };
        let age = age(&task["since"]);
        table.row(vec![text("task"), node, text("state"), text("restarts"), text("exit_code"), age, text("message")]);
    }
    table.print()
}

/// How long ago, in the largest units that matter; a time comes in Unix milliseconds, anything else is shown as it is.
fn age(value: &Value) -> String {
    let Some(millis) = value.as_u64() else { return cell(value) };
    let then = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    let seconds = then.elapsed().unwrap_or_default().as_secs();
    humantime::format_duration(Duration::from_secs(seconds))
        .to_string()
        .split(' ')
        .take(2)
        .collect::<Vec<_>>()
        .join(" ")
}

async fn logs(remote: &Remote, args: &Logs) -> anyhow::Result<()> {
    let tail = args.tail.map(|tail| tail.to_string());
    let query = query(&[("follow", args.follow.then_some("true")), ("tail", tail.as_deref())]);
    let mut answer = remote.client.open(Call::get(path("/v1/tasks/{}/logs", &[&args.task]) + &query)).await?;
    let broken = |_| {
        let what =
            format!("the output of {} broke off: the session with its worker or with the API has ended", args.task);
        Failed::new(Exit::Unreachable, format!("{what}; run the command again"))
    };
    while let Some(chunk) = answer.chunk().await.map_err(broken)? {
        output::raw(&chunk)?;
    }
    Ok(())
}

pub(super) async fn request(remote: &Remote, args: Request) -> anyhow::Result<()> {
    let id = RequestId::from_u128(ulid::Ulid::generate().into());
    let wish = json!({"class": args.class, "body": args.json, "timeout_ms": millis(remote), "id": id});
    let call = Call::post(path("/v1/nodes/{}/request", &[&args.node]), &wish);
    match remote.client.json(call).await {
        Ok(answer) => remote.print(&answer, |answer| {
            let reply = if answer["reply"].is_null() { &answer["reply_base64"] } else { &answer["reply"] };
            output::json(reply)
        }),
        Err(error) => Err(refused(remote, &args, id, error)?),
    }
}

/// Time for the worker: the API's answer, that nobody knows, must still come within ours.
fn millis(remote: &Remote) -> u64 {
    let timeout = remote.client.timeout();
    u64::try_from((timeout - timeout / 20).as_millis()).unwrap_or(u64::MAX)
}

/// Programs want to know whether a request that failed was carried out; people read it in the sentence.
fn refused(remote: &Remote, args: &Request, id: RequestId, error: anyhow::Error) -> anyhow::Result<anyhow::Error> {
    let Some(failed) = error.downcast_ref::<Failed>() else { return Ok(error) };
    let Some(outcome) = failed.outcome() else {
        return Ok(match failed.is_doubtful() {
            true => failed.advising(&format!("to ask later: `longshore outcome {} {id}`", args.node)).into(),
            false => error,
        });
    };
    if remote.format != Format::Json {
        return Ok(error);
    }
    let (node, class) = (&args.node, &args.class);
    output::json(&json!({"node": node, "class": class, "id": id, "outcome": outcome, "error": failed.to_string()}))?;
    Ok(failed.silent().into())
}

pub(super) async fn outcome(remote: &Remote, args: &Outcome) -> anyhow::Result<()> {
    let query = query(&[("boot", args.boot.as_deref())]);
    let call = Call::get(path("/v1/nodes/{}/requests/{}", &[&args.node, &args.id]) + &query);
    let answer = remote.client.json(call).await?;
    remote.print(&answer, |answer| {
        let known = match answer["outcome"].as_str() {
            Some("done") if answer["error"].is_object() => {
                return output::line(&format!("it was answered with a failure: {}", cell(&answer["error"]["detail"])));
            }
            Some("done") if answer["reply"].is_null() => return output::json(&answer["reply_base64"]),
            Some("done") => return output::json(&answer["reply"]),
            Some("running") => "the worker still works on it",
            Some("not_done") => "not done: it never came to the worker, and is refused if it still comes",
            _ => "unknown: the worker was started anew since, or has forgotten it",
        };
        output::line(known)
    })
}
