//! What the control side keeps of a secret: enough to check a proof, not enough to make one.

use crate::Role;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Fewest PBKDF2 rounds that either side accepts (RFC 7677 §4).
pub const MIN_ITERATIONS: u32 = 4096;
/// Rounds of a newly made credential.
pub const DEFAULT_ITERATIONS: u32 = 600_000;
/// Most PBKDF2 rounds that a dialler will compute for an acceptor it does not know yet.
pub const MAX_ITERATIONS: u32 = 5_000_000;

/// A SCRAM-SHA-256 verifier (RFC 5802 §3, RFC 7677), bound to a role.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verifier {
    /// Name of the credential: what the dialler claims. Unique in a cluster.
    pub credential: String,
    /// What its holder may be.
    pub role: Role,
    /// Salt of the key derivation.
    #[serde(with = "serde_bytes")]
    pub salt: Vec<u8>,
    /// PBKDF2 rounds.
    pub iterations: u32,
    /// SHA-256 of the client key.
    #[serde(with = "serde_bytes")]
    pub stored_key: Vec<u8>,
    /// The key with which the acceptor proves itself.
    #[serde(with = "serde_bytes")]
    pub server_key: Vec<u8>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("credential", &self.credential)
            .field("role", &self.role)
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}
