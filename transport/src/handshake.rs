//! Who is at the other end of a link: four messages, after which both sides have proven themselves.
//!
//! | attack | stopped by |
//! |---|---|
//! | replay of recorded messages | a fresh nonce of each side in the transcript |
//! | a proof sent back to its maker | a label per direction, the own node id and nonce refused |
//! | a field changed under way | both proofs cover the raw bytes of the first two messages |
//! | a TLS man in the middle | the TLS exporter in the transcript |
//! | a worker's secret used as a control node's | the credential's role, checked behind the proof |
//! | trying which names exist | a fake challenge for unknown ones |
//! | trying many secrets | a pause before a wrong proof is answered, which grows with the failures of its address |
//! | holding connections open | a deadline over the whole, small messages, few places for one address ([`crate::listen`]) |
//! | bytes behind a message | a message fills its length |
//!
//! It never derives keys on a runtime's thread and never tells a stranger more than it asked for.

mod accepting;
mod acceptor;
mod dialler;
mod dialling;
mod error;
mod hello;
mod introduction;
mod message;
mod own;
mod reverse;

pub use acceptor::verify;
pub use dialler::prove;
pub use error::HandshakeError;
pub use reverse::{answer, call};

use crate::link::{Carrier, Link, LinkInfo};
use longshore_wire::credential::{MAX_ITERATIONS, MIN_ITERATIONS};
use longshore_wire::handshake::{Binding, Hello};
use longshore_wire::{ClusterId, NodeId, Role};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Time for the whole handshake, either side.
const DEADLINE: Duration = Duration::from_secs(5);
/// Salt lengths that an honest peer may use, in bytes.
const SALTS: RangeInclusive<usize> = 8..=64;
/// Longest text of a peer that is shown to anybody.
const SHOWN: usize = 300;

/// Who this node says it is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its id.
    pub node: NodeId,
    /// Its role. A process with two roles has two identities.
    pub role: Role,
    /// Name of its cluster.
    pub cluster: String,
    /// The cluster's id, once known; a peer of another id is refused from then on. Shared by clones. The handshake never
    /// sets it: what a proven peer says is in [`Peer::cluster_id`].
    pub cluster_id: Arc<OnceLock<ClusterId>>,
    /// Release of its program, for people.
    pub release: String,
    /// The nonces that it said hello with, to know itself by. Shared by clones.
    hellos: own::Hellos,
}

impl Identity {
    /// An identity that does not know its cluster's id yet.
    pub fn new(node: NodeId, role: Role, cluster: impl Into<String>, release: impl Into<String>) -> Self {
        let (cluster, release) = (cluster.into(), release.into());
        Self { node, role, cluster, cluster_id: Arc::default(), release, hellos: own::Hellos::default() }
    }

    fn other_cluster_id(&self, theirs: Option<ClusterId>) -> bool {
        matches!((self.cluster_id.get(), theirs), (Some(ours), Some(theirs)) if *ours != theirs)
    }
}

/// Who the peer has proven to be.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its id.
    pub node: NodeId,
    /// Its role.
    pub role: Role,
    /// The credential that was proven.
    pub credential: String,
    /// Number of the secret that was proven, on the accepting side; 0 on the dialling side, which does not learn it.
    pub secret: u32,
    /// The id of its cluster, once it knows it.
    pub cluster_id: Option<ClusterId>,
    /// The protocol version that both speak.
    pub version: u16,
    /// Release of its program, for people.
    pub release: String,
    /// What carries the conversation.
    pub carrier: Carrier,
    /// Address at the other end of the link.
    pub remote: Option<SocketAddr>,
}

/// A link whose both ends have proven themselves.
#[derive(Debug)]
pub struct Proven {
    /// The link, positioned behind the handshake.
    pub link: Link,
    /// Who is at the other end.
    pub peer: Peer,
    /// Whether this end dialled.
    pub dialled: bool,
}

/// The TLS exporter, where the dialler has bound its proof to it.
fn exporter_of<'a>(hello: &Hello, info: &'a LinkInfo) -> &'a [u8] {
    match (hello.binding, &info.exporter) {
        (Binding::TlsExporter, Some(exporter)) => exporter.as_slice(),
        _ => &[],
    }
}

/// Refuses a key derivation that is too weak, or too expensive, before it is begun.
fn check_derivation(salt: &[u8], iterations: u32) -> Result<(), HandshakeError> {
    let affordable = (MIN_ITERATIONS..=MAX_ITERATIONS).contains(&iterations) && SALTS.contains(&salt.len());
    affordable.then_some(()).ok_or(HandshakeError::Derivation { iterations, salt: salt.len() })
}

/// A peer's text, safe for a terminal and a log line.
fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_text_cannot_move_the_cursor() {
        assert_eq!(shown("a\x1b[2Jb\nc"), "a[2Jbc");
        assert_eq!(shown(&"x".repeat(5000)).len(), SHOWN);
    }
}
