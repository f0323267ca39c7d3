//! Somebody who speaks the protocol by hand, to a real control node, over plain TCP and over WSS.

use crate::cluster::WSS_PORT;
use crate::process::PATIENCE;
use crate::single::{Single, TCP_PORT};
use longshore_transport::{
    ClientTls, ClientTlsOptions, DialOptions, HandshakeError, Identity, Keyring, Link, Proven, Secret, dial, prove,
};
use longshore_wire::handshake::{Binding, Challenge, FromAcceptor, FromDialler, Hello, Reject};
use longshore_wire::{Endpoint, NodeId, Role, Transport};
use std::future::Future;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Both kinds of carrier: with and without TLS.
pub(crate) const CARRIERS: [Transport; 2] = [Transport::Tcp, Transport::Wss];

/// Runs a conversation; one that hangs has failed.
pub(crate) fn run<T>(conversation: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, conversation).await.expect("it ends in time") })
}

/// A connection on which nothing has been said.
pub(crate) async fn connect(single: &Single, transport: Transport) -> Link {
    let port = if transport == Transport::Tcp { TCP_PORT } else { WSS_PORT };
    let address = SocketAddr::new(single.subnet.host(1), port);
    let (host, path) = (address.ip().to_string(), longshore_wire::uri::DEFAULT_WS_PATH.to_owned());
    let endpoint = Endpoint { transport, address, host, path, tls_verify: None };
    let options = DialOptions::new(ClientTls::new(ClientTlsOptions::default()).unwrap());
    dial(&endpoint, &options).await.unwrap()
}

/// A hello that would be answered, were the proof behind it right.
pub(crate) fn hello() -> Hello {
    Hello {
        versions: (1, 1),
        node: NodeId::from_u128(0xbad),
        role: Role::Worker,
        peer_role: Role::Control,
        cluster: "test".to_owned(),
        cluster_id: None,
        credential: "worker".to_owned(),
        binding: Binding::None,
        nonce: (0..32).collect(),
        release: String::new(),
    }
}

/// A message as it crosses the line.
pub(crate) fn framed(message: &FromDialler) -> Vec<u8> {
    let body = longshore_wire::encode(message);
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body.as_slice()].concat()
}

pub(crate) async fn send(link: &mut Link, bytes: &[u8]) {
    // The other side may have closed already: what it said stays to be read.
    let _ = link.io.write_all(bytes).await;
    let _ = link.io.flush().await;
}

/// Everything until the other side closes.
pub(crate) async fn rest(link: &mut Link) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = link.io.read_to_end(&mut bytes).await;
    bytes
}

/// All whole messages among these bytes.
pub(crate) fn messages(mut bytes: &[u8]) -> Vec<FromAcceptor> {
    let mut found = Vec::new();
    while let Some((length, after)) = bytes.split_first_chunk::<4>() {
        let Some((body, after)) = after.split_at_checked(u32::from_be_bytes(*length) as usize) else { break };
        found.push(longshore_wire::decode(body).unwrap());
        bytes = after;
    }
    found
}

/// What comes of saying this and waiting for the end: never a welcome.
pub(crate) async fn told(single: &Single, transport: Transport, bytes: &[u8]) -> Vec<FromAcceptor> {
    let mut link = connect(single, transport).await;
    send(&mut link, bytes).await;
    let heard = messages(&rest(&mut link).await);
    assert!(!heard.iter().any(|message| matches!(message, FromAcceptor::Welcome(_))), "a stranger was let in");
    heard
}

/// The refusal that ends the conversation.
pub(crate) fn reject(heard: &[FromAcceptor]) -> &Reject {
    match heard.last() {
        Some(FromAcceptor::Reject(reject)) => reject,
        other => panic!("no refusal but {other:?}"),
    }
}

/// Says hello and gives the challenge, with the connection and the raw answer.
pub(crate) async fn challenged(single: &Single, transport: Transport, hello: Hello) -> (Link, Challenge, Vec<u8>) {
    let mut link = connect(single, transport).await;
    send(&mut link, &framed(&FromDialler::Hello(hello))).await;
    let mut body = vec![0; link.io.read_u32().await.unwrap() as usize];
    link.io.read_exact(&mut body).await.unwrap();
    match longshore_wire::decode(&body).unwrap() {
        FromAcceptor::Challenge(challenge) => (link, challenge, body),
        other => panic!("no challenge but {other:?}"),
    }
}

/// Proves a role with the secret of a credential of this cluster.
pub(crate) async fn proven(
    single: &Single,
    link: Link,
    (role, credential, of): (Role, &str, &str),
) -> Result<Proven, HandshakeError> {
    let me = Identity::new(NodeId::from_u128(0x600d + role as u128), role, "test", "0");
    let secret = Secret::from_bytes(single.secret(of).as_bytes()).unwrap();
    prove(link, &me, &Keyring::new(secret, credential.to_owned()), Role::Control).await
}
