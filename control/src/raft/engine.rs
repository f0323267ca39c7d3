//! What the group's parts share.

use super::admission::Admission;
use super::confirm::Told;
use super::pin::Pin;
use super::status::Leadership;
use super::tally::Tally;
use super::transfer::Gate;
use super::types::Raft;
use super::upkeep::Limits;
use crate::log::Log;
use crate::machine::{Snapshots, View};
use crate::peers::Peers;
use crate::room::Room;
use longshore_wire::{Code, Failure, NodeId};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// Handles of one node's part in the group. Cheap to clone.
#[derive(Clone)]
pub(super) struct Engine(pub(super) Arc<Parts>);

pub(super) struct Parts {
    pub(super) node: NodeId,
    pub(super) raft: Raft,
    pub(super) log: Log,
    pub(super) view: View,
    pub(super) snapshots: Snapshots,
    pub(super) peers: Peers,
    pub(super) leadership: watch::Sender<Leadership>,
    /// When a leader was last heard here.
    pub(super) heard: Mutex<Instant>,
    /// Told when a leader is heard while none was known.
    pub(super) heard_again: Notify,
    /// Why the group has ended on this node; `None` while it runs.
    pub(super) fault: watch::Sender<Option<String>>,
    pub(super) stop: CancellationToken,
    /// Who may send a snapshot here.
    pub(super) gate: Gate,
    /// Snapshots taken over from others since the start.
    pub(super) installs: AtomicU64,
    /// The snapshot that is being sent from here.
    pub(super) pin: Pin,
    /// What others were told to be committed.
    pub(super) told: Told,
    pub(super) tally: Arc<Tally>,
    pub(super) limits: Limits,
    pub(super) room: Room,
    pub(super) admission: Admission,
}

impl Engine {
    /// Waits for a leader.
    ///
    /// # Errors
    /// `NoQuorum` when there is none before the deadline; not done.
    pub(super) async fn leader(&self, deadline: Instant) -> Result<Leadership, Failure> {
        let mut leadership = self.0.leadership.subscribe();
        let known = async { leadership.wait_for(|now| now.leader.is_some()).await.map(|now| *now) };
        match timeout_at(deadline, known).await {
            Ok(Ok(now)) => Ok(now),
            Ok(Err(_)) | Err(_) => Err(no_quorum()),
        }
    }

    /// Waits until this much is applied here.
    ///
    /// # Errors
    /// `Timeout` when it is not before the deadline.
    pub(super) async fn applied(&self, index: u64, deadline: Instant) -> Result<(), Failure> {
        let mut changed = self.0.view.advanced();
        match timeout_at(deadline, changed.wait_for(|next| *next > index)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(Failure::new(
                Code::Timeout,
                format!("this node has not applied log entry {index} in time; it may be catching up"),
            )),
        }
    }

    /// A leader has been heard.
    pub(super) fn hear(&self) {
        *self.0.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if self.0.leadership.borrow().leader.is_none() {
            self.0.heard_again.notify_one();
        }
    }

    /// How long no leader has been heard here.
    pub(super) fn silence(&self) -> Duration {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Ends the group on this node with a reason; the first one stands.
    pub(super) fn fail(&self, reason: impl Into<String>) {
        let reason = reason.into();
        self.0.fault.send_if_modified(|fault| {
            let first = fault.is_none() && !self.0.stop.is_cancelled();
            if first {
                tracing::error!(reason, "the control group has ended on this node");
                *fault = Some(reason);
            }
            first
        });
    }
}

pub(super) fn no_quorum() -> Failure {
    Failure::new(
        Code::NoQuorum,
        "the control group has no leader now: a majority of its voters must be up and reach each other; see `longshore cluster status`",
    )
}

pub(super) fn stopped() -> Failure {
    Failure::new(Code::Unavailable, "this control node is stopping")
}
