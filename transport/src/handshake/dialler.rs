//! The dialler's side: says hello, proves first, then demands the acceptor's proof.

use super::dialling::{Dialling, dial, hear, out_of_order, welcome};
use super::hello::hello;
use super::introduction::Introduction;
use super::message::send;
use super::{HandshakeError, Identity, Peer, Proven, check_derivation, exporter_of};
use crate::auth::{Keyring, Transcript};
use crate::link::Link;
use longshore_wire::Role;
use longshore_wire::handshake::{FromAcceptor, FromDialler, Proof};

/// Proves this node to the acceptor at the other end and demands its proof in return; 5 s for the whole. On TLS that no
/// CA and no pin vouched for, the proof is bound to this very TLS connection.
///
/// # Errors
/// When the acceptor declines, is not the one expected, cannot prove itself, or is too slow. The link is closed then.
pub async fn prove(link: Link, me: &Identity, keyring: &Keyring, expect_role: Role) -> Result<Proven, HandshakeError> {
    dial(link, &Dialler { me, keyring, expect_role }).await
}

struct Dialler<'a> {
    me: &'a Identity,
    keyring: &'a Keyring,
    expect_role: Role,
}

impl Dialling for Dialler<'_> {
    async fn talk(&self, link: &mut Link, stage: &mut &'static str) -> Result<Peer, HandshakeError> {
        *stage = "the challenge";
        self.keyring.refresh().await;
        let hello = hello(self.me, &link.info, self.expect_role, self.keyring.credential().to_owned())?;
        let io = &mut *link.io;
        let sent = send(io, &FromDialler::Hello(hello.clone()), "sending the hello").await?;

        let (message, received) = hear(io, stage).await?;
        let FromAcceptor::Challenge(challenge) = message else { return Err(out_of_order(stage, &message)) };
        let acceptor = Introduction::from(&challenge);
        acceptor.check(self.me, &hello, challenge.version)?;
        check_derivation(&challenge.salt, challenge.iterations)?;

        *stage = "this node's own key derivation";
        let derived = self.keyring.keys(&challenge.salt, challenge.iterations).await;
        let derived = derived.ok_or(HandshakeError::ShuttingDown)?;
        let transcript = Transcript { hello: &sent, challenge: &received, exporter: exporter_of(&hello, &link.info) };
        let proof = FromDialler::Proof(Proof { proof: derived.keys.client_proof(&transcript) });
        send(io, &proof, "sending the proof").await?;

        *stage = "the acceptor's proof";
        let welcome = welcome(io, stage).await?;
        if !derived.keys.check_server(&transcript, &welcome.proof) {
            return Err(HandshakeError::ServerProof(hello.credential));
        }
        self.keyring.keep_proven(derived);
        Ok(acceptor.proven(challenge.version, (hello.credential, 0), &link.info))
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::receive;
    use super::super::verify;
    use super::*;
    use crate::auth::{Secret, make_verifier};
    use longshore_wire::NodeId;
    use longshore_wire::credential::MIN_ITERATIONS;
    use longshore_wire::handshake::{Challenge, NONCE};
    use std::sync::Arc;

    fn challenge(salt: Vec<u8>) -> FromAcceptor {
        FromAcceptor::Challenge(Challenge {
            version: 1,
            node: NodeId::from_u128(9),
            role: Role::Control,
            cluster: "prod".to_owned(),
            cluster_id: None,
            nonce: vec![9; NONCE],
            salt,
            iterations: MIN_ITERATIONS,
            release: "0".to_owned(),
        })
    }

    #[tokio::test]
    async fn a_stranger_with_ever_new_salts_does_not_cost_the_clusters_keys() {
        let secret = Secret::generate().unwrap();
        let verifier = make_verifier(&secret, "worker", Role::Worker, MIN_ITERATIONS);
        let identity = |number, role| Identity::new(NodeId::from_u128(number), role, "prod", "0");
        let (me, control) = (identity(2, Role::Worker), identity(1, Role::Control));
        let keyring = Keyring::new(secret, "worker".to_owned());
        let find = |_: &str| Some(verifier.clone());
        let (link, other) = crate::memory_pair();
        let (dialled, accepted) =
            tokio::join!(prove(link, &me, &keyring, Role::Control), verify(other, &control, &find));
        assert!(dialled.is_ok() && accepted.is_ok());
        let derived = keyring.keys(&verifier.salt, MIN_ITERATIONS).await.unwrap();
        for salt in 0..20 {
            let (link, mut stranger) = crate::memory_pair();
            let (dialled, ()) = tokio::join!(prove(link, &me, &keyring, Role::Control), async move {
                let io = &mut *stranger.io;
                receive(io, "the hello").await.unwrap();
                send(io, &challenge(vec![salt; 16]), "the challenge").await.unwrap();
                receive(io, "the proof").await.unwrap();
                drop(stranger);
            });
            assert!(matches!(dialled, Err(HandshakeError::Closed { .. })), "{dialled:?}");
        }
        let again = keyring.keys(&verifier.salt, MIN_ITERATIONS).await.unwrap();
        assert!(Arc::ptr_eq(&derived, &again), "the keys were derived anew");
    }
}
