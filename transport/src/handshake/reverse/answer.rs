//! The worker's side: says who it is, checks the control node's proof, and only then proves itself.

use super::super::acceptor::{Progress, check_hello, log, turn_away};
use super::super::dialler::SALTS;
use super::super::message::{receive, send};
use super::super::{DEADLINE, HandshakeError, Identity, Peer, Proven, exporter_of, shown};
use crate::auth::{Keyring, Transcript, random};
use crate::link::Link;
use longshore_wire::Role;
use longshore_wire::credential::{MAX_ITERATIONS, MIN_ITERATIONS};
use longshore_wire::handshake::{
    Claim, FromAcceptor, FromDialler, Hello, MAX_CLAIMS, NONCE, Present, RejectCode, Welcome,
};
use tokio::time::Instant;

/// Demands the proof of a control node that has dialled this worker, then proves the worker to it; 5 s for the whole. A
/// refusal is told to the dialler and logged here in one line.
///
/// # Errors
/// When the dialler is no control node of this cluster, breaks the protocol, or is too slow. The link is closed then.
pub async fn answer(mut link: Link, me: &Identity, keyring: &Keyring) -> Result<Proven, HandshakeError> {
    let mut progress = Progress { stage: "the hello", hello: None };
    let latest = Instant::now() + DEADLINE;
    let latest = link.prove_by.take().map_or(latest, |by| by.min(latest));
    let answerer = Answerer { me, keyring };
    let result = match tokio::time::timeout_at(latest, answerer.run(&mut link, &mut progress)).await {
        Ok(result) => result,
        Err(_) => Err(HandshakeError::Timeout { stage: progress.stage, after: DEADLINE }),
    };
    match result {
        Ok(peer) => {
            link.admission = None;
            Ok(Proven { link, peer, dialled: false })
        }
        Err(error) => {
            log(me, &link.info, progress.hello.as_ref(), &error);
            turn_away(link, &error).await;
            Err(error)
        }
    }
}

struct Answerer<'a> {
    me: &'a Identity,
    keyring: &'a Keyring,
}

impl Answerer<'_> {
    async fn run(&self, link: &mut Link, progress: &mut Progress) -> Result<Peer, HandshakeError> {
        let io = &mut *link.io;
        let raw_hello = receive(io, progress.stage).await?;
        let FromDialler::Hello(hello) = longshore_wire::decode(&raw_hello)? else {
            return Err(HandshakeError::OutOfOrder { stage: progress.stage, got: "a proof" });
        };
        let hello = &*progress.hello.insert(hello);
        let version = check_hello(self.me, hello, &link.info)?;
        if hello.role != Role::Control {
            let message = format!("a worker takes calls of control nodes only, not of a {} node", hello.role);
            return Err(HandshakeError::Refused { code: RejectCode::Role, message });
        }
        self.keyring.refresh().await;
        let present = FromAcceptor::Present(self.present(version)?);
        let raw_present = send(io, &present, "sending who this is").await?;

        progress.stage = "the control node's proof";
        let FromDialler::Claim(claim) = longshore_wire::decode(&receive(io, progress.stage).await?)? else {
            return Err(HandshakeError::OutOfOrder { stage: progress.stage, got: "another message" });
        };
        let transcript =
            Transcript { hello: &raw_hello, challenge: &raw_present, exporter: exporter_of(hello, &link.info) };
        let proof = self.weigh(hello, claim, &transcript).await?;
        send(io, &FromAcceptor::Welcome(Welcome { proof }), "sending the welcome").await?;
        Ok(Peer {
            node: hello.node,
            role: hello.role,
            credential: self.keyring.credential().to_owned(),
            secret: 0,
            cluster_id: hello.cluster_id,
            version,
            release: shown(&hello.release),
            carrier: link.info.carrier,
            remote: link.info.remote,
        })
    }

    fn present(&self, version: u16) -> Result<Present, HandshakeError> {
        let mut nonce = vec![0; NONCE];
        random(&mut nonce).map_err(|_| HandshakeError::Nonce)?;
        Ok(Present {
            version,
            node: self.me.node,
            role: self.me.role,
            cluster: self.me.cluster.clone(),
            cluster_id: self.me.cluster_id.get().copied(),
            nonce,
            credential: self.keyring.credential().to_owned(),
            release: self.me.release.clone(),
        })
    }

    /// Checks the claim; gives this worker's own proof.
    async fn weigh(&self, hello: &Hello, claim: Claim, transcript: &Transcript<'_>) -> Result<Vec<u8>, HandshakeError> {
        let Claim { salt, iterations, proofs } = claim;
        let affordable = (MIN_ITERATIONS..=MAX_ITERATIONS).contains(&iterations) && SALTS.contains(&salt.len());
        if !affordable || !(1..=MAX_CLAIMS).contains(&proofs.len()) {
            return Err(HandshakeError::Derivation { iterations, salt: salt.len() });
        }
        let refuse = |code, message: String| Err(HandshakeError::Refused { code, message });
        let Ok(keys) = self.keyring.keys_for_stranger(&salt, iterations).await else {
            let message = "another caller is being checked; try again in a moment".to_owned();
            return refuse(RejectCode::Busy, message);
        };
        if !proofs.iter().any(|proof| keys.check_call(transcript, proof)) {
            let message = format!(
                "node {} does not know the verifier of this worker's credential '{}': it is no control node of this cluster, or this worker's secret is not the cluster's",
                hello.node,
                self.keyring.credential()
            );
            return refuse(RejectCode::Credential, message);
        }
        let proof = keys.answer_proof(transcript);
        self.keyring.keep_proven(salt, iterations, keys);
        Ok(proof)
    }
}
