//! The worker's side: says who it is, checks the control node's proof, and only then proves itself.

use super::super::accepting::{Accepting, Greeting, Progress, accept, greeting, hear, out_of_order};
use super::super::hello::fresh_nonce;
use super::super::introduction::Introduction;
use super::super::message::send;
use super::super::{HandshakeError, Identity, Peer, Proven, check_derivation, exporter_of};
use crate::auth::{Keyring, Transcript};
use crate::link::Link;
use longshore_wire::Role;
use longshore_wire::handshake::{Claim, FromAcceptor, FromDialler, Hello, MAX_CLAIMS, Present, RejectCode, Welcome};

/// Demands the proof of a control node that has dialled this worker, then proves the worker to it; 5 s for the whole. A
/// refusal is told to the dialler and logged here in one line.
///
/// # Errors
/// When the dialler is no control node of this cluster, breaks the protocol, or is too slow. The link is closed then.
pub async fn answer(link: Link, me: &Identity, keyring: &Keyring) -> Result<Proven, HandshakeError> {
    accept(link, &Answerer { me, keyring }).await
}

struct Answerer<'a> {
    me: &'a Identity,
    keyring: &'a Keyring,
}

impl Accepting for Answerer<'_> {
    fn me(&self) -> &Identity {
        self.me
    }

    async fn talk(&self, link: &mut Link, progress: &mut Progress) -> Result<Peer, HandshakeError> {
        let Greeting { hello, raw: raw_hello, version } = greeting(link, self.me, progress).await?;
        let io = &mut *link.io;
        if hello.role != Role::Control {
            let message = format!("a worker takes calls of control nodes only, not of a {} node", hello.role);
            return Err(HandshakeError::Refused { code: RejectCode::Role, message });
        }
        self.keyring.refresh().await;
        let present = FromAcceptor::Present(self.present(version)?);
        let raw_present = send(io, &present, "sending who this is").await?;

        progress.stage = "the control node's proof";
        let claim = match hear(io, progress.stage).await?.0 {
            FromDialler::Claim(claim) => claim,
            other => return Err(out_of_order(progress.stage, &other)),
        };
        let exporter = exporter_of(&hello, &link.info);
        let transcript = Transcript { hello: &raw_hello, challenge: &raw_present, exporter };
        let proof = self.weigh(&hello, &claim, &transcript).await?;
        send(io, &FromAcceptor::Welcome(Welcome { proof }), "sending the welcome").await?;
        let proven = (self.keyring.credential().to_owned(), 0);
        Ok(Introduction::from(&*hello).proven(version, proven, &link.info))
    }
}

impl Answerer<'_> {
    fn present(&self, version: u16) -> Result<Present, HandshakeError> {
        Ok(Present {
            version,
            node: self.me.node,
            role: self.me.role,
            cluster: self.me.cluster.clone(),
            cluster_id: self.me.cluster_id.get().copied(),
            nonce: fresh_nonce()?,
            credential: self.keyring.credential().to_owned(),
            release: self.me.release.clone(),
        })
    }

    /// Checks the claim; gives this worker's own proof.
    async fn weigh(
        &self,
        hello: &Hello,
        claim: &Claim,
        transcript: &Transcript<'_>,
    ) -> Result<Vec<u8>, HandshakeError> {
        let Claim { salt, iterations, proofs } = claim;
        check_derivation(salt, *iterations)?;
        if !(1..=MAX_CLAIMS).contains(&proofs.len()) {
            return Err(HandshakeError::Derivation { iterations: *iterations, salt: salt.len() });
        }
        let refuse = |code, message: String| Err(HandshakeError::Refused { code, message });
        let Ok(derived) = self.keyring.keys_for_stranger(salt, *iterations).await else {
            let message = "another caller is being checked; try again in a moment".to_owned();
            return refuse(RejectCode::Busy, message);
        };
        if !proofs.iter().any(|proof| derived.keys.check_call(transcript, proof)) {
            let message = format!(
                "node {} does not know the verifier of this worker's credential '{}': it is no control node of this cluster, or this worker's secret is not the cluster's",
                hello.node,
                self.keyring.credential()
            );
            return refuse(RejectCode::Credential, message);
        }
        let proof = derived.keys.answer_proof(transcript);
        self.keyring.keep_proven(derived);
        Ok(proof)
    }
}
