//! What somebody without the secret can try by speaking the protocol himself.

use crate::harness::{Cluster, identity, pair};
use crate::middle::{Recorded, recorded};
use longshore_transport::{Carrier, HandshakeError, Link, memory_pair};
use longshore_wire::handshake::{Challenge, FromAcceptor, FromDialler, Hello, MAX_VERSION, Proof, RejectCode, Welcome};
use longshore_wire::{ClusterId, NodeId, Role};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

on_every_carrier!(no_secret_crosses_the_line);

pub(crate) async fn send(link: &mut Link, message: &impl Serialize) {
    let body = longshore_wire::encode(message);
    link.io.write_all(&u32::try_from(body.len()).unwrap().to_be_bytes()).await.unwrap();
    link.io.write_all(&body).await.unwrap();
    link.io.flush().await.unwrap();
}

pub(crate) async fn receive<T: DeserializeOwned>(link: &mut Link) -> T {
    let mut body = vec![0; link.io.read_u32().await.unwrap() as usize];
    link.io.read_exact(&mut body).await.unwrap();
    longshore_wire::decode(&body).unwrap()
}

pub(crate) async fn receive_hello(link: &mut Link) -> Hello {
    match receive(link).await {
        FromDialler::Hello(hello) => hello,
        FromDialler::Proof(_) | FromDialler::Claim(_) => panic!("a proof before the challenge"),
    }
}

/// What an honest acceptor would answer.
pub(crate) fn honest(cluster: &Cluster) -> Challenge {
    let verifier = &cluster.verifiers[0];
    Challenge {
        version: 1,
        node: NodeId::from_u128(1),
        role: Role::Control,
        cluster: "prod".to_owned(),
        cluster_id: None,
        nonce: vec![9; 32],
        salt: verifier.salt.clone(),
        iterations: verifier.iterations,
        release: String::new(),
    }
}

async fn no_secret_crosses_the_line(carrier: Carrier) {
    let cluster = Cluster::new();
    let (a, b) = pair(carrier).await;
    let (a, record) = recorded(a);
    let (dialled, accepted) = cluster.meet(&cluster.dialler(), (a, b)).await;
    assert!(dialled.is_ok() && accepted.is_ok());
    let Recorded { written, read } = record.lock().unwrap().clone();
    assert!(written.len() > 100 && read.len() > 100);
    let holds =
        |needle: &[u8]| [&written, &read].iter().any(|bytes| bytes.windows(needle.len()).any(|at| at == needle));
    let verifier = &cluster.verifiers[0];
    assert!(!holds(cluster.worker.text().as_bytes()));
    assert!(!holds(&verifier.stored_key) && !holds(&verifier.server_key));
    assert!(holds(&verifier.salt), "the search itself works");
}

#[tokio::test]
async fn a_replayed_dialler_is_refused() {
    let cluster = Cluster::new();
    let (a, b) = memory_pair();
    let (a, record) = recorded(a);
    let (_, accepted) = cluster.meet(&cluster.dialler(), (a, b)).await;
    assert!(accepted.is_ok());
    let replay = record.lock().unwrap().written.clone();

    let (mut thief, link) = memory_pair();
    thief.io.write_all(&replay).await.unwrap();
    let (accepted, answer) = tokio::join!(cluster.accept(link), async move {
        let FromAcceptor::Challenge(_) = receive(&mut thief).await else { panic!("no challenge") };
        receive::<FromAcceptor>(&mut thief).await
    });
    assert_eq!(accepted.unwrap_err().code(), Some(RejectCode::Credential));
    assert!(matches!(answer, FromAcceptor::Reject(reject) if reject.code == RejectCode::Credential));
}

#[tokio::test]
async fn a_replayed_acceptor_is_refused() {
    let cluster = Cluster::new();
    let (a, b) = memory_pair();
    let (b, record) = recorded(b);
    let (dialled, _) = cluster.meet(&cluster.dialler(), (a, b)).await;
    assert!(dialled.is_ok());
    let replay = record.lock().unwrap().written.clone();

    let (link, mut thief) = memory_pair();
    thief.io.write_all(&replay).await.unwrap();
    let error = cluster.dialler().prove(link).await.unwrap_err();
    assert!(matches!(error, HandshakeError::ServerProof(_)), "{error}");
}

