//! `longshore cluster events`: who comes, goes and changes, as it happens.

use super::super::{Remote, items};
use crate::args::cluster::Events as Args;
use crate::client::{Call, Event, Events, query};
use crate::error::{Exit, Failed};
use crate::output::{self, Format, cell, plain};
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) async fn events(remote: &Remote, args: &Args) -> anyhow::Result<()> {
    let follow = args.no_follow.then_some("false");
    let call = Call::get(format!("/v1/events{}", query(&[("after", args.after.as_deref()), ("follow", follow)])));
    let mut answer = remote.client.open(call).await?;
    let (mut events, mut printer) = (Events::default(), Printer { format: remote.format, ..Printer::default() });
    let broken = |last: &str| {
        let again = if last.is_empty() { String::new() } else { format!("; to go on: --after {last}") };
        Failed::new(Exit::Unreachable, format!("the stream of events has ended{again}"))
    };
    while let Some(chunk) = answer.chunk().await.map_err(|_| broken(&printer.last))? {
        for event in events.feed(&chunk)? {
            if event.name == "cut_off" {
                return Err(Failed::new(Exit::Failed, cell(&event.data["detail"])).into());
            }
            printer.print(&event)?;
        }
    }
    if args.no_follow { Ok(()) } else { Err(broken(&printer.last).into()) }
}

/// Prints one line per event.
struct Printer {
    format: Format,
    /// Names of nodes by id, for owners.
    names: BTreeMap<String, String>,
    last: String,
}

impl Default for Printer {
    fn default() -> Self {
        Self { format: Format::Table, names: BTreeMap::new(), last: String::new() }
    }
}

impl Printer {
    fn print(&mut self, event: &Event) -> anyhow::Result<()> {
        event.id.clone_into(&mut self.last);
        if self.format == Format::Json {
            let mut line = serde_json::json!({"event": event.name, "id": event.id});
            if let (Some(line), Some(data)) = (line.as_object_mut(), event.data.as_object()) {
                line.extend(data.clone());
            }
            return output::line(&line.to_string());
        }
        let nodes = items(&event.data["nodes"]);
        for node in nodes.iter().chain([&event.data["node"]]).filter(|node| node["name"].is_string()) {
            self.names.insert(cell(&node["id"]), cell(&node["name"]));
        }
        match event.name.as_str() {
            "snapshot" => {
                let (count, applied) = (nodes.len(), cell(&event.data["applied"]));
                let why = cell(&event.data["reason"]);
                self.line(event, &format!("{count} nodes, log applied to {applied} ({why})"))?;
                nodes.iter().try_for_each(|node| self.line(event, &format!("  {}", self.node(node))))
            }
            "resumed" => self.line(event, "what has happened since"),
            _ => self.line(event, &self.change(event)),
        }
    }

    fn line(&self, event: &Event, text: &str) -> anyhow::Result<()> {
        output::line(&plain(&format!("{:<10} {:<8} {text}", event.id, event.name)))
    }

    fn change(&self, event: &Event) -> String {
        let (data, node) = (&event.data, self.node(&event.data["node"]));
        match event.name.as_str() {
            "left" => format!("{node} ({})", cell(&data["reason"])),
            "state" => format!("{node} (was {})", cell(&data["before"])),
            "role" => format!("{node}: {} (was {})", cell(&data["role"]), cell(&data["before"])),
            "owner" => format!("{node} (was {})", self.name(&data["before"]["owner"])),
            "leader" => format!("{node} leads in term {} (was {})", cell(&data["term"]), self.name(&data["before"])),
            _ => node,
        }
    }

    fn node(&self, node: &Value) -> String {
        let text = |name: &str| cell(&node[name]);
        if node["name"].is_null() {
            return text("id");
        }
        let owner = if node["owner"].is_null() { String::new() } else { format!(" at {}", self.name(&node["owner"])) };
        let role = if node["role"].is_null() { String::new() } else { format!(" {}", text("role")) };
        format!("{} #{}.{} {}{role}{owner}", text("name"), text("short_id"), text("generation"), text("state"))
    }

    fn name(&self, id: &Value) -> String {
        self.names.get(&cell(id)).cloned().unwrap_or_else(|| cell(id))
    }
}
