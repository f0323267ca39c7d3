//! This node's view of the ring: who drives which worker, and the loop that makes the proxies follow.
//!
//! Never changes the ring: that is the leader's business. What stands here is only as fresh as the applied state; the
//! epochs make staleness harmless.

use crate::proxy::Proxies;
use crate::raft::Group;
use longshore_state::{Node, State};
use longshore_wire::{Epoch, NodeId};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Changes within this time are looked at together: a flow started on a thousand workers is one look, not thousands.
const COALESCE: Duration = Duration::from_millis(20);

/// Who drives a worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Owner<'a> {
    /// This node.
    Me(Epoch),
    /// Another one.
    Other(&'a Node),
    /// Nobody yet.
    Nobody,
}

/// Looks an owner up.
pub(crate) fn owner(state: &State, me: NodeId, worker: NodeId) -> Owner<'_> {
    match state.owner_of(worker) {
        Some((owner, epoch)) if owner == me => Owner::Me(epoch),
        Some((owner, _)) => state.node(owner).map_or(Owner::Nobody, Owner::Other),
        None => Owner::Nobody,
    }
}

/// Makes the proxies look at every state in which something is new to them: only those, since with thousands of workers
/// nearly every change is one of them coming or going, and of no interest to the others.
pub(crate) async fn follow(group: Group, proxies: Proxies, stop: CancellationToken) {
    let mut changed = group.changed();
    let mut seen = group.state();
    proxies.refresh(None);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            alive = changed.changed() => if alive.is_err() { return },
        }
        let state = group.state();
        if state.same_but_for_kv(&seen) {
            continue;
        }
        tokio::time::sleep(COALESCE).await;
        let newer = group.state();
        proxies.refresh(newer.touched(&seen).as_ref());
        seen = newer;
    }
}
