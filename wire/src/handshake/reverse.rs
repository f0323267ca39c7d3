//! The messages of a handshake that a control node begins, with a worker that listens.
//!
//! ```text
//! control node (dials)                      worker (listens)
//!    │ ── Hello ─────────────────────────────▶ │   peer_role is worker: the roles are turned around
//!    │ ◀────────────────────────── Present ─── │   who I am, my nonce, the credential that I hold
//!    │ ── Claim ─────────────────────────────▶ │   salt and rounds of it; the control node proves first
//!    │ ◀─────────────── Welcome or Reject ──── │   the worker proves that it holds the secret
//! ```

use crate::{ClusterId, NodeId, Role};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use std::fmt;

/// Most proofs of a claim: a credential has two valid secrets during a rotation.
pub const MAX_CLAIMS: usize = 2;

/// Second message, from a worker that was dialled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// The version that both will speak.
    pub version: u16,
    /// The worker.
    pub node: NodeId,
    /// Its role.
    pub role: Role,
    /// Name of its cluster.
    pub cluster: String,
    /// The cluster's id, once the worker knows it.
    pub cluster_id: Option<ClusterId>,
    /// Fresh random bytes, as many as in a hello.
    #[serde(with = "serde_bytes")]
    pub nonce: Vec<u8>,
    /// Name of the credential that the worker holds.
    pub credential: String,
    /// Release of the worker's program, for people.
    pub release: String,
}

/// Third message, from the control node: it knows the verifier of the worker's credential.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Salt of the credential.
    #[serde(with = "serde_bytes")]
    pub salt: Vec<u8>,
    /// PBKDF2 rounds of the credential.
    pub iterations: u32,
    /// A signature with the server key of each valid secret of the credential; 32 bytes each, [`MAX_CLAIMS`] at most.
    pub proofs: Vec<ByteBuf>,
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claim(..)")
    }
}
