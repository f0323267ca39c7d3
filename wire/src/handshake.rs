//! The four messages that come before a session.
//!
//! ```text
//! dialler                                   acceptor
//!    │ ── Hello ─────────────────────────────▶ │   who I am, whom I expect, my nonce
//!    │ ◀───────────────────────── Challenge ── │   who I am, my nonce, salt and rounds
//!    │ ── Proof ─────────────────────────────▶ │   the dialler proves first
//!    │ ◀─────────────── Welcome or Reject ──── │   the acceptor proves, or says why not
//! ```
//!
//! Each travels as a 4-byte big-endian length and a MessagePack body of at most [`MAX_MESSAGE`] bytes. Both proofs are
//! HMACs over the whole transcript, so no field of the first two messages can be changed under way.

mod reverse;

pub use reverse::{Claim, MAX_CLAIMS, Present};

use crate::{ClusterId, NodeId, Role};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Largest handshake message, in bytes: an unauthenticated peer can make us hold no more than this.
pub const MAX_MESSAGE: usize = 4096;
/// Bytes of a nonce.
pub const NONCE: usize = 32;
/// Oldest protocol version that this build speaks.
pub const MIN_VERSION: u16 = 1;
/// Newest protocol version that this build speaks.
pub const MAX_VERSION: u16 = 2;

/// What the proof is tied to beside the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// Nothing: plaintext, or a certificate already vouches for the peer.
    None,
    /// The TLS exporter (RFC 9266, `EXPORTER-Channel-Binding`, 32 bytes).
    TlsExporter,
}

/// First message, dialler to acceptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest and newest protocol version that the dialler speaks.
    pub versions: (u16, u16),
    /// The dialler.
    pub node: NodeId,
    /// The role that the dialler claims.
    pub role: Role,
    /// The role that the dialler expects of the acceptor.
    pub peer_role: Role,
    /// Name of the cluster that the dialler belongs to.
    pub cluster: String,
    /// The cluster's id, once the dialler knows it.
    pub cluster_id: Option<ClusterId>,
    /// Name of the credential that it will prove.
    pub credential: String,
    /// What the proof is tied to.
    pub binding: Binding,
    /// [`NONCE`] fresh random bytes.
    #[serde(with = "serde_bytes")]
    pub nonce: Vec<u8>,
    /// Release of the dialler's program, for people.
    pub release: String,
}

/// Second message, acceptor to dialler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// The version that both will speak.
    pub version: u16,
    /// The acceptor.
    pub node: NodeId,
    /// The acceptor's role.
    pub role: Role,
    /// Name of the acceptor's cluster.
    pub cluster: String,
    /// The cluster's id, once the acceptor knows it.
    pub cluster_id: Option<ClusterId>,
    /// [`NONCE`] fresh random bytes.
    #[serde(with = "serde_bytes")]
    pub nonce: Vec<u8>,
    /// Salt of the credential.
    #[serde(with = "serde_bytes")]
    pub salt: Vec<u8>,
    /// PBKDF2 rounds of the credential.
    pub iterations: u32,
    /// Release of the acceptor's program, for people.
    pub release: String,
}

/// Third message, dialler to acceptor: the client proof of RFC 5802 over the transcript.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// 32 bytes.
    #[serde(with = "serde_bytes")]
    pub proof: Vec<u8>,
}

/// Fourth message when all is well: the server signature of RFC 5802 over the transcript.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// 32 bytes.
    #[serde(with = "serde_bytes")]
    pub proof: Vec<u8>,
}

/// What the acceptor sends instead of [`Challenge`] or [`Welcome`] when it declines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// Why, for programs.
    pub code: RejectCode,
    /// Why, for the operator; names no secret and nothing that the dialler did not say itself.
    pub message: String,
    /// The dialler should not come back before so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// A message from the acceptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromAcceptor {
    /// Second message.
    Challenge(Challenge),
    /// Fourth message.
    Welcome(Welcome),
    /// The end.
    Reject(Reject),
    /// Second message of a worker that was dialled.
    Present(Present),
}

/// A message from the dialler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromDialler {
    /// First message.
    Hello(Hello),
    /// Third message.
    Proof(Proof),
    /// Third message to a worker that was dialled.
    Claim(Claim),
}

/// Why a handshake was declined. Numbers are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "u16", from = "u16")]
pub enum RejectCode {
    /// 1: no common protocol version.
    Version,
    /// 2: the cluster's name or id is another.
    Cluster,
    /// 3: the proof is wrong, or the credential unknown (deliberately not told apart).
    Credential,
    /// 4: the credential is for another role or another node, or the acceptor has not the role expected.
    Role,
    /// 5: the message is malformed or out of order.
    Protocol,
    /// 6: the node id claimed is the acceptor's own.
    SelfDialled,
    /// 7: too many handshakes now; come back later.
    Busy,
    /// 8: the binding does not suit the connection.
    Binding,
    /// 9: the credential was revoked. Told only behind a right proof.
    Revoked,
    /// 10: a node with this id is in session already, and lives. Told only behind a right proof.
    Clone,
    /// A code of a newer version.
    Other(u16),
}

impl From<RejectCode> for u16 {
    fn from(code: RejectCode) -> Self {
        match code {
            RejectCode::Version => 1,
            RejectCode::Cluster => 2,
            RejectCode::Credential => 3,
            RejectCode::Role => 4,
            RejectCode::Protocol => 5,
            RejectCode::SelfDialled => 6,
            RejectCode::Busy => 7,
            RejectCode::Binding => 8,
            RejectCode::Revoked => 9,
            RejectCode::Clone => 10,
            RejectCode::Other(number) => number,
        }
    }
}

impl From<u16> for RejectCode {
    fn from(number: u16) -> Self {
        match number {
            1 => Self::Version,
            2 => Self::Cluster,
            3 => Self::Credential,
            4 => Self::Role,
            5 => Self::Protocol,
            6 => Self::SelfDialled,
            7 => Self::Busy,
            8 => Self::Binding,
            9 => Self::Revoked,
            10 => Self::Clone,
            other => Self::Other(other),
        }
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(..)")
    }
}

impl fmt::Debug for Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Welcome(..)")
    }
}
