//! Keeps this node's own record true: name, addresses and boot, once it belongs to the group.
//!
//! A node that was never taken in asks for it elsewhere ([`crate::peers`]); this loop is for every later boot.

use crate::peer_service::control_node;
use crate::raft::Group;
use longshore_state::{Command, State};
use longshore_wire::Role;
use longshore_wire::peer::Join;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Pause after a failed attempt.
const PAUSE: Duration = Duration::from_millis(500);

/// Compares the record with the truth for as long as the node runs.
pub(crate) async fn run(group: Group, me: Join, stop: CancellationToken) {
    let mut changed = group.changed();
    loop {
        changed.borrow_and_update();
        let pause = match is_member(&group, &me) && !is_true(&group.state(), &me) {
            true => correct(&group, &me, &stop).await,
            false => None,
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause.unwrap_or(Duration::MAX)), if pause.is_some() => (),
            alive = changed.changed(), if pause.is_none() => if alive.is_err() { return },
        }
    }
}

async fn correct(group: &Group, me: &Join, stop: &CancellationToken) -> Option<Duration> {
    let proposal = group.propose_one(Command::RegisterControl(control_node(me.clone())));
    let outcome = tokio::select! {
        biased;
        () = stop.cancelled() => return None,
        outcome = proposal => outcome,
    };
    if let Err(failure) = outcome {
        tracing::info!(%failure, "this node's record is not up to date yet");
    }
    // After a success the own state may lag; looking again soon costs nothing.
    Some(PAUSE)
}

fn is_member(group: &Group, me: &Join) -> bool {
    let status = group.status();
    status.voters.contains(&me.node) || status.learners.contains(&me.node)
}

fn is_true(state: &State, me: &Join) -> bool {
    state.node(me.node).is_some_and(|node| {
        node.boot(Role::Control) == Some(me.boot)
            && node.name == me.name
            && *node.addresses == *me.addresses
            && node.release == me.release
    })
}