/// What a worker says of an acceptor that answers like this.
async fn answered(change: impl FnOnce(&Hello, &mut Challenge)) -> HandshakeError {
    let cluster = Cluster::new();
    let (link, mut thief) = memory_pair();
    let dialler = cluster.dialler();
    dialler.me.cluster_id.set(ClusterId::from_u128(1)).unwrap();
    let (result, ()) = tokio::join!(dialler.prove(link), async {
        let hello = receive_hello(&mut thief).await;
        let mut challenge = honest(&cluster);
        change(&hello, &mut challenge);
        send(&mut thief, &FromAcceptor::Challenge(challenge)).await;
        let mut rest = Vec::new();
        thief.io.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "it gives no proof to such an acceptor");
    });
    result.unwrap_err()
}

#[tokio::test]
async fn dangerous_challenges_get_no_proof() {
    let error = answered(|hello, challenge| challenge.nonce = hello.nonce.clone()).await;
    assert!(matches!(error, HandshakeError::Nonce), "reflected: {error}");
    let error = answered(|_, challenge| challenge.nonce.truncate(8)).await;
    assert!(matches!(error, HandshakeError::Nonce), "short: {error}");
    let error = answered(|hello, challenge| challenge.node = hello.node).await;
    assert!(matches!(error, HandshakeError::OwnNode(_)), "{error}");
    for iterations in [0, 1, 4095, 5_000_001, u32::MAX] {
        let error = answered(|_, challenge| challenge.iterations = iterations).await;
        assert!(matches!(error, HandshakeError::Derivation { .. }), "{iterations}: {error}");
    }
    let error = answered(|_, challenge| challenge.salt.clear()).await;
    assert!(matches!(error, HandshakeError::Derivation { salt: 0, .. }), "{error}");
    let error = answered(|_, challenge| challenge.role = Role::Worker).await;
    assert!(matches!(error, HandshakeError::Role { .. }), "{error}");
    let error = answered(|_, challenge| challenge.cluster = "other".to_owned()).await;
    assert!(matches!(error, HandshakeError::Cluster { .. }), "{error}");
    let error = answered(|_, challenge| challenge.cluster_id = Some(ClusterId::from_u128(2))).await;
    assert!(matches!(error, HandshakeError::ClusterId(_)), "{error}");
    let error = answered(|_, challenge| challenge.version = 99).await;
    assert!(matches!(error, HandshakeError::Version(99)), "{error}");
}

#[tokio::test]
async fn an_acceptor_without_the_verifier_is_found_out() {
    let cluster = Cluster::new();
    for proof in [vec![], vec![0; 32], vec![7; 64]] {
        let (link, mut thief) = memory_pair();
        let dialler = cluster.dialler();
        let (result, ()) = tokio::join!(dialler.prove(link), async {
            receive_hello(&mut thief).await;
            send(&mut thief, &FromAcceptor::Challenge(honest(&cluster))).await;
            let FromDialler::Proof(_) = receive(&mut thief).await else { panic!("no proof") };
            send(&mut thief, &FromAcceptor::Welcome(Welcome { proof })).await;
        });
        let error = result.unwrap_err();
        assert!(matches!(error, HandshakeError::ServerProof(_)), "{error}");
    }
}

#[tokio::test]
async fn a_proof_sent_back_proves_nothing() {
    let cluster = Cluster::new();
    let (link, mut thief) = memory_pair();
    let dialler = cluster.dialler();
    let (result, ()) = tokio::join!(dialler.prove(link), async {
        receive_hello(&mut thief).await;
        send(&mut thief, &FromAcceptor::Challenge(honest(&cluster))).await;
        let FromDialler::Proof(Proof { proof }) = receive(&mut thief).await else { panic!("no proof") };
        send(&mut thief, &FromAcceptor::Welcome(Welcome { proof })).await;
    });
    assert!(matches!(result.unwrap_err(), HandshakeError::ServerProof(_)));
}

#[tokio::test]
async fn no_stage_can_be_skipped_by_the_acceptor() {
    let cluster = Cluster::new();
    let dialler = cluster.dialler();
    let (link, mut thief) = memory_pair();
    let (result, ()) = tokio::join!(dialler.prove(link), async {
        receive_hello(&mut thief).await;
        send(&mut thief, &FromAcceptor::Welcome(Welcome { proof: vec![0; 32] })).await;
    });
    assert!(matches!(result.unwrap_err(), HandshakeError::OutOfOrder { stage: "the challenge", .. }));

    let (link, mut thief) = memory_pair();
    let (result, ()) = tokio::join!(dialler.prove(link), async {
        receive_hello(&mut thief).await;
        send(&mut thief, &FromAcceptor::Challenge(honest(&cluster))).await;
        send(&mut thief, &FromAcceptor::Challenge(honest(&cluster))).await;
    });
    assert!(matches!(result.unwrap_err(), HandshakeError::OutOfOrder { stage: "the acceptor's proof", .. }));
}

