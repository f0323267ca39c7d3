//! `/v1/events`: the membership as it is, then what becomes of it, as server-sent events (WHATWG HTML §9.2).
//!
//! Each reader has a place in the node's journal and nothing else: there is no queue that could fill. A reader that reads
//! too slowly falls behind the journal's beginning and is cut off with a notice; one that does not read at all holds up
//! nothing but its own connection.

use super::problem::Problem;
use super::read::{Asked, asked};
use super::{Answer, Api, sse};
use crate::machine::{Cursor, Event, Gap, Journal, Part, Picture, What};
use crate::raft::Group;
use axum::http::HeaderMap;
use bytes::Bytes;
use futures_util::stream;
use longshore_state::{Change, Parting, Standing};
use longshore_wire::{Code, Epoch, Failure, NodeId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A comment is sent after so long without events, so that no proxy takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Most events in one piece of the body: what a reader that does not read makes this node hold.
const PIECE: usize = 256;

/// Most readers at one node.
const MAX_READERS: usize = 4096;

/// Who reads the events at this node.
#[derive(Debug)]
pub(crate) struct Readers {
    places: Arc<Semaphore>,
    cut_off: Arc<AtomicU64>,
}

impl Default for Readers {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_READERS)), cut_off: Arc::default() }
    }
}

impl Readers {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        MAX_READERS - self.places.available_permits()
    }

    /// How many were cut off because they read too slowly.
    pub(super) fn cut_off(&self) -> u64 {
        self.cut_off.load(Ordering::Relaxed)
    }

    fn enter(&self) -> Result<OwnedSemaphorePermit, Failure> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let message = format!(
                "{MAX_READERS} readers of events are at this node already; use another one, or try again later"
            );
            Failure::new(Code::Busy, message)
        })
    }
}

/// Query of the stream.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    /// As the header `Last-Event-ID`, for those who cannot set headers.
    after: Option<String>,
    /// Without it, the stream ends with what is known now.
    #[serde(default = "yes")]
    follow: bool,
}

const fn yes() -> bool {
    true
}

pub(super) async fn events(api: Api, headers: HeaderMap, query: Asked<EventsQuery>) -> Answer {
    let EventsQuery { after, follow } = asked(query)?;
    let last = headers.get(sse::LAST).map(|value| value.to_str().unwrap_or_default().to_owned()).or(after);
    let last = last.filter(|last| !last.is_empty());
    let last = last.map(|last| last.parse::<Cursor>().map_err(|why| Problem::invalid(format!("Last-Event-ID: {why}"))));
    let place = api.readers.enter()?;
    let begin = begin(&api.group, last.transpose()?).await;
    let journal = api.group.journal().clone();
    let (news, cut_off) = (journal.news(), Arc::clone(&api.readers.cut_off));
    let reader =
        Reader { news, journal, step: Step::Begin(begin), follow, stop: api.stop.clone(), cut_off, _place: place };
    Ok(sse::response(stream::unfold(reader, |mut reader| async move { Some((reader.next().await?, reader)) })))
}

/// How a stream begins.
#[derive(Debug)]
enum Begin {
    /// With everything, and why.
    Snapshot(&'static str),
    /// Behind what the reader knows already.
    Behind(Cursor),
}

/// A reader that comes from another node may know more than this one has applied.
async fn begin(group: &Group, last: Option<Cursor>) -> Begin {
    let Some(last) = last else { return Begin::Snapshot("start") };
    if group.journal().after(last, 0) == Err(Gap::Ahead)
        && let Err(failure) = group.read_index().await
    {
        tracing::debug!(%failure, "nobody says whether an event's id is of the future or of another cluster");
    }
    match group.journal().after(last, 0) {
        Ok(_) => Begin::Behind(last),
        Err(gap) => Begin::Snapshot(reason(gap)),
    }
}

const fn reason(gap: Gap) -> &'static str {
    match gap {
        Gap::Forgotten => "the events behind this id are forgotten",
        Gap::NeverSeen => {
            "this node never saw the events behind this id one by one: it started, or took over a snapshot"
        }
        Gap::Ahead => "this node has not come so far, or the id is of another cluster",
    }
}

/// One reader.
struct Reader {
    journal: Journal,
    news: watch::Receiver<u64>,
    step: Step,
    follow: bool,
    stop: CancellationToken,
    cut_off: Arc<AtomicU64>,
    _place: OwnedSemaphorePermit,
}

enum Step {
    Begin(Begin),
    Behind(Cursor),
    End,
}

