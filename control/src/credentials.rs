//! Credentials at work: what handshakes check, which sessions a rotation or a revocation ends, and what is still in use.
//!
//! ```text
//! handshake ─▶ known      session begins ─▶ Sessions ◀─ watch: applied state changed ─▶ close what is not valid any more
//!                                               └─ report ─▶ API of this node, and of others through peer sessions
//! ```
//!
//! Owns no credential: they stand in the replicated state. Every control node ends its own sessions as soon as it has applied
//! the end of a secret; nobody asks another node to do so.

mod refusals;
mod report;
mod sessions;

pub(crate) use report::{Report, Reporter};
pub(crate) use sessions::Sessions;

use crate::raft::Group;
use longshore_state::{Command, Credential, Holder, State, StoredSecret};
use longshore_transport::{Known, KnownSecret, Peer};
use longshore_wire::{Code, Failure};
use std::time::Duration;

/// Time to note which node a credential that awaits its node belongs to.
const BIND: Duration = Duration::from_secs(5);

/// What a handshake needs of a credential.
pub(crate) fn known(credential: &Credential) -> Known {
    let secret = |secret: &StoredSecret| KnownSecret {
        number: secret.number,
        verifier: secret.verifier.clone(),
        retired: secret.retired_ms.is_some(),
    };
    Known {
        secrets: credential.secrets.iter().map(secret).collect(),
        node: match &credential.holder {
            Some(Holder::Node(node)) => Some(*node),
            Some(Holder::Awaited(_)) | None => None,
        },
        revoked: credential.revoked_ms.is_some(),
    }
}

/// Why a session that was proven earlier must end now; `None` while it may go on. A credential that is not in the state is
/// one that a joining node has answered by itself.
fn objection(state: &State, peer: &Peer) -> Option<Failure> {
    let credential = state.credential(&peer.credential)?;
    if credential.accepts(peer.secret) {
        return None;
    }
    let name = &credential.name;
    let why = if credential.revoked_ms.is_some() {
        format!(
            "credential '{name}' was revoked; give the node another one (`longshore credential create`), and set auth.secret_file and auth.credential"
        )
    } else {
        format!(
            "this secret of credential '{name}' was retired by a rotation; put the new one into the file of auth.secret_file"
        )
    };
    Some(Failure::new(Code::Unauthenticated, why))
}

/// Makes the proven peer the holder of a credential that awaits its node. Nothing else may be done for it before.
///
/// # Errors
/// When another node was first, or when that cannot be noted now.
pub(crate) async fn bind(group: &Group, peer: &Peer) -> Result<(), Failure> {
    let awaited = |credential: &Credential| matches!(credential.holder, Some(Holder::Awaited(_)));
    if !group.state().credential(&peer.credential).is_some_and(awaited) {
        return Ok(());
    }
    let command = Command::BindCredential { credential: peer.credential.clone(), node: peer.node };
    let late = |_| Err(Failure::unknown(Code::Timeout, "the cluster did not note in time whose this credential is"));
    // Boxed: hardly ever needed, while every handshake has room for it.
    Box::pin(tokio::time::timeout(BIND, group.propose_one(command))).await.unwrap_or_else(late)?;
    tracing::info!(credential = peer.credential, node = %peer.node, "a credential that awaited its node belongs to it now");
    Ok(())
}
