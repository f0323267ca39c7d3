//! The order of the handshake, its sizes and its clock, over every carrier.

use crate::attacks::{hello, honest, receive, receive_hello, send};
use crate::harness::{Cluster, pair};
use longshore_transport::{Carrier, HandshakeError, Link};
use longshore_wire::frame::{Header, Kind};
use longshore_wire::handshake::{FromAcceptor, FromDialler, Proof, RejectCode, Welcome};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;

on_every_carrier!(
    a_stranger_skips_no_stage,
    a_false_acceptor_skips_no_stage,
    nothing_hides_behind_a_message,
    no_message_is_too_long,
    a_byte_at_a_time_is_too_slow,
);

fn framed(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

async fn write(link: &mut Link, bytes: &[u8]) {
    // The other side may have closed already.
    let _ = link.io.write_all(bytes).await;
    let _ = link.io.flush().await;
}

fn encoded(message: &FromDialler) -> Vec<u8> {
    framed(&longshore_wire::encode(message))
}

/// What the acceptor makes of a stranger who says this, whatever comes back.
async fn refusal(carrier: Carrier, bytes: &[u8]) -> HandshakeError {
    let cluster = Cluster::new();
    let (mut stranger, link) = pair(carrier).await;
    let talk = async {
        write(&mut stranger, bytes).await;
        loop {
            match receive::<FromAcceptor>(&mut stranger).await {
                FromAcceptor::Challenge(_) => {}
                FromAcceptor::Reject(reject) => return reject.code,
                FromAcceptor::Welcome(_) | FromAcceptor::Present(_) => panic!("let in"),
            }
        }
    };
    let (accepted, code) = tokio::join!(cluster.accept(link), talk);
    let error = accepted.unwrap_err();
    assert_eq!(error.code(), Some(code), "both sides say the same");
    error
}

async fn a_stranger_skips_no_stage(carrier: Carrier) {
    let hello = encoded(&FromDialler::Hello(hello()));
    let proof = encoded(&FromDialler::Proof(Proof { proof: vec![0; 32] }));
    let ping = Header { kind: Kind::Ping, id: 0, length: 8 }.encode();
    for bytes in [
        proof.clone(),
        [&hello[..], &hello].concat(),
        ping.to_vec(),
        [&hello[..], &ping].concat(),
        framed(&longshore_wire::encode(&FromAcceptor::Welcome(Welcome { proof: vec![0; 32] }))),
    ] {
        assert_eq!(refusal(carrier, &bytes).await.code(), Some(RejectCode::Protocol));
    }
    assert_eq!(refusal(carrier, &[&hello[..], &proof].concat()).await.code(), Some(RejectCode::Credential));
}

async fn a_false_acceptor_skips_no_stage(carrier: Carrier) {
    let welcome = FromAcceptor::Welcome(Welcome { proof: vec![0; 32] });
    for skipped in [true, false] {
        let cluster = Cluster::new();
        let dialler = cluster.dialler();
        let (link, mut thief) = pair(carrier).await;
        let (dialled, ()) = tokio::join!(dialler.prove(link), async {
            receive_hello(&mut thief).await;
            if !skipped {
                send(&mut thief, &FromAcceptor::Challenge(honest(&cluster))).await;
            }
            write(&mut thief, &framed(&longshore_wire::encode(&welcome))).await;
        });
        match dialled.unwrap_err() {
            HandshakeError::OutOfOrder { .. } if skipped => {}
            HandshakeError::ServerProof(_) if !skipped => {}
            error => panic!("{error}"),
        }
    }
}

async fn nothing_hides_behind_a_message(carrier: Carrier) {
    let hello = longshore_wire::encode(&FromDialler::Hello(hello()));
    let error = refusal(carrier, &framed(&[&hello[..], b"x"].concat())).await;
    assert!(matches!(error, HandshakeError::Malformed(_)), "{error}");
    let two = framed(&[&hello[..], &hello].concat());
    assert!(matches!(refusal(carrier, &two).await, HandshakeError::Malformed(_)));
}

async fn no_message_is_too_long(carrier: Carrier) {
    for length in [4097, u32::MAX] {
        let error = refusal(carrier, &length.to_be_bytes()).await;
        assert!(matches!(error, HandshakeError::TooLong { .. }), "{error}");
    }
    let cluster = Cluster::new();
    let (link, mut thief) = pair(carrier).await;
    let dialler = cluster.dialler();
    let (dialled, ()) = tokio::join!(dialler.prove(link), async {
        receive_hello(&mut thief).await;
        write(&mut thief, &u32::MAX.to_be_bytes()).await;
    });
    assert!(matches!(dialled.unwrap_err(), HandshakeError::TooLong { .. }));
}

/// The 5 s are for the whole handshake, whoever is slow.
async fn a_byte_at_a_time_is_too_slow(carrier: Carrier) {
    async fn drip(link: &mut Link, bytes: &[u8]) {
        for byte in bytes {
            write(link, &[*byte]).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let start = Instant::now();
    let cluster = Cluster::new();
    let ((mut slow, link), (other, mut thief)) = (pair(carrier).await, pair(carrier).await);
    let dialler = cluster.dialler();
    let said = encoded(&FromDialler::Hello(hello()));
    let challenge = framed(&longshore_wire::encode(&FromAcceptor::Challenge(honest(&cluster))));
    let (accepted, dialled) = tokio::join!(
        async {
            tokio::select! {
                accepted = cluster.accept(link) => accepted,
                () = drip(&mut slow, &said) => panic!("it waited for a slow hello"),
            }
        },
        async {
            let dialled = dialler.prove(other);
            tokio::select! {
                dialled = dialled => dialled,
                () = async {
                    receive_hello(&mut thief).await;
                    drip(&mut thief, &challenge).await;
                } => panic!("it waited for a slow challenge"),
            }
        }
    );
    assert!(matches!(accepted.unwrap_err(), HandshakeError::Timeout { stage: "the hello", .. }));
    assert!(matches!(dialled.unwrap_err(), HandshakeError::Timeout { stage: "the challenge", .. }));
    assert!(start.elapsed() >= Duration::from_secs(4), "{:?}", start.elapsed());
}
