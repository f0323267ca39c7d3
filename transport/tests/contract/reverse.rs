//! A control node that dials a worker: who proves what, and who is refused.

use crate::harness::{Cluster, Outcome, identity, pair};
use longshore_transport::{
    Carrier, HandshakeError, Keyring, Known, KnownSecret, Link, Secret, Verifiers, answer, call, make_verifier,
    memory_pair, verifier_with,
};
use longshore_wire::handshake::{Claim, FromAcceptor, FromDialler, Hello, RejectCode};
use longshore_wire::{NodeId, Role};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

on_every_carrier!(both_prove_themselves);

const WORKER: u128 = 2;

fn keyring(secret: &Secret) -> Keyring {
    Keyring::new(secret.clone(), "worker".to_owned())
}

async fn listen(keyring: &Keyring, link: Link) -> Outcome {
    answer(link, &identity(WORKER, Role::Worker), keyring).await
}

/// A control node that knows these, and wants this worker.
async fn dial(verifiers: &dyn Verifiers, expected: Option<u128>, link: Link) -> Outcome {
    call(link, &identity(1, Role::Control), verifiers, expected.map(NodeId::from_u128)).await
}

async fn meet(verifiers: &dyn Verifiers, keyring: &Keyring, (a, b): (Link, Link)) -> (Outcome, Outcome) {
    tokio::join!(dial(verifiers, None, a), listen(keyring, b))
}

async fn both_prove_themselves(carrier: Carrier) {
    let cluster = Cluster::new();
    let find = |name: &str| cluster.verifiers.iter().find(|verifier| verifier.credential == name).cloned();
    let (dialled, accepted) = meet(&find, &keyring(&cluster.worker), pair(carrier).await).await;
    let (mut dialled, mut accepted) = (dialled.unwrap(), accepted.unwrap());
    assert!(dialled.dialled && !accepted.dialled);
    assert_eq!((dialled.peer.node, dialled.peer.role), (NodeId::from_u128(WORKER), Role::Worker));
    assert_eq!((accepted.peer.node, accepted.peer.role), (NodeId::from_u128(1), Role::Control));
    assert_eq!((dialled.peer.credential.as_str(), dialled.peer.secret), ("worker", 1));
    dialled.link.io.write_all(b"session").await.unwrap();
    dialled.link.io.flush().await.unwrap();
    let mut got = [0; 7];
    accepted.link.io.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"session");
}

#[tokio::test]
async fn neither_side_takes_another_secret() {
    let cluster = Cluster::new();
    let find = |name: &str| cluster.verifiers.iter().find(|verifier| verifier.credential == name).cloned();
    let (dialled, accepted) = meet(&find, &keyring(&Secret::generate().unwrap()), memory_pair()).await;
    assert_eq!(dialled.unwrap_err().code(), Some(RejectCode::Credential));
    let told = accepted.unwrap_err();
    assert!(told.to_string().contains("is no control node of this cluster"), "{told}");
    // A worker that lets everybody in, and does not know the secret: the control node finds it out.
    let (link, mut liar) = memory_pair();
    let lies = async {
        let FromDialler::Hello(_) = receive(&mut liar).await else { panic!("no hello") };
        send(&mut liar, &FromAcceptor::Present(present())).await;
        let FromDialler::Claim(claim) = receive(&mut liar).await else { panic!("no claim") };
        // Its own proof sent back to it.
        let proof = claim.proofs[0].to_vec();
        send(&mut liar, &FromAcceptor::Welcome(longshore_wire::handshake::Welcome { proof })).await;
    };
    let (dialled, ()) = tokio::join!(dial(&find, None, link), lies);
    assert!(matches!(dialled, Err(HandshakeError::WorkerProof(_))), "{dialled:?}");
}

#[tokio::test]
async fn the_usual_direction_does_not_pass_for_this_one() {
    let cluster = Cluster::new();
    // A worker, or somebody with its secret, who dials as usual.
    for (role, peer_role) in
        [(Role::Worker, Role::Control), (Role::Worker, Role::Worker), (Role::Control, Role::Control)]
    {
        let (a, b) = memory_pair();
        let (me, keys) = (identity(3, role), keyring(&cluster.worker));
        let own = keyring(&cluster.worker);
        let (dialled, accepted) = tokio::join!(longshore_transport::prove(a, &me, &keys, peer_role), listen(&own, b));
        assert_eq!(dialled.unwrap_err().code(), Some(RejectCode::Role));
        assert!(accepted.is_err());
    }
    // Who claims to be a control node, and proves as a worker does.
    let (mut thief, link) = memory_pair();
    let keys = keyring(&cluster.worker);
    let theft = async {
        send(&mut thief, &FromDialler::Hello(hello())).await;
        let FromAcceptor::Present(_) = receive(&mut thief).await else { panic!("refused too early") };
        send(&mut thief, &FromDialler::Proof(longshore_wire::handshake::Proof { proof: vec![1; 32] })).await;
        receive::<FromAcceptor>(&mut thief).await
    };
    let (accepted, told) = tokio::join!(listen(&keys, link), theft);
    assert_eq!(accepted.unwrap_err().code(), Some(RejectCode::Protocol));
    assert!(matches!(told, FromAcceptor::Reject(_)), "{told:?}");
    // And a control node that dials another control node's listener this way.
    let (a, b) = memory_pair();
    let find = |_: &str| None;
    let other = identity(9, Role::Control);
    let (dialled, accepted) = tokio::join!(dial(&find, None, a), cluster.accept_as(b, &other));
    assert_eq!(dialled.unwrap_err().code(), Some(RejectCode::Role));
    assert!(accepted.is_err());
}

