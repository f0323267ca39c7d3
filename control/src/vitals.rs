//! How the control nodes' machines stand: what is applied, log, snapshot, disk. Each node knows its own; any node asks all.

use crate::peers::Peers;
use crate::raft::Group;
use crate::room::{Level, Room};
use longshore_wire::peer::{PeerRequest, Vitals};
use longshore_wire::{NodeId, decode};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::JoinSet;

/// Time for another control node to tell: short, since a status is wanted most when some do not answer.
const ANSWER: Duration = Duration::from_millis(700);
/// Oldest protocol version whose control nodes tell.
const SINCE_VERSION: u16 = 2;

/// Asks this node and others.
#[derive(Debug, Clone)]
pub(crate) struct Examiner {
    pub(crate) me: NodeId,
    /// The data folder.
    pub(crate) folder: PathBuf,
    pub(crate) group: Group,
    pub(crate) peers: Peers,
    pub(crate) room: Room,
}

impl Examiner {
    /// This node's own.
    pub(crate) fn here(&self) -> Vitals {
        let (status, storage) = (self.group.status(), self.group.storage());
        let disk = rustix::fs::statvfs(&self.folder).ok();
        let age = storage.snapshot.and_then(|snapshot| snapshot.age);
        Vitals {
            last: status.last,
            applied: status.applied,
            log_bytes: storage.log_bytes(),
            snapshot: storage.snapshot.map(|snapshot| snapshot.index),
            snapshot_age_ms: age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            disk_free: disk.as_ref().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
            disk_total: disk.as_ref().map(|disk| disk.f_blocks.saturating_mul(disk.f_frsize)),
            disk_short: self.room.level() < Level::Enough,
        }
    }

    /// Those of all control nodes; whoever does not answer in time is left out.
    pub(crate) async fn everywhere(&self) -> BTreeMap<NodeId, Vitals> {
        let mut asking = JoinSet::new();
        let able = |node: &NodeId| self.peers.session(*node).is_some_and(|it| it.peer().version >= SINCE_VERSION);
        for node in self.peers.connected().into_iter().filter(able) {
            let peers = self.peers.clone();
            asking.spawn(async move {
                let reply = peers.request(node, &PeerRequest::Vitals, ANSWER).await;
                (node, reply.map(|reply| decode::<Vitals>(&reply)))
            });
        }
        let mut told = BTreeMap::from([(self.me, self.here())]);
        while let Some(Ok((node, answer))) = asking.join_next().await {
            match answer {
                Ok(Ok(vitals)) => drop(told.insert(node, vitals)),
                Ok(Err(error)) => tracing::debug!(%node, %error, "a control node tells in other words how it stands"),
                Err(failure) => tracing::debug!(%node, %failure, "a control node does not tell how it stands"),
            }
        }
        told
    }
}