pub(crate) fn hello() -> Hello {
    Hello {
        versions: (1, 1),
        node: identity(2, Role::Worker).node,
        role: Role::Worker,
        peer_role: Role::Control,
        cluster: "prod".to_owned(),
        cluster_id: None,
        credential: "worker".to_owned(),
        binding: longshore_wire::handshake::Binding::None,
        nonce: vec![1; 32],
        release: String::new(),
    }
}

/// The acceptor's error and its last message for a dialler that sends these messages whatever comes back.
async fn sent(messages: &[FromDialler]) -> (HandshakeError, RejectCode) {
    let cluster = Cluster::new();
    let (mut thief, link) = memory_pair();
    let (accepted, code) = tokio::join!(cluster.accept(link), async move {
        for message in messages {
            send(&mut thief, message).await;
        }
        loop {
            if let FromAcceptor::Reject(reject) = receive(&mut thief).await {
                break reject.code;
            }
        }
    });
    (accepted.unwrap_err(), code)
}

#[tokio::test]
async fn no_stage_can_be_skipped_by_the_dialler() {
    let proof = FromDialler::Proof(Proof { proof: vec![0; 32] });
    let (error, code) = sent(std::slice::from_ref(&proof)).await;
    assert!(matches!(error, HandshakeError::OutOfOrder { stage: "the hello", .. }), "{error}");
    assert_eq!(code, RejectCode::Protocol);
    let (error, code) = sent(&[FromDialler::Hello(hello()), FromDialler::Hello(hello())]).await;
    assert!(matches!(error, HandshakeError::OutOfOrder { stage: "the dialler's proof", .. }), "{error}");
    assert_eq!(code, RejectCode::Protocol);
}

#[tokio::test]
async fn bad_hellos_are_refused_before_a_challenge() {
    for (hello, expected) in [
        (Hello { nonce: vec![1; 31], ..hello() }, RejectCode::Protocol),
        (Hello { versions: (MAX_VERSION + 1, MAX_VERSION + 7), ..hello() }, RejectCode::Version),
        (Hello { binding: longshore_wire::handshake::Binding::TlsExporter, ..hello() }, RejectCode::Binding),
    ] {
        let (error, code) = sent(&[FromDialler::Hello(hello)]).await;
        assert_eq!((error.code(), code), (Some(expected), expected), "{error}");
    }
}

#[tokio::test]
async fn proofs_of_a_wrong_length_are_wrong() {
    for proof in [vec![], vec![0; 31], vec![0; 33]] {
        let proof = FromDialler::Proof(Proof { proof });
        let (_, code) = sent(&[FromDialler::Hello(hello()), proof]).await;
        assert_eq!(code, RejectCode::Credential);
    }
}

#[tokio::test]
async fn long_messages_are_refused_by_their_length_alone() {
    let cluster = Cluster::new();
    let (mut thief, link) = memory_pair();
    let (accepted, answer) = tokio::join!(cluster.accept(link), async move {
        thief.io.write_u32(4097).await.unwrap();
        receive::<FromAcceptor>(&mut thief).await
    });
    assert!(matches!(accepted.unwrap_err(), HandshakeError::TooLong { length: 4097 }));
    assert!(matches!(answer, FromAcceptor::Reject(reject) if reject.code == RejectCode::Protocol));

    let (link, mut thief) = memory_pair();
    thief.io.write_u32(u32::MAX).await.unwrap();
    assert!(matches!(cluster.dialler().prove(link).await.unwrap_err(), HandshakeError::TooLong { .. }));
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let cluster = Cluster::new();
    let (mut stranger, link) = memory_pair();
    stranger.io.write_all(&[0, 0, 0, 3, 0xc1, 0xc1, 0xc1]).await.unwrap();
    stranger.io.shutdown().await.unwrap();
    let error = cluster.accept(link).await.unwrap_err();
    assert!(matches!(error, HandshakeError::Malformed(_)), "{error}");
}
