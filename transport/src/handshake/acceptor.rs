//! The acceptor's side: challenges, checks the dialler's proof, and only then proves itself.

use super::message::{receive, send};
use super::{DEADLINE, HandshakeError, Identity, Peer, Proven, common_version, exporter_of, shown};
use crate::auth::{Found, Known, KnownSecret, Transcript, Verifiers, check_client, find_or_fake, random, server_proof};
use crate::link::{Io, Link, LinkInfo};
use crate::listen::admission::Ticket;
use longshore_wire::handshake::{
    Binding, Challenge, FromAcceptor, FromDialler, Hello, MAX_VERSION, MIN_VERSION, NONCE, Reject, RejectCode, Welcome,
};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

/// Pause before a wrong proof is answered on a link that no listener counts: inside a tunnel, and in memory.
const WRONG_PROOF: Duration = Duration::from_millis(500);
/// Whoever holds a revoked credential is asked to stay away for so many milliseconds.
const REVOKED_MS: u64 = 60_000;
/// Time for a refusal to reach the dialler.
const FAREWELL: Duration = Duration::from_secs(1);
/// Most bytes of a refused dialler that are read and thrown away, so that closing does not overtake the refusal.
const DISCARDED: u64 = 64 * 1024;

/// Demands the dialler's proof, then proves this node to it; 5 s for the whole. A refusal is told to the dialler and
/// logged here in one line; a wrong proof is answered late, the later the more of them its address gave.
///
/// # Errors
/// When the dialler is refused, breaks the protocol, or is too slow. The link is closed then.
pub async fn verify(link: Link, me: &Identity, verifiers: &dyn Verifiers) -> Result<Proven, HandshakeError> {
    verify_within(link, me, verifiers, DEADLINE).await
}

async fn verify_within(
    mut link: Link,
    me: &Identity,
    verifiers: &dyn Verifiers,
    deadline: Duration,
) -> Result<Proven, HandshakeError> {
    let mut progress = Progress { stage: "the hello", hello: None };
    let acceptor = Acceptor { me, verifiers };
    let latest = Instant::now() + deadline;
    let latest = link.prove_by.take().map_or(latest, |by| by.min(latest));
    let result = match tokio::time::timeout_at(latest, acceptor.run(&mut link, &mut progress)).await {
        Ok(result) => result,
        Err(_) => Err(HandshakeError::Timeout { stage: progress.stage, after: deadline }),
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

/// How far it came: outlives the deadline, for the log.
pub(super) struct Progress {
    pub(super) stage: &'static str,
    pub(super) hello: Option<Hello>,
}

struct Acceptor<'a> {
    me: &'a Identity,
    verifiers: &'a dyn Verifiers,
}

impl Acceptor<'_> {
    async fn run(&self, link: &mut Link, progress: &mut Progress) -> Result<Peer, HandshakeError> {
        let io = &mut *link.io;
        let raw_hello = receive(io, progress.stage).await?;
        let FromDialler::Hello(hello) = longshore_wire::decode_whole(&raw_hello)? else {
            return Err(HandshakeError::OutOfOrder { stage: progress.stage, got: "a proof" });
        };
        let hello = &*progress.hello.insert(hello);
        let version = check_hello(self.me, hello, &link.info)?;

        let found = find_or_fake(self.verifiers, &hello.credential, hello.role);
        let challenge = FromAcceptor::Challenge(self.challenge(&found, version)?);
        let raw_challenge = send(io, &challenge, "sending the challenge").await?;

        progress.stage = "the dialler's proof";
        let FromDialler::Proof(proof) = longshore_wire::decode_whole(&receive(io, progress.stage).await?)? else {
            return Err(HandshakeError::OutOfOrder { stage: progress.stage, got: "a second hello" });
        };
        let exporter = exporter_of(hello, &link.info);
        let transcript = Transcript { hello: &raw_hello, challenge: &raw_challenge, exporter };
        let secret = found.known.secrets.iter().find(|each| check_client(&each.verifier, &transcript, &proof.proof));
        let Some(secret) = secret.filter(|_| found.real) else {
            return Err(wrong_proof(hello));
        };
        check_standing(hello, &found.known, secret)?;
        let welcome = FromAcceptor::Welcome(Welcome { proof: server_proof(&secret.verifier, &transcript) });
        send(io, &welcome, "sending the welcome").await?;
        Ok(Peer {
            node: hello.node,
            role: hello.role,
            credential: hello.credential.clone(),
            secret: secret.number,
            cluster_id: hello.cluster_id,
            version,
            release: shown(&hello.release),
            carrier: link.info.carrier,
            remote: link.info.remote,
        })
    }

    fn challenge(&self, found: &Found, version: u16) -> Result<Challenge, HandshakeError> {
        let mut nonce = vec![0; NONCE];
        random(&mut nonce).map_err(|_| HandshakeError::Nonce)?;
        Ok(Challenge {
            version,
            node: self.me.node,
            role: self.me.role,
            cluster: self.me.cluster.clone(),
            cluster_id: self.me.cluster_id.get().copied(),
            nonce,
            salt: found.challenge().salt.clone(),
            iterations: found.challenge().iterations,
            release: self.me.release.clone(),
        })
    }
}

/// Everything that can be refused before a challenge; returns the version to speak. The messages hold nothing that
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

