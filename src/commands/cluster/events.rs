//! `longshore cluster events`: who comes, goes and changes, as it happens.

use super::super::{Remote, items};
use crate::args::cluster::Events;
use crate::client::{Call, query};
use crate::error::{Exit, Failed};
use crate::output::{self, Format, cell, plain};
use serde_json::Value;
use std::collections::BTreeMap;

/// Most bytes of one event: a snapshot of a hundred thousand nodes.
const MAX_EVENT: usize = 64 * 1024 * 1024;

pub(super) async fn events(remote: &Remote, args: &Events) -> anyhow::Result<()> {
    let follow = args.no_follow.then_some("false");
    let call = Call::get(format!("/v1/events{}", query(&[("after", args.after.as_deref()), ("follow", follow)])));
    let mut answer = remote.client.open(call).await?;
    let (mut parser, mut printer) = (Parser::default(), Printer { format: remote.format, ..Printer::default() });
    let broken = |last: &str| {
        let again = if last.is_empty() { String::new() } else { format!("; to go on: --after {last}") };
        Failed::new(Exit::Unreachable, format!("the stream of events has ended{again}"))
    };
    while let Some(chunk) = answer.chunk().await.map_err(|_| broken(&printer.last))? {
        parser.add(&chunk)?;
        while let Some(event) = parser.next()? {
            if event.name == "cut_off" {
                return Err(Failed::new(Exit::Failed, cell(&event.data["detail"])).into());
            }
            printer.print(&event)?;
        }
    }
    if args.no_follow { Ok(()) } else { Err(broken(&printer.last).into()) }
}

/// One event of the stream.
#[derive(Debug, Default, PartialEq)]
struct Event {
    name: String,
    id: String,
    data: Value,
}

/// Takes events out of a byte stream (WHATWG HTML §9.2.6), as far as control nodes write them.
#[derive(Default)]
struct Parser {
    bytes: Vec<u8>,
}

impl Parser {
    fn add(&mut self, chunk: &[u8]) -> anyhow::Result<()> {
        anyhow::ensure!(self.bytes.len() + chunk.len() <= MAX_EVENT, "an event is longer than {MAX_EVENT} bytes");
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// The next whole event; comments are passed over.
    fn next(&mut self) -> anyhow::Result<Option<Event>> {
        while let Some(end) = self.bytes.windows(2).position(|two| two == b"\n\n") {
            let block: Vec<u8> = self.bytes.drain(..end + 2).collect();
            let mut event = Event::default();
            for line in String::from_utf8_lossy(&block).lines() {
                match line.split_once(": ") {
                    Some(("event", name)) => name.clone_into(&mut event.name),
                    Some(("id", id)) => id.clone_into(&mut event.id),
                    Some(("data", data)) => event.data = serde_json::from_str(data)?,
                    _ => (),
                }
            }
            if !event.name.is_empty() {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_come_in_any_pieces() {
        let stream =
            b"event: joined\nid: 3.1\ndata: {\"a\":1}\n\n: alive\n\nevent: left\nid: 4.1\ndata: {}\n\nevent: le";
        for size in 1..stream.len() {
            let (mut parser, mut found) = (Parser::default(), Vec::new());
            for chunk in stream.chunks(size) {
                parser.add(chunk).unwrap();
                while let Some(event) = parser.next().unwrap() {
                    found.push(event);
                }
            }
            let joined = Event { name: "joined".into(), id: "3.1".into(), data: json!({"a": 1}) };
            assert_eq!(found, [joined, Event { name: "left".into(), id: "4.1".into(), data: json!({}) }]);
        }
    }
}
