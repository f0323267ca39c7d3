//! `longshore kv watch`: changes as lines. Goes on behind the last one that it has seen when the connection breaks.

use crate::args::kv::Watch;
use crate::client::{Call, Event, Events, query};
use crate::commands::Remote;
use crate::error::{Exit, Failed};
use crate::output::{self, Format, cell};
use serde_json::Value;
use std::time::{Duration, Instant};

/// The API gives a sign of life every 10 s.
const SILENCE: Duration = Duration::from_secs(30);
/// Time between attempts to come back.
const PAUSE: Duration = Duration::from_millis(200);

/// How far a watch has come.
struct Progress {
    /// Where to go on.
    last: Option<u64>,
    /// Changes that are still wanted.
    wanted: Option<u64>,
    /// When the API was heard last.
    heard: Instant,
}

pub(super) async fn watch(remote: &Remote, args: &Watch) -> anyhow::Result<()> {
    let mut progress = Progress { last: None, wanted: args.count, heard: Instant::now() };
    loop {
        let failure = match follow(remote, args, &mut progress).await {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        let passing = failure.downcast_ref::<Failed>().is_some_and(Failed::is_passing);
        if progress.last.is_none() || !passing || progress.heard.elapsed() > remote.client.timeout() {
            return Err(failure);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Prints events until enough have come or the connection breaks.
async fn follow(remote: &Remote, args: &Watch, progress: &mut Progress) -> anyhow::Result<()> {
    let from = args.from.map(|from| from.to_string());
    let query = query(&[("prefix", Some(&args.prefix)), ("from", from.as_deref())]);
    let call = Call::get(format!("/v1/kv/watch{query}"));
    let call = match progress.last {
        Some(last) => call.header("last-event-id", &last.to_string()),
        None => call,
    };
    let mut answer = remote.client.open(call).await?;
    let mut events = Events::default();
    let broken = || Failed::new(Exit::Unreachable, "the watch broke off, and nobody goes on with it");
    loop {
        let piece = match tokio::time::timeout(SILENCE, answer.chunk()).await {
            Ok(Ok(Some(piece))) => piece,
            Ok(Ok(None) | Err(_)) | Err(_) => return Err(broken().into()),
        };
        progress.heard = Instant::now();
        for event in events.feed(&piece)? {
            let first = progress.last.is_none();
            progress.last = event.id.parse().ok().or(progress.last);
            if show(remote, &event, first)? && progress.is_enough() {
                return Ok(());
            }
        }
    }
}

impl Progress {
    /// Counts a change; whether it was the last one wanted.
    fn is_enough(&mut self) -> bool {
        self.wanted = self.wanted.map(|wanted| wanted.saturating_sub(1));
        self.wanted == Some(0)
    }
}

/// Prints an event; whether it is a change.
fn show(remote: &Remote, event: &Event, first: bool) -> anyhow::Result<bool> {
    let revision = cell(&event.data["revision"]);
    match event.name.as_str() {
        "put" | "delete" | "gap" => {
            output::line(&line(remote.format, event, &revision))?;
            Ok(event.name != "gap")
        }
        "start" if first => {
            output::say(&format!("watching behind revision {revision}"));
            Ok(false)
        }
        _ => Ok(false),
    }
}

fn line(format: Format, Event { name, data, .. }: &Event, revision: &str) -> String {
    let text = |field: &str| output::plain(data[field].as_str().unwrap_or_default());
    match (format, name.as_str()) {
        (Format::Json, _) => {
            let mut data = data.clone();
            if let Value::Object(fields) = &mut data {
                fields.insert("event".to_owned(), name.as_str().into());
            }
            data.to_string()
        }
        (_, "put") => format!("{revision} put {} {}", text("key"), text("value")),
        (_, "delete") => format!("{revision} delete {}", text("key")),
        (_, _) => format!("{revision} gap: changes up to here may be missing; list the keys"),
    }
}
