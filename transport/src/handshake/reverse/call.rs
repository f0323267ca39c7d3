//! The control node's side: proves that it knows the verifier of the worker's credential, then demands the worker's proof.

use super::super::dialler::rejected;
use super::super::message::{receive, send};
use super::super::{DEADLINE, HandshakeError, Identity, Peer, Proven, exporter_of, shown};
use crate::auth::{Known, KnownSecret, Transcript, Verifiers, call_proof, check_answer, random};
use crate::link::{Link, LinkInfo};
use longshore_wire::handshake::{
    Binding, Claim, FromAcceptor, FromDialler, Hello, MAX_CLAIMS, MAX_VERSION, MIN_VERSION, NONCE, Present,
};
use longshore_wire::{NodeId, Role};

/// Proves this control node to the worker at the other end and demands its proof in return; 5 s for the whole. With
/// `expected`, no other worker will do.
///
/// # Errors
/// When the worker declines, is not the one expected, holds a credential that is unknown or ended, or cannot prove it.
pub async fn call(
    mut link: Link,
    me: &Identity,
    verifiers: &dyn Verifiers,
    expected: Option<NodeId>,
) -> Result<Proven, HandshakeError> {
    let mut stage = "the worker's name";
    let caller = Caller { me, verifiers, expected };
    match tokio::time::timeout(DEADLINE, caller.run(&mut link, &mut stage)).await {
        Ok(peer) => Ok(Proven { peer: peer?, link, dialled: true }),
        Err(_) => Err(HandshakeError::Timeout { stage, after: DEADLINE }),
    }
}

struct Caller<'a> {
    me: &'a Identity,
    verifiers: &'a dyn Verifiers,
    expected: Option<NodeId>,
}

impl Caller<'_> {
    async fn run(&self, link: &mut Link, stage: &mut &'static str) -> Result<Peer, HandshakeError> {
        let io = &mut *link.io;
        let hello = self.hello(&link.info)?;
        let raw_hello = send(io, &FromDialler::Hello(hello.clone()), "sending the hello").await?;
        let raw_present = receive(io, stage).await?;
        let present = match longshore_wire::decode(&raw_present)? {
            FromAcceptor::Present(present) => present,
            FromAcceptor::Reject(reject) => return Err(rejected(reject)),
            _ => return Err(HandshakeError::OutOfOrder { stage, got: "another message" }),
        };
        self.check(&hello, &present)?;

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
        let welcome = match longshore_wire::decode(&receive(io, stage).await?)? {
            FromAcceptor::Welcome(welcome) => welcome,
            FromAcceptor::Reject(reject) => return Err(rejected(reject)),
            _ => return Err(HandshakeError::OutOfOrder { stage, got: "another message" }),
        };
        let proven = valid().find(|secret| check_answer(&secret.verifier, &transcript, &welcome.proof));
        let secret = proven.ok_or_else(|| HandshakeError::WorkerProof(shown(&present.credential)))?.number;
        Ok(Peer {
            node: present.node,
            role: present.role,
            credential: present.credential,
            secret,
            cluster_id: present.cluster_id,
            version: present.version,
            release: shown(&present.release),
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
            peer_role: Role::Worker,
            cluster: self.me.cluster.clone(),
            cluster_id: self.me.cluster_id.get().copied(),
            // The worker says which one it holds.
            credential: String::new(),
            binding: if bound { Binding::TlsExporter } else { Binding::None },
            nonce,
            release: self.me.release.clone(),
        })
    }

    /// Everything that can be refused before anything is proven.
    fn check(&self, hello: &Hello, present: &Present) -> Result<(), HandshakeError> {
        if !(MIN_VERSION..=MAX_VERSION).contains(&present.version) {
            return Err(HandshakeError::Version(present.version));
        }
        if present.node == self.me.node {
            return Err(HandshakeError::OwnNode(present.node));
        }
        if present.nonce.len() != NONCE || present.nonce == hello.nonce {
            return Err(HandshakeError::Nonce);
        }
        if present.role != Role::Worker {
            return Err(HandshakeError::Role { expected: Role::Worker, found: present.role });
        }
        if present.cluster != self.me.cluster {
            let (ours, theirs) = (self.me.cluster.clone(), shown(&present.cluster));
            return Err(HandshakeError::Cluster { ours, theirs });
        }
        if self.me.other_cluster_id(present.cluster_id) {
            return Err(HandshakeError::ClusterId(self.me.cluster.clone()));
        }
        match self.expected {
            Some(expected) if expected != present.node => {
                Err(HandshakeError::OtherNode { expected, found: present.node })
            }
            _ => Ok(()),
        }
    }

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
