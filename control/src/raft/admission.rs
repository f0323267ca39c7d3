//! Whether the leader takes writes: not while its own disk is nearly full, nor those of so many that nothing could be
//! committed.
//!
//! ```text
//! every half second, by every node:   own disk short, and another voter has room → it does not stand for election
//!                       by the leader: which voters are short? ─┬─ a majority has room, this one too ─▶ open
//!                                                               ├─ a majority has room, not this one ─▶ hand over
//!                                                               └─ too few ─▶ refused as `no_space`, by name
//! ```
//!
//! Nobody steps down for somebody who is no better off: three full nodes keep their leader, and linearizable reads.

use super::group::Group;
use crate::room::Level;
use longshore_wire::peer::{PeerRequest, Vitals};
use longshore_wire::{Code, Failure, NodeId, decode};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How often it is judged.
const EVERY: Duration = Duration::from_millis(500);
/// Time for another voter to say how its disk is.
const ANSWER: Duration = Duration::from_millis(700);
/// Oldest protocol version whose control nodes say it.
const SINCE_VERSION: u16 = 2;

/// What becomes of proposals at this node while it leads.
#[derive(Debug, Default)]
pub(super) struct Admission(Mutex<Option<Failure>>);

impl Admission {
    /// # Errors
    /// `Unavailable` while the leadership is handed over, `NoSpace` when nobody has room. Not done.
    pub(super) fn admit(&self) -> Result<(), Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }

    fn set(&self, refusal: Option<Failure>) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = |refusal: &Option<Failure>| refusal.as_ref().map(|failure| failure.code);
        if kind(&now) != kind(&refusal) {
            match &refusal {
                Some(failure) if failure.code == Code::NoSpace => tracing::error!(%failure, "writes are refused"),
                Some(_) => tracing::warn!("the leadership is handed over: this node's disk is nearly full"),
                None => tracing::info!("writes are taken again"),
            }
        }
        *now = refusal;
    }
}

/// Runs until the group stops.
pub(super) async fn run(group: Group) {
    let mut room = group.engine().0.room.changed();
    let stop = group.engine().0.stop.clone();
    let judging = async {
        loop {
            judge(&group).await;
            tokio::select! {
                () = sleep(EVERY) => (),
                changed = room.changed() => if changed.is_err() { return },
            }
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => (),
        () = judging => (),
    }
}

async fn judge(group: &Group) {
    let parts = &group.engine().0;
    let own = parts.room.level() < Level::Enough;
    let status = group.status();
    if !own && !status.is_leader {
        parts.raft.runtime_config().elect(true);
        parts.admission.set(None);
        return;
    }
    let others: BTreeSet<NodeId> = status.voters.iter().copied().filter(|node| *node != parts.node).collect();
    let answers = ask(group, &others).await;
    let mut short: BTreeSet<NodeId> = answers.iter().filter(|(_, short)| *short).map(|(node, _)| *node).collect();
    let better: BTreeSet<NodeId> = answers.iter().filter(|(_, short)| !*short).map(|(node, _)| *node).collect();
    parts.raft.runtime_config().elect(!own || better.is_empty());
    if own && status.voters.contains(&parts.node) {
        short.insert(parts.node);
    }
    let majority = status.voters.len() / 2 + 1;
    // Who does not answer is somebody else's concern, unless all that answer are short.
    let hopeless = status.voters.len().saturating_sub(short.len()) < majority || (own && better.is_empty());
    parts.admission.set(match () {
        () if !status.is_leader => None,
        () if hopeless => Some(too_few(group, &short)),
        () if own => {
            Some(Failure::new(Code::Unavailable, "the leader's disk is nearly full; it hands the leadership over"))
        }
        () => None,
    });
    if own && status.is_leader && !hopeless {
        group.hand_over_to(&better, ANSWER * 2).await;
    }
}

/// Whether the disks of others are short, as far as they answer.
async fn ask(group: &Group, nodes: &BTreeSet<NodeId>) -> Vec<(NodeId, bool)> {
    let mut asking = JoinSet::new();
    for node in nodes.iter().copied() {
        let peers = group.engine().0.peers.clone();
        let Some(session) = peers.session(node) else { continue };
        if session.peer().version < SINCE_VERSION {
            asking.spawn(async move { Some((node, false)) });
            continue;
        }
        asking.spawn(async move {
            let reply = peers.request(node, &PeerRequest::Vitals, ANSWER).await.ok()?;
            Some((node, decode::<Vitals>(&reply).ok()?.disk_short))
        });
    }
    asking.join_all().await.into_iter().flatten().collect()
}

fn too_few(group: &Group, short: &BTreeSet<NodeId>) -> Failure {
    let state = group.state();
    let name = |node: &NodeId| state.node(*node).map_or_else(|| node.to_string(), |node| node.name.clone());
    let names: Vec<String> = short.iter().map(name).collect();
    let own = &group.engine().0.room;
    let message = format!(
        "the disks of too many control nodes are nearly full ({}); make room there, writes go on by themselves then{}",
        names.join(", "),
        if short.contains(&group.engine().0.node) { format!("; at the leader {own}") } else { String::new() },
    );
    Failure::new(Code::NoSpace, message)
}
