//! Who the peer says it is: what a hello, a challenge and a called worker's name have in common.
//!
//! The dialler checks it before it touches a secret, and it becomes a [`Peer`] only once it is proven.

use super::{HandshakeError, Identity, Peer, shown};
use crate::link::LinkInfo;
use longshore_wire::handshake::{Challenge, Hello, MAX_VERSION, MIN_VERSION, NONCE, Present};
use longshore_wire::{ClusterId, NodeId, Role};

/// A peer's words about itself.
pub(super) struct Introduction<'a> {
    node: NodeId,
    role: Role,
    cluster: &'a str,
    cluster_id: Option<ClusterId>,
    nonce: &'a [u8],
    release: &'a str,
}

macro_rules! introduces_itself {
    ($($message:ty),+) => {$(
        impl<'a> From<&'a $message> for Introduction<'a> {
            fn from(said: &'a $message) -> Self {
                let (cluster, nonce, release) = (&said.cluster, &said.nonce, &said.release);
                Self { node: said.node, role: said.role, cluster, cluster_id: said.cluster_id, nonce, release }
            }
        }
    )+};
}

introduces_itself!(Hello, Challenge, Present);

impl Introduction<'_> {
    /// Everything that the dialler can refuse before anything is proven.
    pub(super) fn check(&self, me: &Identity, hello: &Hello, version: u16) -> Result<(), HandshakeError> {
        if !(MIN_VERSION..=MAX_VERSION).contains(&version) {
            return Err(HandshakeError::Version(version));
        }
        if self.node == me.node {
            return Err(HandshakeError::OwnNode(self.node));
        }
        if self.nonce.len() != NONCE || self.nonce == hello.nonce {
            return Err(HandshakeError::Nonce);
        }
        if self.role != hello.peer_role {
            return Err(HandshakeError::Role { expected: hello.peer_role, found: self.role });
        }
        if self.cluster != me.cluster {
            return Err(HandshakeError::Cluster { ours: me.cluster.clone(), theirs: shown(self.cluster) });
        }
        if me.other_cluster_id(self.cluster_id) {
            return Err(HandshakeError::ClusterId(me.cluster.clone()));
        }
        Ok(())
    }

    /// The peer, now that the secret of that number was proven.
    pub(super) fn proven(&self, version: u16, (credential, secret): (String, u32), info: &LinkInfo) -> Peer {
        Peer {
            node: self.node,
            role: self.role,
            credential,
            secret,
            cluster_id: self.cluster_id,
            version,
            release: shown(self.release),
            carrier: info.carrier,
            remote: info.remote,
        }
    }
}
