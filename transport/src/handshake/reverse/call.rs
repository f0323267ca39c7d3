//! The control node's side: proves that it knows the verifier of the worker's credential, then demands the worker's proof.

use super::super::dialling::{Dialling, dial, hear, out_of_order, welcome};
use super::super::hello::hello;
use super::super::introduction::Introduction;
use super::super::message::send;
use super::super::{HandshakeError, Identity, Peer, Proven, exporter_of, shown};
use crate::auth::{Known, KnownSecret, Transcript, Verifiers, call_proof, check_answer};
use crate::link::Link;
use longshore_wire::handshake::{Claim, FromAcceptor, FromDialler, MAX_CLAIMS, Present};
use longshore_wire::{NodeId, Role};

/// Proves this control node to the worker at the other end and demands its proof in return; 5 s for the whole. With
/// `expected`, no other worker will do.
///
/// # Errors
/// When the worker declines, is not the one expected, holds a credential that is unknown or ended, or cannot prove it.
pub async fn call(
    link: Link,
    me: &Identity,
    verifiers: &dyn Verifiers,
    expected: Option<NodeId>,
) -> Result<Proven, HandshakeError> {
    dial(link, &Caller { me, verifiers, expected }).await
}

struct Caller<'a> {
    me: &'a Identity,
    verifiers: &'a dyn Verifiers,
    expected: Option<NodeId>,
}

impl Dialling for Caller<'_> {
    async fn talk(&self, link: &mut Link, stage: &mut &'static str) -> Result<Peer, HandshakeError> {
        *stage = "the worker's name";
        // The worker says which credential it holds.
        let hello = hello(self.me, &link.info, Role::Worker, String::new())?;
        let io = &mut *link.io;
        let raw_hello = send(io, &FromDialler::Hello(hello.clone()), "sending the hello").await?;

        let (message, raw_present) = hear(io, stage).await?;
        let FromAcceptor::Present(present) = message else { return Err(out_of_order(stage, &message)) };
        let worker = Introduction::from(&present);
        worker.check(self.me, &hello, present.version)?;
        if let Some(expected) = self.expected.filter(|expected| *expected != present.node) {
            return Err(HandshakeError::OtherNode { expected, found: present.node });
        }

        let known = self.secrets(&present)?;
        let valid = || known.secrets.iter().filter(|secret| usable(secret)).rev().take(MAX_CLAIMS);
        let transcript =
            Transcript { hello: &raw_hello, challenge: &raw_present, exporter: exporter_of(&hello, &link.info) };
        // All secrets of a credential share salt and rounds.
        let first = valid().next().ok_or_else(|| unknown(&present))?;
        let claim = Claim {
            salt: first.verifier.salt.clone(),
            iterations: first.verifier.iterations,
            proofs: valid().map(|secret| call_proof(&secret.verifier, &transcript).into()).collect(),
        };
        send(io, &FromDialler::Claim(claim), "sending the proof").await?;

        *stage = "the worker's proof";
        let welcome = welcome(io, stage).await?;
        let proven = valid().find(|secret| check_answer(&secret.verifier, &transcript, &welcome.proof));
        let secret = proven.ok_or_else(|| HandshakeError::WorkerProof(shown(&present.credential)))?.number;
        Ok(worker.proven(present.version, (present.credential.clone(), secret), &link.info))
    }
}

impl Caller<'_> {
    /// What is known of the worker's credential. Nothing is proven with one that this node may not use.
    fn secrets(&self, present: &Present) -> Result<Known, HandshakeError> {
        let known = self.verifiers.find(&present.credential);
        let fits = |known: &Known| !known.revoked && known.node.is_none_or(|node| node == present.node);
        known.filter(fits).ok_or_else(|| unknown(present))
    }
}

fn usable(secret: &KnownSecret) -> bool {
    !secret.retired && secret.verifier.role == Role::Worker
}

fn unknown(present: &Present) -> HandshakeError {
    HandshakeError::NoCredential(shown(&present.credential))
}
