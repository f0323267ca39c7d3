//! The dialler's side: says hello, proves first, then demands the acceptor's proof.

use super::message::{receive, send};
use super::{DEADLINE, HandshakeError, Identity, Peer, Proven, shown};
use crate::auth::{Keyring, Transcript, random};
use crate::link::{Link, LinkInfo};
use longshore_wire::Role;
use longshore_wire::credential::{MAX_ITERATIONS, MIN_ITERATIONS};
use longshore_wire::handshake::{
    Binding, Challenge, FromAcceptor, FromDialler, Hello, MAX_VERSION, MIN_VERSION, NONCE, Proof, Reject,
};
use std::time::Duration;

/// Salt lengths that an honest acceptor may use, in bytes.
pub(super) const SALTS: std::ops::RangeInclusive<usize> = 8..=64;

/// Proves this node to the acceptor at the other end and demands its proof in return; 5 s for the whole. On TLS that no
/// CA and no pin vouched for, the proof is bound to this very TLS connection.
///
/// # Errors
/// When the acceptor declines, is not the one expected, cannot prove itself, or is too slow. The link is closed then.
pub async fn prove(link: Link, me: &Identity, keyring: &Keyring, expect_role: Role) -> Result<Proven, HandshakeError> {
    prove_within(link, me, keyring, expect_role, DEADLINE).await
}

async fn prove_within(
    mut link: Link,
    me: &Identity,
    keyring: &Keyring,
    expect_role: Role,
    deadline: Duration,
) -> Result<Proven, HandshakeError> {
    let mut stage = "the challenge";
    let dialler = Dialler { me, keyring, expect_role };
    match tokio::time::timeout(deadline, dialler.run(&mut link, &mut stage)).await {
        Ok(peer) => Ok(Proven { peer: peer?, link, dialled: true }),
        Err(_) => Err(HandshakeError::Timeout { stage, after: deadline }),
    }
}

struct Dialler<'a> {
    me: &'a Identity,
    keyring: &'a Keyring,
    expect_role: Role,
}

impl Dialler<'_> {
    async fn run(&self, link: &mut Link, stage: &mut &'static str) -> Result<Peer, HandshakeError> {
        self.keyring.refresh().await;
        let io = &mut *link.io;
        let hello = self.hello(&link.info)?;
        let sent = send(io, &FromDialler::Hello(hello.clone()), "sending the hello").await?;

        let received = receive(io, stage).await?;
        let challenge = match longshore_wire::decode_whole(&received)? {
            FromAcceptor::Challenge(challenge) => challenge,
            FromAcceptor::Reject(reject) => return Err(rejected(reject)),
            FromAcceptor::Welcome(_) => return Err(HandshakeError::OutOfOrder { stage, got: "a welcome" }),
            FromAcceptor::Present(_) => {
                return Err(HandshakeError::OutOfOrder { stage, got: "a called worker's name" });
            }
        };
        self.check(&hello, &challenge)?;

        *stage = "this node's own key derivation";
        let keys = self.keyring.keys(&challenge.salt, challenge.iterations).await;
        let keys = keys.ok_or(HandshakeError::ShuttingDown)?;
        let exporter = match (hello.binding, &link.info.exporter) {
            (Binding::TlsExporter, Some(exporter)) => exporter.as_slice(),
            _ => &[],
        };
        let transcript = Transcript { hello: &sent, challenge: &received, exporter };
        let proof = FromDialler::Proof(Proof { proof: keys.client_proof(&transcript) });
        send(io, &proof, "sending the proof").await?;

        *stage = "the acceptor's proof";
        let welcome = match longshore_wire::decode_whole(&receive(io, stage).await?)? {
            FromAcceptor::Welcome(welcome) => welcome,
            FromAcceptor::Reject(reject) => return Err(rejected(reject)),
            _ => return Err(HandshakeError::OutOfOrder { stage, got: "a second challenge" }),
        };
        if !keys.check_server(&transcript, &welcome.proof) {
            return Err(HandshakeError::ServerProof(hello.credential));
        }
        Ok(Peer {
            node: challenge.node,
            role: challenge.role,
            credential: hello.credential,
            secret: 0,
            cluster_id: challenge.cluster_id,
            version: challenge.version,
            release: shown(&challenge.release),
            carrier: link.info.carrier,
            remote: link.info.remote,
        })
    }

    fn hello(&self, info: &LinkInfo) -> Result<Hello, HandshakeError> {
        let mut nonce = vec![0; NONCE];
        random(&mut nonce).map_err(|_| HandshakeError::Nonce)?;
        self.me.hellos.said(&nonce);
        let bound = info.exporter.is_some() && !info.certified;
        Ok(Hello {
            versions: (MIN_VERSION, MAX_VERSION),
            node: self.me.node,
            role: self.me.role,
            peer_role: self.expect_role,
            cluster: self.me.cluster.clone(),
            cluster_id: self.me.cluster_id.get().copied(),
            credential: self.keyring.credential().to_owned(),
            binding: if bound { Binding::TlsExporter } else { Binding::None },
            nonce,
            release: self.me.release.clone(),
        })
    }

    /// Everything that can be refused before the secret is touched.
    fn check(&self, hello: &Hello, challenge: &Challenge) -> Result<(), HandshakeError> {
        if !(MIN_VERSION..=MAX_VERSION).contains(&challenge.version) {
            return Err(HandshakeError::Version(challenge.version));
        }
        if challenge.node == self.me.node {
            return Err(HandshakeError::OwnNode(challenge.node));
        }
        if challenge.nonce.len() != NONCE || challenge.nonce == hello.nonce {
            return Err(HandshakeError::Nonce);
        }
        if challenge.role != self.expect_role {
            return Err(HandshakeError::Role { expected: self.expect_role, found: challenge.role });
        }
        if challenge.cluster != self.me.cluster {
            return Err(HandshakeError::Cluster { ours: self.me.cluster.clone(), theirs: shown(&challenge.cluster) });
        }
        if self.me.other_cluster_id(challenge.cluster_id) {
            return Err(HandshakeError::ClusterId(self.me.cluster.clone()));
        }
        let affordable = (MIN_ITERATIONS..=MAX_ITERATIONS).contains(&challenge.iterations);
        if !affordable || !SALTS.contains(&challenge.salt.len()) {
            let (iterations, salt) = (challenge.iterations, challenge.salt.len());
            return Err(HandshakeError::Derivation { iterations, salt });
        }
        Ok(())
    }
}

pub(super) fn rejected(reject: Reject) -> HandshakeError {
    let retry_after = reject.retry_after_ms.map(Duration::from_millis);
    HandshakeError::Rejected { code: reject.code, message: shown(&reject.message), retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Secret;
    use longshore_wire::NodeId;

    #[tokio::test]
    async fn a_silent_acceptor_costs_no_more_than_the_deadline() {
        let (link, _silent) = crate::memory_pair();
        let me = Identity::new(NodeId::from_u128(1), Role::Worker, "prod", "0");
        let keyring = Keyring::new(Secret::generate().unwrap(), "worker".to_owned());
        let deadline = Duration::from_millis(30);
        let error = prove_within(link, &me, &keyring, Role::Control, deadline).await.unwrap_err();
        assert!(matches!(error, HandshakeError::Timeout { stage: "the challenge", .. }), "{error}");
    }
}