impl Reader {
    /// The next piece of the body; `None` at its end.
    async fn next(&mut self) -> Option<Bytes> {
        let cursor = match std::mem::replace(&mut self.step, Step::End) {
            Step::End => return None,
            Step::Begin(Begin::Snapshot(reason)) => return Some(self.snapshot(reason)),
            // Said at once, so that the reader knows that it was understood.
            Step::Begin(Begin::Behind(cursor)) => {
                self.step = Step::Behind(cursor);
                return Some(sse::event("resumed", cursor, &json!({"after": cursor.to_string()})).into());
            }
            Step::Behind(cursor) => cursor,
        };
        loop {
            self.news.borrow_and_update();
            match self.journal.after(cursor, PIECE) {
                Ok(events) if events.is_empty() => {}
                Ok(events) => {
                    self.step = Step::Behind(events.last().map_or(cursor, |last| last.at));
                    return Some(events.iter().map(|event| tell(event)).collect::<String>().into());
                }
                Err(Gap::Forgotten) => {
                    self.cut_off.fetch_add(1, Ordering::Relaxed);
                    return Some(cut_off(cursor));
                }
                Err(gap) => return Some(self.snapshot(reason(gap))),
            }
            if !self.follow {
                return None;
            }
            let changed = tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                changed = timeout(KEEP_ALIVE, self.news.changed()) => changed,
            };
            match changed {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => {
                    self.step = Step::Behind(cursor);
                    return Some(Bytes::from_static(b": alive\n\n"));
                }
            }
        }
    }

    fn snapshot(&mut self, reason: &str) -> Bytes {
        let picture = self.journal.picture();
        self.step = Step::Behind(picture.cursor());
        sse::event("snapshot", picture.cursor(), &describe(&picture, reason)).into()
    }
}

fn cut_off(cursor: Cursor) -> Bytes {
    tracing::warn!(last = %cursor, "a reader of the events was too slow and is cut off");
    let detail = "you read too slowly: the events behind this id are forgotten; connect again for a new snapshot";
    sse::event("cut_off", cursor, &json!({"after": cursor.to_string(), "detail": detail})).into()
}

fn describe(picture: &Picture, reason: &str) -> Value {
    let node = |standing: Standing| {
        let part = picture.parts.get(&standing.node.id).copied();
        let mut told = node(&standing);
        told["role"] = json!(part.map(part_name));
        told
    };
    let (leader, term) = picture.applied.map_or((None, None), |applied| (Some(applied.leader), Some(applied.term)));
    json!({
        "reason": reason,
        "applied": picture.applied.map(|applied| applied.index),
        "leader": leader,
        "term": term,
        "nodes": picture.roster.standings().map(node).collect::<Vec<_>>(),
    })
}

fn tell(event: &Event) -> String {
    let (name, data) = match &event.what {
        What::Node(Change::Joined(now)) => ("joined", json!({"node": node(now)})),
        What::Node(Change::Left(was, parting)) => {
            ("left", json!({"node": node(was), "reason": parting_name(*parting)}))
        }
        What::Node(Change::State { now, before }) => ("state", json!({"node": node(now), "before": before})),
        What::Node(Change::Owner { now, before }) => ("owner", json!({"node": node(now), "before": owner(*before)})),
        What::Part { node: id, standing, before, now } => {
            let node = standing.as_ref().map_or_else(|| json!({"id": id}), node);
            ("role", json!({"node": node, "role": now.map(part_name), "before": before.map(part_name)}))
        }
        What::Leader { leader, standing, term, before } => {
            let node = standing.as_ref().map_or_else(|| json!({"id": leader}), node);
            ("leader", json!({"node": node, "term": term, "before": before}))
        }
    };
    sse::event(name, event.at, &data)
}

fn node(standing: &Standing) -> Value {
    let (node, owner) = (&standing.node, standing.owner);
    json!({
        "id": node.id,
        "short_id": node.short_id,
        "generation": node.generation,
        "name": node.name,
        "roles": node.roles,
        "state": standing.state,
        "owner": owner.map(|(owner, _)| owner),
        "epoch": owner.map(|(_, epoch)| epoch),
    })
}

fn owner(owner: Option<(NodeId, Epoch)>) -> Value {
    owner.map_or(Value::Null, |(owner, epoch)| json!({"owner": owner, "epoch": epoch}))
}

const fn parting_name(parting: Parting) -> &'static str {
    match parting {
        Parting::Removed => "removed",
        Parting::Restarted => "restarted",
    }
}

const fn part_name(part: Part) -> &'static str {
    match part {
        Part::Voter => "voter",
        Part::Learner => "learner",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_readers() {
        let readers = Readers::default();
        let mut places: Vec<_> = (0..MAX_READERS).map(|_| readers.enter().unwrap()).collect();
        assert_eq!(readers.enter().unwrap_err().code, Code::Busy);
        places.pop();
        assert_eq!(readers.count(), MAX_READERS - 1);
        assert!(readers.enter().is_ok());
    }
}
