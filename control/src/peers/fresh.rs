//! What this node proves itself with changes while it runs: a new secret is taken up at once, a revoked one rests.

use super::{Peers, Shared, dialler};
use longshore_transport::HandshakeError;
use longshore_wire::NodeId;
use longshore_wire::handshake::RejectCode;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;

/// How often the file of the secret is looked at. Every dial looks, too.
const LOOK: Duration = Duration::from_secs(5);
/// A node whose credential was revoked knocks so seldom, unless it gets another secret.
const REVOKED: Duration = Duration::from_secs(60);

/// Nobody is dialled for a while.
#[derive(Debug)]
pub(super) struct Rest {
    until: Instant,
    /// Of the secret that was refused; another one may be tried at once.
    version: u64,
    why: String,
}

impl Shared {
    fn secret_version(&self) -> u64 {
        *self.options.keyring.changed().borrow()
    }

    /// Notes that the own credential was refused for good.
    pub(super) fn note_refusal(&self, error: &HandshakeError) {
        if error.code() == Some(RejectCode::Revoked) {
            let until = Instant::now() + error.retry_after().unwrap_or(REVOKED).clamp(LOOK, REVOKED);
            let rest = Rest { until, version: self.secret_version(), why: error.to_string() };
            *self.revoked.lock().unwrap_or_else(PoisonError::into_inner) = Some(rest);
        }
    }

    /// Says why nobody shall be dialled now.
    pub(super) async fn may_dial(&self) -> Result<(), String> {
        self.options.keyring.refresh().await;
        let mut resting = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        match &*resting {
            Some(rest) if rest.until > Instant::now() && rest.version == self.secret_version() => Err(rest.why.clone()),
            _ => {
                *resting = None;
                Ok(())
            }
        }
    }
}

/// Watches the file of the secret. Sessions that were dialled with a former secret are replaced by new ones before they are
/// closed: the older secret may be about to end.
pub(super) async fn run(peers: Peers) {
    let mut changed = peers.0.options.keyring.changed();
    loop {
        tokio::select! {
            biased;
            () = peers.0.stop.cancelled() => return,
            // The keyring lives as long as the peers.
            Ok(()) = changed.changed() => renew(&peers).await,
            () = tokio::time::sleep(LOOK) => drop(peers.0.options.keyring.refresh().await),
        }
    }
}

async fn renew(peers: &Peers) {
    // Number 0 marks the dialling side; whoever dialled this node sees to its own sessions.
    let dialled = |node: &NodeId| peers.session(*node).is_some_and(|session| session.peer().secret == 0);
    for node in peers.connected().into_iter().filter(dialled) {
        let addresses = peers.0.known.borrow().get(&node).cloned().unwrap_or_default();
        let mut strangers = dialler::Strangers::new();
        let dialling = dialler::dial_any(peers, node, &addresses, &mut strangers);
        let renewed = tokio::select! {
            biased;
            () = peers.0.stop.cancelled() => return,
            renewed = dialling => renewed,
        };
        if let Err(why) = renewed {
            tracing::warn!(peer = %node, why, "the session with a control node is not renewed with the new secret yet");
        }
    }
}
