//! The output of all tasks of an instance, each line behind its node's name; and when they have ended.

use crate::args::local::Dev;
use crate::client::{Call, Client, path, query};
use crate::commands::{flow, items};
use crate::error::Failed;
use crate::output;
use longshore_wire::task::TaskState;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::task::JoinSet;

/// Pause between two looks at the tasks.
const POLL: Duration = Duration::from_millis(200);
/// What is still under way when all tasks have ended comes within this time.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Follows until the tasks have ended, where that is wanted; else for ever.
pub(super) async fn follow(client: &Client, instance: &str, args: &Dev) -> anyhow::Result<()> {
    let mut followed = BTreeSet::new();
    let mut told = BTreeMap::new();
    let mut followers = JoinSet::new();
    let width = "worker-".len() + args.workers.to_string().len();
    loop {
        let tasks = client.json(Call::get(format!("/v1/tasks{}", query(&[("instance", Some(instance))])))).await?;
        for task in items(&tasks) {
            let Some(name) = task["task"].as_str() else { continue };
            let message = task["message"].as_str().unwrap_or_default();
            if told.insert(name.to_owned(), message.to_owned()).unwrap_or_default() != message && !message.is_empty() {
                output::say(&format!("{}: {}", node_name(task), output::plain(message)));
            }
            // One that fails at once is hardly ever seen running: it is pending, but has an exit code.
            let began = flow::state(task) != Some(TaskState::Pending) || !task["exit_code"].is_null();
            if began && followed.insert(name.to_owned()) {
                let prefix = format!("{:<width$} | ", node_name(task));
                followers.spawn(print(client.clone(), name.to_owned(), prefix));
            }
        }
        while let Some(ended) = followers.try_join_next() {
            ended??;
        }
        if args.once
            && let Some(code) = ended(items(&tasks), usize::from(args.workers))
        {
            return last_words(followers, code).await;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The name of a task's node.
fn node_name(task: &Value) -> String {
    let name = if task["node_name"].is_null() { &task["node"] } else { &task["node_name"] };
    output::plain(&output::cell(name))
}

/// The common exit code once all tasks have ended: the first that is not 0.
fn ended(tasks: &[Value], wanted: usize) -> Option<u8> {
    let over = |task: &Value| flow::state(task).is_some_and(TaskState::is_final);
    if tasks.len() < wanted || !tasks.iter().all(over) {
        return None;
    }
    Some(tasks.iter().map(exit_code).find(|code| *code != 0).unwrap_or_default())
}

/// A task that could not be run at all has no code, and did not succeed.
fn exit_code(task: &Value) -> u8 {
    match task["exit_code"].as_u64() {
        Some(code) => u8::try_from(code).unwrap_or(u8::MAX),
        None => u8::from(flow::state(task) != Some(TaskState::Stopped)),
    }
}

async fn last_words(mut followers: JoinSet<anyhow::Result<()>>, code: u8) -> anyhow::Result<()> {
    let all = async { while followers.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_WORDS, all).await.is_err() {
        output::say("the last lines of a task may be missing");
    }
    if code == 0 { Ok(()) } else { Err(Failed::with_code(code).into()) }
}

/// Prints the output of one task until it ends; only a broken standard output is an error.
async fn print(client: Client, task: String, prefix: String) -> anyhow::Result<()> {
    let mut tail = None;
    loop {
        let query = query(&[("follow", Some("true")), ("tail", tail)]);
        // Without an answer its worker has just not begun, or is between two sessions.
        if let Ok(mut answer) = client.open(Call::get(path("/v1/tasks/{}/logs", &[&task]) + &query)).await {
            let mut lines = Lines { prefix: &prefix, partial: Vec::new() };
            loop {
                match answer.chunk().await {
                    Ok(Some(chunk)) => lines.print(&chunk)?,
                    Ok(None) => return lines.end(),
                    Err(_) => break,
                }
            }
            lines.end()?;
            // What came before the break is printed already.
            tail = Some("0");
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Cuts pieces into lines.
struct Lines<'a> {
    prefix: &'a str,
    partial: Vec<u8>,
}

impl Lines<'_> {
    fn print(&mut self, chunk: &[u8]) -> anyhow::Result<()> {
        self.partial.extend_from_slice(chunk);
        let Some(last) = self.partial.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let rest = self.partial.split_off(last + 1);
        let whole = std::mem::replace(&mut self.partial, rest);
        let mut text = Vec::new();
        for line in whole.split_inclusive(|byte| *byte == b'\n') {
            text.extend_from_slice(self.prefix.as_bytes());
            text.extend_from_slice(line);
        }
        output::raw(&text)
    }

    fn end(&mut self) -> anyhow::Result<()> {
        if self.partial.is_empty() { Ok(()) } else { self.print(b"\n") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_common_exit_code() {
        let task = |state: &str, code: Value| json!({"state": state, "exit_code": code});
        assert_eq!(ended(&[task("stopped", json!(0))], 2), None);
        assert_eq!(ended(&[task("stopped", json!(0)), task("running", Value::Null)], 2), None);
        assert_eq!(ended(&[task("stopped", json!(0)), task("failed", json!(3))], 2), Some(3));
        assert_eq!(ended(&[task("failed", Value::Null)], 1), Some(1));
        assert_eq!(ended(&[task("stopped", Value::Null)], 1), Some(0));
    }
}
