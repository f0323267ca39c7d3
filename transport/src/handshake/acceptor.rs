//! The acceptor's side: challenges, checks the dialler's proof, and only then proves itself.

use super::accepting::{Accepting, Greeting, Progress, accept, greeting, hear, out_of_order};
use super::hello::fresh_nonce;
use super::introduction::Introduction;
use super::message::send;
use super::{HandshakeError, Identity, Peer, Proven, exporter_of, shown};
use crate::auth::{Found, Known, KnownSecret, Transcript, Verifiers, check_client, find_or_fake, server_proof};
use crate::link::Link;
use longshore_wire::handshake::{Binding, Challenge, FromAcceptor, FromDialler, Hello, RejectCode, Welcome};

/// Demands the dialler's proof, then proves this node to it; 5 s for the whole. A refusal is told to the dialler and
/// logged here in one line; a wrong proof is answered late, the later the more of them its address gave.
///
/// # Errors
/// When the dialler is refused, breaks the protocol, or is too slow. The link is closed then.
pub async fn verify(link: Link, me: &Identity, verifiers: &dyn Verifiers) -> Result<Proven, HandshakeError> {
    accept(link, &Acceptor { me, verifiers }).await
}

struct Acceptor<'a> {
    me: &'a Identity,
    verifiers: &'a dyn Verifiers,
}

impl Accepting for Acceptor<'_> {
    fn me(&self) -> &Identity {
        self.me
    }

    async fn talk(&self, link: &mut Link, progress: &mut Progress) -> Result<Peer, HandshakeError> {
        let Greeting { hello, raw: raw_hello, version } = greeting(link, self.me, progress).await?;
        let io = &mut *link.io;
        let found = find_or_fake(self.verifiers, &hello.credential, hello.role);
        let challenge = FromAcceptor::Challenge(self.challenge(&found, version)?);
        let raw_challenge = send(io, &challenge, "sending the challenge").await?;

        progress.stage = "the dialler's proof";
        let proof = match hear(io, progress.stage).await?.0 {
            FromDialler::Proof(proof) => proof,
            other => return Err(out_of_order(progress.stage, &other)),
        };
        let exporter = exporter_of(&hello, &link.info);
        let transcript = Transcript { hello: &raw_hello, challenge: &raw_challenge, exporter };
        let secret = found.known.secrets.iter().find(|each| check_client(&each.verifier, &transcript, &proof.proof));
        let Some(secret) = secret.filter(|_| found.real) else {
            return Err(wrong_proof(&hello));
        };
        check_standing(&hello, &found.known, secret)?;
        let welcome = FromAcceptor::Welcome(Welcome { proof: server_proof(&secret.verifier, &transcript) });
        send(io, &welcome, "sending the welcome").await?;
        let proven = (hello.credential.clone(), secret.number);
        Ok(Introduction::from(&*hello).proven(version, proven, &link.info))
    }
}

impl Acceptor<'_> {
    fn challenge(&self, found: &Found, version: u16) -> Result<Challenge, HandshakeError> {
        Ok(Challenge {
            version,
            node: self.me.node,
            role: self.me.role,
            cluster: self.me.cluster.clone(),
            cluster_id: self.me.cluster_id.get().copied(),
            nonce: fresh_nonce()?,
            salt: found.challenge().salt.clone(),
            iterations: found.challenge().iterations,
            release: self.me.release.clone(),
        })
    }
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

#[cfg(test)]
mod tests {
    use super::super::message::receive;
    use super::*;
    use longshore_wire::handshake::{Binding, FromDialler, MAX_VERSION, MIN_VERSION, NONCE};
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
}
