//! Keeps this node's own record true: name, addresses and boot, once it belongs to the group; and asks for it again when the
//! group has forgotten it.
//!
//! A node that was never taken in asks for that elsewhere ([`crate::peers`]); these loops are for every later boot. Neither
//! does anything for a node that is leaving.

use crate::peer_service::control_node;
use crate::peers::Peers;
use crate::raft::Group;
use longshore_state::{Command, State};
use longshore_wire::Role;
use longshore_wire::peer::Join;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Pause after a failed attempt.
const PAUSE: Duration = Duration::from_millis(500);

/// A node that no leader speaks to for so long may have been taken out of the group, with its record or without, while it
/// was away. No election takes as long.
const FORGOTTEN: Duration = Duration::from_secs(5);

/// Compares the record with the truth for as long as the node runs.
pub(crate) async fn run(group: Group, me: Join, mut leaving: watch::Receiver<bool>, stop: CancellationToken) {
    let mut changed = group.changed();
    loop {
        changed.borrow_and_update();
        let stays = !*leaving.borrow_and_update();
        let pause = match stays && is_member(&group, &me) && !is_true(&group.state(), &me) {
            true => correct(&group, &me, &stop).await,
            false => None,
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause.unwrap_or(Duration::MAX)), if pause.is_some() => (),
            alive = changed.changed(), if pause.is_none() => if alive.is_err() { return },
            Ok(()) = leaving.changed() => (),
        }
    }
}

/// Asks the other control nodes to take this one in whenever it belongs to their cluster and no leader speaks to it. Who is
/// registered as it should be already is not changed by that.
pub(crate) async fn return_when_forgotten(
    group: Group,
    peers: Peers,
    leaving: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let mut leadership = group.leadership();
    let look = async {
        while leadership.wait_for(|now| now.leader.is_none()).await.is_ok() {
            let heard = timeout(FORGOTTEN, leadership.wait_for(|now| now.leader.is_some())).await.is_ok();
            if heard || *leaving.borrow() || group.state().cluster().is_none() {
                continue;
            }
            match peers.ask_to_join().await {
                Some(Ok(())) => tracing::info!("no leader speaks to this node; the others have it on their list again"),
                Some(Err(failure)) => tracing::debug!(%failure, "no leader speaks to this node, nor to those it asked"),
                None => (),
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => (),
        () = look => (),
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
