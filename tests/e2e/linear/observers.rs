//! Those who follow all changes by a watch, each beginning at another node, and go on at the next one whenever it ends.

use super::door::Door;
use super::load::{NONE, PREFIX};
use crate::process::wait_for;
use http_body_util::BodyExt as _;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A sign of life comes every 10 s; a node that is silent for longer is paused.
const SILENCE: Duration = Duration::from_secs(12);
const PATIENCE: Duration = Duration::from_secs(2);

/// One thing that was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Put {
        revision: u64,
        key: String,
        value: String,
    },
    Delete {
        revision: u64,
        key: String,
    },
    /// Up to there changes may be missing; what the keys hold, as listed then.
    Gap {
        from: u64,
        to: u64,
        listed: Listed,
    },
}

/// Keys with their values, and the revision at which they had them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) revision: u64,
    pub(crate) keys: BTreeMap<String, (u64, String)>,
}

/// What one observer knows.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) told: Vec<Told>,
    /// Up to where all has been told.
    pub(crate) position: u64,
    /// How often it went on at another node.
    pub(crate) resumed: usize,
    /// What should never be.
    pub(crate) faults: Vec<String>,
}

/// An observer, following.
pub(crate) struct Observer {
    pub(crate) seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Observer {
    /// Follows all that comes behind `revision`, first at node `first`.
    pub(crate) fn start(runtime: &Runtime, sockets: &[PathBuf], first: usize, revision: u64) -> Self {
        let seen = Arc::new(Mutex::new(Seen { position: revision, ..Seen::default() }));
        let (sockets, shared) = (sockets.to_vec(), Arc::clone(&seen));
        let task = runtime.spawn(async move {
            for node in (0..sockets.len()).cycle().skip(first) {
                let mut door = Door::new(&sockets[node]);
                if follow(&mut door, &shared).await {
                    shared.lock().unwrap().resumed += 1;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Self { seen, task }
    }

    /// Waits until it has seen everything up to a revision, and gives what it has seen.
    pub(crate) fn stop(self, revision: u64) -> Seen {
        wait_for("an observer to see the last change", || {
            assert!(!self.task.is_finished(), "the observer has ended");
            let position = self.seen.lock().unwrap().position;
            if position >= revision { Ok(()) } else { Err(format!("it has come to {position}, not yet {revision}")) }
        });
        self.task.abort();
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

/// Follows at one node until that ends; whether it had begun.
async fn follow(door: &mut Door, seen: &Mutex<Seen>) -> bool {
    let position = seen.lock().unwrap().position;
    let last = [("last-event-id", position.to_string())];
    let Ok(response) = door.open(PATIENCE, &format!("/v1/kv/watch?prefix={PREFIX}"), &last).await else { return false };
    let (mut body, mut rest) = (response.into_body(), Vec::new());
    while let Ok(Some(Ok(frame))) = timeout(SILENCE, body.frame()).await {
        rest.extend_from_slice(&frame.into_data().unwrap_or_default());
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = rest.drain(..end + 2).collect();
            let text = String::from_utf8(event).unwrap();
            if !take(door, &text, seen).await {
                return true;
            }
        }
    }
    true
}

/// Takes one event in; `false` when it cannot go on here.
async fn take(door: &mut Door, text: &str, seen: &Mutex<Seen>) -> bool {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let (Some(name), Some(data)) = (field("event: "), field("data: ")) else { return true };
    let data: Value = serde_json::from_str(data).unwrap();
    let revision = data["revision"].as_u64().expect("each event has a revision");
    let key = || data["key"].as_str().unwrap().to_owned();
    let told = match name {
        "put" => Told::Put { revision, key: key(), value: data["value"].as_str().unwrap().to_owned() },
        "delete" => Told::Delete { revision, key: key() },
        "gap" => {
            let from = seen.lock().unwrap().position;
            if revision < from {
                seen.lock().unwrap().faults.push(format!("a gap up to {revision} was told behind {from}"));
                return false;
            }
            let mut lister = door.another();
            let Some(listed) = list(&mut lister, Duration::from_secs(20)).await else { return false };
            Told::Gap { from, to: revision, listed }
        }
        "start" | "progress" => {
            let mut seen = seen.lock().unwrap();
            if name == "start" && revision != seen.position {
                let fault = format!("it asked for what is behind {}, and got what is behind {revision}", seen.position);
                seen.faults.push(fault);
            }
            seen.position = seen.position.max(revision);
            return true;
        }
        other => panic!("an event that nobody has written down: {other}"),
    };
    let mut seen = seen.lock().unwrap();
    seen.told.push(told);
    seen.position = revision;
    true
}

/// All keys, as the cluster holds them; `None` when the node cannot say.
pub(crate) async fn list(door: &mut Door, patience: Duration) -> Option<Listed> {
    let mut listed = Listed::default();
    let mut after = String::new();
    loop {
        let path = format!("/v1/kv?prefix={PREFIX}&limit=1000{after}");
        let reply = door.ask(patience, ("GET", &path), NONE, "").await.ok().filter(|reply| reply.status == 200)?;
        let body = reply.json();
        // Of several pages the first one's revision counts: later changes are told by the watch.
        if listed.revision == 0 {
            listed.revision = body["revision"].as_u64()?;
        }
        let mut last = String::new();
        for entry in body["entries"].as_array()? {
            let text = |name: &str| entry[name].as_str().map(str::to_owned);
            last = text("key")?;
            listed.keys.insert(last.clone(), (entry["revision"].as_u64()?, text("value")?));
        }
        if body["more"] != true {
            return Some(listed);
        }
        after = format!("&after={last}");
    }
}