#[tokio::test]
async fn only_the_worker_that_is_wanted_and_only_a_credential_that_stands() {
    let secret = Secret::generate().unwrap();
    let old = make_verifier(&secret, "worker", Role::Worker, 4096);
    let new = verifier_with(&Secret::generate().unwrap(), "worker", Role::Worker, old.salt.clone(), 4096);
    let known = |retired, revoked, node: Option<u128>| Known {
        secrets: vec![
            KnownSecret { number: 1, verifier: old.clone(), retired },
            KnownSecret { number: 2, verifier: new.clone(), retired: false },
        ],
        node: node.map(NodeId::from_u128),
        revoked,
    };
    struct One(Known);
    impl Verifiers for One {
        fn find(&self, _: &str) -> Option<Known> {
            Some(self.0.clone())
        }
    }
    let keys = keyring(&secret);
    let (a, b) = memory_pair();
    let rotating = One(known(false, false, Some(WORKER)));
    let (dialled, accepted) = tokio::join!(dial(&rotating, Some(WORKER), a), listen(&keys, b));
    assert_eq!(dialled.unwrap().peer.secret, 1, "either secret will do during a rotation");
    assert!(accepted.is_ok());
    for (known, expected) in
        [(known(false, true, None), None), (known(false, false, Some(7)), None), (known(false, false, None), Some(7))]
    {
        let (a, b) = memory_pair();
        let (dialled, accepted) = {
            let verifiers = One(known);
            tokio::join!(dial(&verifiers, expected, a), listen(&keys, b))
        };
        let error = dialled.unwrap_err();
        let fits = matches!(error, HandshakeError::NoCredential(_) | HandshakeError::OtherNode { .. });
        assert!(fits && accepted.is_err(), "{error}");
    }
    let (dialled, _) = meet(&One(known(true, false, None)), &keys, memory_pair()).await;
    assert_eq!(dialled.unwrap_err().code(), Some(RejectCode::Credential), "the worker holds a retired secret");
}

#[tokio::test]
async fn a_stranger_cannot_make_a_worker_derive() {
    let keys = keyring(&Secret::generate().unwrap());
    let right = || vec![0; 32].into();
    for claim in [
        Claim { salt: vec![1; 16], iterations: 5_000_001, proofs: vec![right()] },
        Claim { salt: vec![1; 16], iterations: 1, proofs: vec![right()] },
        Claim { salt: vec![1; 65], iterations: 4096, proofs: vec![right()] },
        Claim { salt: vec![1; 16], iterations: 4096, proofs: vec![] },
        Claim { salt: vec![1; 16], iterations: 4096, proofs: vec![right(), right(), right()] },
    ] {
        let error = claimed(&keys, claim).await;
        assert!(matches!(error, HandshakeError::Derivation { .. }), "{error}");
    }
    // One salt after the other: the second comes too soon, however fast this machine is.
    let guess = |salt: u8| Claim { salt: vec![salt; 16], iterations: 200_000, proofs: vec![right()] };
    assert_eq!(claimed(&keys, guess(1)).await.code(), Some(RejectCode::Credential));
    let (first, second) = tokio::join!(claimed(&keys, guess(2)), claimed(&keys, guess(3)));
    let codes = [first.code(), second.code()];
    assert!(codes.contains(&Some(RejectCode::Busy)), "{codes:?}");
}

/// What a listening worker makes of a claim.
async fn claimed(keys: &Keyring, claim: Claim) -> HandshakeError {
    let (mut stranger, link) = memory_pair();
    let speak = async {
        send(&mut stranger, &FromDialler::Hello(hello())).await;
        let FromAcceptor::Present(_) = receive(&mut stranger).await else { panic!("refused too early") };
        send(&mut stranger, &FromDialler::Claim(claim)).await;
        let mut rest = Vec::new();
        let _ = stranger.io.read_to_end(&mut rest).await;
    };
    let (accepted, ()) = tokio::join!(listen(keys, link), speak);
    accepted.unwrap_err()
}

fn hello() -> Hello {
    Hello {
        versions: (1, 1),
        node: NodeId::from_u128(1),
        role: Role::Control,
        peer_role: Role::Worker,
        cluster: "prod".to_owned(),
        cluster_id: None,
        credential: String::new(),
        binding: longshore_wire::handshake::Binding::None,
        nonce: vec![5; 32],
        release: String::new(),
    }
}

fn present() -> longshore_wire::handshake::Present {
    longshore_wire::handshake::Present {
        version: 1,
        node: NodeId::from_u128(WORKER),
        role: Role::Worker,
        cluster: "prod".to_owned(),
        cluster_id: None,
        nonce: vec![6; 32],
        credential: "worker".to_owned(),
        release: String::new(),
    }
}

async fn send(link: &mut Link, message: &impl Serialize) {
    let body = longshore_wire::encode(message);
    link.io.write_all(&u32::try_from(body.len()).unwrap().to_be_bytes()).await.unwrap();
    link.io.write_all(&body).await.unwrap();
    link.io.flush().await.unwrap();
}

async fn receive<T: serde::de::DeserializeOwned>(link: &mut Link) -> T {
    let mut body = vec![0; link.io.read_u32().await.unwrap() as usize];
    link.io.read_exact(&mut body).await.unwrap();
    longshore_wire::decode(&body).unwrap()
}
