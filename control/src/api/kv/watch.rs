//! `GET /v1/kv/watch`: changes as server-sent events (WHATWG HTML §9.2).
//!
//! | event | data | meaning |
//! |---|---|---|
//! | `start` | `{revision}` | all behind this revision follows |
//! | `put` | the entry | a key was written |
//! | `delete` | `{key, revision, lease}` | a key was deleted |
//! | `progress` | `{revision}` | all up to here has been told |
//! | `gap` | `{revision}` | changes up to here may be missing: list the keys, then go on |
//!
//! The id of an event is its revision; a reader that comes back sends it as `Last-Event-ID` and goes on behind it. Nothing
//! is queued for a reader that does not read: it gets a gap once the history has forgotten what it lacks.

use super::super::problem::Problem;
use super::super::sse::{self, LAST, event};
use super::super::{Answer, Api};
use super::described;
use crate::kv::{Seen, Watch};
use axum::http::HeaderMap;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use longshore_state::KvRecord;
use longshore_wire::kv::Consistency;
use serde_json::json;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A sign of life comes at least so often.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

pub(super) async fn watch(
    api: &Api,
    prefix: String,
    from: Option<u64>,
    consistency: Consistency,
    headers: &HeaderMap,
) -> Answer {
    let last = headers.get(LAST).map(|value| value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok()));
    let from = match last {
        None => from,
        Some(Some(last)) => Some(last.saturating_add(1)),
        Some(None) => return Err(Problem::invalid(format!("{LAST} is not a revision (a whole number)"))),
    };
    let watch = api.kv.watch(prefix, from, consistency).await?;
    let start = event("start", watch.position(), &json!({"revision": watch.position()}));
    let told = watch.position();
    let head = stream::iter([Bytes::from(start)]);
    let rest = stream::unfold((watch, told, api.stop.clone()), |(mut watch, told, stop)| async move {
        let (text, told) = more(&mut watch, told, &stop).await?;
        Some((Bytes::from(text), (watch, told, stop)))
    });
    Ok(sse::response(head.chain(rest)))
}

/// The next events, and the revision that they tell last; `None` when the node stops.
async fn more(watch: &mut Watch, told: u64, stop: &CancellationToken) -> Option<(String, u64)> {
    let deadline = tokio::time::Instant::now() + KEEP_ALIVE;
    loop {
        let seen = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            () = tokio::time::sleep_until(deadline) => break,
            seen = watch.next() => seen,
        };
        match seen {
            // A position of its own is told with the next sign of life.
            Seen::Changes(changes) if changes.is_empty() => tokio::task::yield_now().await,
            Seen::Changes(changes) => {
                let last = changes.last().map_or(told, |change| change.revision());
                let text = changes.into_iter().map(|change| changed(&change)).collect();
                return Some((text, last));
            }
            Seen::Gap(revision) => return Some((event("gap", revision, &json!({"revision": revision})), revision)),
        }
    }
    let position = watch.position();
    match position > told {
        true => Some((event("progress", position, &json!({"revision": position})), position)),
        false => Some((": keep-alive\n\n".to_owned(), told)),
    }
}

fn changed(change: &KvRecord) -> String {
    match change.entry() {
        Some(entry) => event("put", change.revision(), &described(entry)),
        None => {
            let data = json!({"key": change.key(), "revision": change.revision(), "lease": change.lease()});
            event("delete", change.revision(), &data)
        }
    }
}
