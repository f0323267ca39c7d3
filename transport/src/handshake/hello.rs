//! The first message, the same in both directions: how whoever dials makes it, and what whoever accepts refuses in it.

use super::{HandshakeError, Identity, shown};
use crate::auth::random;
use crate::link::LinkInfo;
use longshore_wire::Role;
use longshore_wire::handshake::{Binding, Hello, MAX_VERSION, MIN_VERSION, NONCE, RejectCode};

/// A hello with a nonce of its own. On TLS that no CA and no pin vouched for, it announces a proof that is bound to this
/// very TLS connection.
pub(super) fn hello(
    me: &Identity,
    info: &LinkInfo,
    peer_role: Role,
    credential: String,
) -> Result<Hello, HandshakeError> {
    let nonce = fresh_nonce()?;
    me.hellos.said(&nonce);
    let bound = info.exporter.is_some() && !info.certified;
    Ok(Hello {
        versions: (MIN_VERSION, MAX_VERSION),
        node: me.node,
        role: me.role,
        peer_role,
        cluster: me.cluster.clone(),
        cluster_id: me.cluster_id.get().copied(),
        credential,
        binding: if bound { Binding::TlsExporter } else { Binding::None },
        nonce,
        release: me.release.clone(),
    })
}

/// Random bytes that no handshake had before.
pub(super) fn fresh_nonce() -> Result<Vec<u8>, HandshakeError> {
    let mut nonce = vec![0; NONCE];
    random(&mut nonce).map_err(|_| HandshakeError::Nonce)?;
    Ok(nonce)
}

/// Everything that can be refused before the acceptor answers; returns the version to speak. The messages hold nothing that
/// the dialler did not say itself.
pub(super) fn check_hello(me: &Identity, hello: &Hello, info: &LinkInfo) -> Result<u16, HandshakeError> {
    let refuse = |code, message: String| Err(HandshakeError::Refused { code, message });
    let (oldest, newest) = hello.versions;
    let Some(version) = common_version(hello.versions) else {
        let message = format!(
            "this release speaks protocol versions {MIN_VERSION} to {MAX_VERSION}, not {oldest} to {newest}; upgrade one side"
        );
        return refuse(RejectCode::Version, message);
    };
    if hello.nonce.len() != NONCE {
        return refuse(RejectCode::Protocol, format!("a nonce of {} bytes", hello.nonce.len()));
    }
    if hello.node == me.node {
        let message = format!("node id {} is this node's own: a loop, or a copied data folder", hello.node);
        return refuse(RejectCode::SelfDialled, message);
    }
    if hello.cluster != me.cluster {
        let message =
            format!("cluster '{}' is not the cluster of this node; check cluster.name", shown(&hello.cluster));
        return refuse(RejectCode::Cluster, message);
    }
    if me.other_cluster_id(hello.cluster_id) {
        let message = format!(
            "another cluster of the same name '{}' (its cluster id differs); to join this one, start with an empty node.data_dir",
            shown(&hello.cluster)
        );
        return refuse(RejectCode::Cluster, message);
    }
    if hello.peer_role != me.role {
        let message = format!("this node is not a {} node; check the address", hello.peer_role);
        return refuse(RejectCode::Role, message);
    }
    if hello.binding == Binding::TlsExporter && info.exporter.is_none() {
        let message = "the dialler bound its proof to TLS, but TLS ends before this node (at a balancer?); let the \
            dialler verify with tls_verify=system, ca or pin";
        return refuse(RejectCode::Binding, message.to_owned());
    }
    Ok(version)
}

/// The newest version that both sides speak.
fn common_version((oldest, newest): (u16, u16)) -> Option<u16> {
    let version = newest.min(MAX_VERSION);
    (version >= oldest.max(MIN_VERSION)).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(common_version((MIN_VERSION, MAX_VERSION)), Some(MAX_VERSION));
        assert_eq!(common_version((1, u16::MAX)), Some(MAX_VERSION));
        assert_eq!(common_version((MAX_VERSION + 1, u16::MAX)), None);
        assert_eq!(common_version((0, 0)), None);
    }
}
