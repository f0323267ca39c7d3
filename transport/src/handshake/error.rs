//! Why a handshake failed, in one sentence for the operator.

use longshore_wire::handshake::{MAX_MESSAGE, RejectCode};
use longshore_wire::{DecodeError, NodeId, Role};
use std::time::Duration;

/// Why a peer is not proven.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer was too slow.
    #[error("the peer did not complete the handshake within {after:?} (waiting for: {stage})")]
    Timeout {
        /// What was awaited.
        stage: &'static str,
        /// The deadline for the whole.
        after: Duration,
    },
    /// The connection broke.
    #[error("the connection broke in the handshake ({stage}): {source}")]
    Io {
        /// What was being done.
        stage: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The peer closed without a word.
    #[error("the peer closed the connection in the handshake (waiting for: {stage}); its log says why")]
    Closed {
        /// What was awaited.
        stage: &'static str,
    },
    /// A message is longer than one may be.
    #[error(
        "a handshake message of {length} bytes; the limit is {MAX_MESSAGE}: the peer does not speak this protocol, or a name is too long"
    )]
    TooLong {
        /// The length announced.
        length: usize,
    },
    /// A message is no message.
    #[error("the peer does not speak this protocol: {0}")]
    Malformed(#[from] DecodeError),
    /// A message came at the wrong moment.
    #[error("the peer broke the order of the handshake: {got} came instead of {stage}")]
    OutOfOrder {
        /// What was awaited.
        stage: &'static str,
        /// What came.
        got: &'static str,
    },
    /// The acceptor declined us.
    #[error("refused by the other side: {message}")]
    Rejected {
        /// Why, for programs.
        code: RejectCode,
        /// Why, in its words.
        message: String,
        /// How long it asks to stay away.
        retry_after: Option<Duration>,
    },
    /// We declined the dialler.
    #[error("{message}")]
    Refused {
        /// Why, for programs; this is what the dialler is told.
        code: RejectCode,
        /// Why.
        message: String,
    },
    /// The acceptor chose a version that we do not speak.
    #[error("the other side chose protocol version {0}, which this release does not speak")]
    Version(u16),
    /// The acceptor has another role.
    #[error("the other side is a {found} node, not a {expected} node; check the address")]
    Role {
        /// The role needed.
        expected: Role,
        /// The role found.
        found: Role,
    },
    /// The acceptor belongs to another cluster.
    #[error("the other side belongs to cluster '{theirs}', this node to '{ours}'; check the address and cluster.name")]
    Cluster {
        /// Our cluster's name.
        ours: String,
        /// The acceptor's.
        theirs: String,
    },
    /// The acceptor's cluster has our cluster's name but is another one.
    #[error("the other side belongs to another cluster of the same name '{0}' (its cluster id differs)")]
    ClusterId(String),
    /// We dialled ourselves, or a copy of our data folder.
    #[error("the other side has this node's own id {0}: the address leads back here, or a data folder was copied")]
    OwnNode(NodeId),
    /// The acceptor's nonce is ours, or no nonce.
    #[error("the other side sent back this node's own nonce or none at all; this may be an attack")]
    Nonce,
    /// The acceptor wants a key derivation that is too weak, or too expensive.
    #[error(
        "the other side asks for {iterations} rounds and a salt of {salt} bytes, which this node does not accept; this may be an attack"
    )]
    Derivation {
        /// PBKDF2 rounds.
        iterations: u32,
        /// Bytes of salt.
        salt: usize,
    },
    /// The acceptor does not know what an honest one would.
    #[error("the other side could not prove that it holds the verifier of credential '{0}'; this may be an attack")]
    ServerProof(String),
    /// The worker that was dialled holds a credential that this cluster does not let in.
    #[error(
        "the worker there holds credential '{0}', which this cluster does not have, has revoked, or gave to another node"
    )]
    NoCredential(String),
    /// The worker that was dialled does not hold the secret.
    #[error("the worker there could not prove that it holds the secret of credential '{0}'")]
    WorkerProof(String),
    /// Another worker than the one wanted was dialled.
    #[error("node {found} answers there, not worker {expected}")]
    OtherNode {
        /// Who was wanted.
        expected: NodeId,
        /// Who answered.
        found: NodeId,
    },
    /// This process is ending.
    #[error("this process is shutting down")]
    ShuttingDown,
}

impl HandshakeError {
    /// How long the other side asks to stay away.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The reject code that crossed the wire, or would have.
    pub const fn code(&self) -> Option<RejectCode> {
        match self {
            Self::Rejected { code, .. } | Self::Refused { code, .. } => Some(*code),
            Self::TooLong { .. } | Self::Malformed(_) | Self::OutOfOrder { .. } => Some(RejectCode::Protocol),
            _ => None,
        }
    }
}
