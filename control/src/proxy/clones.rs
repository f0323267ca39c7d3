//! The clone alarm: two processes with one node id, as when a data folder was copied.
//!
//! The owner of a worker sees both, wherever they came in. The process that is in session stays, if it lives; the other
//! one is asked to wait, and the alarm stands until it has not come back for a while. A worker that was restarted is no clone: its
//! former session has ended, or does not answer. Which of two is the original nobody can know.

use super::Proxies;
use longshore_state::CloneAlarm;
use longshore_transport::{Peer, Session};
use longshore_wire::edge::{AttachReply, ClassRequest, ToWorker};
use longshore_wire::{Code, Failure, RequestId, encode};
use std::time::Duration;

/// Time for the process in session to show that it lives.
const PROBE: Duration = Duration::from_secs(2);
/// A clone is asked to come back after so many milliseconds.
const RETRY_MS: u64 = 10_000;
/// The alarm ends when no clone has come for so long: longer than a clone's pause with all its jitter.
pub(super) const ENDS_AFTER: Duration = Duration::from_secs(30);

impl Proxies {
    /// The answer to a worker whose node id another live process has; `None` when it may come in.
    pub(crate) async fn refuse_clone(&self, peer: &Peer, boot: RequestId) -> Option<AttachReply> {
        let seat = self.read().get(&peer.node).cloned()?;
        let (present_boot, present) = seat.rival(boot)?;
        if !lives(&present).await {
            tracing::info!(worker = %peer.node, "the worker has come back; its former session does not answer and is given up");
            present.abort();
            return None;
        }
        let (here, there) = (place(present.peer()), place(peer));
        let alarm = CloneAlarm { boot, remote: Some(there.clone()) };
        if seat.raise_alarm(alarm) {
            tracing::warn!(
                worker = %peer.node, %present_boot, present_address = here, clone_boot = %boot, clone_address = there,
                "clone alarm: two live processes have this worker's node id; the one in session stays, the other one waits. Stop one of them, and give a copy its own empty node.data_dir"
            );
        }
        let reason = format!(
            "clone: another live process at {here} has this node id {}; if this one's data folder was copied, empty its node.data_dir, so that it becomes a node of its own",
            peer.node
        );
        Some(AttachReply::Wait { retry_after_ms: RETRY_MS, reason })
    }
}

/// Whether the process at the other end answers. Every worker has the class `echo`; a refusal is a sign of life, too.
async fn lives(session: &Session) -> bool {
    let probe = ClassRequest { class: "echo".to_owned(), body: serde_json::Value::Null };
    let answer = session.request(encode(&ToWorker::Request(probe)), PROBE).await;
    !matches!(answer, Err(Failure { code: Code::Timeout | Code::Unavailable, .. }))
}

/// Where a peer comes from, for people.
fn place(peer: &Peer) -> String {
    peer.remote.map_or_else(|| format!("the other end of a {}", peer.carrier), |remote| remote.to_string())
}