/// Whether whoever holds this secret may come in. Only for a dialler whose proof is right: a stranger learns none of it.
fn check_standing(hello: &Hello, known: &Known, secret: &KnownSecret) -> Result<(), HandshakeError> {
    let name = shown(&hello.credential);
    let refuse = |code, message| Err(HandshakeError::Refused { code, message });
    if known.revoked {
        let message = format!(
            "credential '{name}' was revoked; give this node another one (`longshore credential create`), and set auth.secret_file and auth.credential"
        );
        return refuse(RejectCode::Revoked, message);
    }
    if secret.retired {
        let message = format!(
            "this secret of credential '{name}' was retired by a rotation; put the new one into the file of auth.secret_file"
        );
        return refuse(RejectCode::Revoked, message);
    }
    if secret.verifier.role != hello.role {
        let message = format!("credential '{name}' is not for the role {}", hello.role);
        return refuse(RejectCode::Role, message);
    }
    match known.node {
        Some(holder) if holder != hello.node => {
            let message = format!(
                "credential '{name}' belongs to node {holder}, not to node {}; give this node a credential of its own",
                hello.node
            );
            refuse(RejectCode::Role, message)
        }
        _ => Ok(()),
    }
}

fn wrong_proof(hello: &Hello) -> HandshakeError {
    let mut message = format!("the secret for credential '{}' is wrong or unknown", shown(&hello.credential));
    if hello.binding == Binding::TlsExporter {
        message.push_str(", or something between the nodes opens their TLS (the proof is bound to the TLS connection)");
    }
    HandshakeError::Refused { code: RejectCode::Credential, message }
}

/// One line for every dialler that was not let in. Who says nothing at all is a balancer's health check or a port scan.
pub(super) fn log(me: &Identity, info: &LinkInfo, hello: Option<&Hello>, error: &HandshakeError) {
    if hello.is_some_and(|hello| me.hellos.is_own(&hello.nonce)) {
        tracing::debug!(remote = info.remote.map(tracing::field::display), "this node has met itself");
        return;
    }
    if matches!(error, HandshakeError::Closed { .. } | HandshakeError::Timeout { .. }) && hello.is_none() {
        tracing::debug!(remote = info.remote.map(tracing::field::display), "connected, and said no hello: {error}");
        return;
    }
    tracing::warn!(
        remote = info.remote.map(tracing::field::display),
        carrier = %info.carrier,
        node = hello.map(|hello| tracing::field::display(hello.node)),
        role = hello.map(|hello| tracing::field::display(hello.role)),
        credential = hello.map(|hello| shown(&hello.credential)),
        code = error.code().map(tracing::field::debug),
        "handshake refused: {error}"
    );
}

/// Tells the dialler why, then closes without overtaking that.
pub(super) async fn turn_away(mut link: Link, error: &HandshakeError) {
    let Some(code) = error.code() else { return };
    if code == RejectCode::Credential {
        let pause = link.admission.as_ref().map_or(WRONG_PROOF, Ticket::failed);
        tokio::time::sleep(pause).await;
    }
    // Nothing but an operator changes that.
    let retry_after_ms = (code == RejectCode::Revoked).then_some(REVOKED_MS);
    let reject = FromAcceptor::Reject(Reject { code, message: error.to_string(), retry_after_ms });
    // Whether the dialler still listens is its own affair: our error stands either way.
    let _ = tokio::time::timeout(FAREWELL, farewell(&mut *link.io, &reject)).await;
}

async fn farewell(io: &mut dyn Io, reject: &FromAcceptor) -> Result<(), HandshakeError> {
    let stage = "sending the refusal";
    send(io, reject, stage).await?;
    let closed = async {
        io.shutdown().await?;
        tokio::io::copy(&mut io.take(DISCARDED), &mut tokio::io::sink()).await
    };
    closed.await.map(drop).map_err(|source| HandshakeError::Io { stage, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_wire::{NodeId, Role};

    #[tokio::test]
    async fn a_version_out_of_range_is_told_both_ranges() {
        let (mut dialler, link) = crate::memory_pair();
        let me = Identity::new(NodeId::from_u128(1), Role::Control, "prod", "0");
        let hello = FromDialler::Hello(Hello {
            versions: (MAX_VERSION + 5, MAX_VERSION + 7),
            node: NodeId::from_u128(2),
            role: Role::Worker,
            peer_role: Role::Control,
            cluster: "prod".to_owned(),
            cluster_id: None,
            credential: "worker".to_owned(),
            binding: Binding::None,
            nonce: vec![1; NONCE],
            release: "9".to_owned(),
        });
        send(&mut *dialler.io, &hello, "the hello").await.unwrap();
        let none = |_: &str| None;
        let refusing = verify(link, &me, &none);
        let (refused, answer) = tokio::join!(refusing, async move {
            let answer = receive(&mut *dialler.io, "the refusal").await.unwrap();
            drop(dialler);
            answer
        });
        assert_eq!(refused.unwrap_err().code(), Some(RejectCode::Version));
        let FromAcceptor::Reject(reject) = longshore_wire::decode(&answer).unwrap() else { panic!("let in") };
        let ranges = [(MIN_VERSION, MAX_VERSION), (MAX_VERSION + 5, MAX_VERSION + 7)];
        for (oldest, newest) in ranges {
            assert!(reject.message.contains(&format!("{oldest} to {newest}")), "{}", reject.message);
        }
    }

    #[tokio::test]
    async fn a_silent_dialler_costs_no_more_than_the_deadline() {
        let (link, _silent) = crate::memory_pair();
        let me = Identity::new(NodeId::from_u128(1), Role::Control, "prod", "0");
        let none = |_: &str| None;
        let error = verify_within(link, &me, &none, Duration::from_millis(30)).await.unwrap_err();
        assert!(matches!(error, HandshakeError::Timeout { stage: "the hello", .. }), "{error}");
    }
}
