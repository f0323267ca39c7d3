//! What TLS tells the other end, and the peers that no library plays: old ones without extended master secret.

use crate::harness::{client_tls, endpoint, listen, soon};
use crate::trust::{Ca, provider, with_ca};
use longshore_transport::{ClientTls, DialOptions, dial};
use longshore_wire::Transport;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Content types of records.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
/// ECDHE, ECDSA, AES-128-GCM.
const SUITE: [u8; 2] = [0xc0, 0x2b];

/// Notes the name that is asked for, and shows nothing.
#[derive(Debug, Default)]
struct Named(Mutex<Option<String>>);

impl ResolvesServerCert for Named {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        *self.0.lock().unwrap() = hello.server_name().map(str::to_owned);
        None
    }
}

/// The name that a dialler to `host` asks for.
async fn named(client: ClientTls, host: &str) -> Option<String> {
    let (listener, noted) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::new(Named::default()));
    let resolver: Arc<dyn ResolvesServerCert> = Arc::<Named>::clone(&noted);
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    let mut to = endpoint(Transport::Tls, listener.local_addr().unwrap());
    to.host = host.to_owned();
    let options = DialOptions::new(client);
    let accept = async { TlsAcceptor::from(Arc::new(config)).accept(listener.accept().await.unwrap().0).await };
    let (dialled, accepted) = soon(async { tokio::join!(dial(&to, &options), accept) }).await;
    assert!(dialled.is_err() && accepted.is_err(), "nothing is shown");
    noted.0.lock().unwrap().clone()
}

#[tokio::test]
async fn a_dialler_names_whom_it_wants() {
    for client in [client_tls, || with_ca(&Ca::new().file("ca.pem"))] {
        assert_eq!(named(client(), "edge.example").await.as_deref(), Some("edge.example"));
        assert_eq!(named(client(), "127.0.0.1").await, None, "an address is no name (RFC 6066)");
    }
}

fn sized(length_bytes: usize, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    [&length[4 - length_bytes..], content].concat()
}

/// A handshake message in a record.
fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let message = [&[kind][..], &sized(3, body)].concat();
    [&[HANDSHAKE, 3, 3][..], &sized(2, &message)].concat()
}

/// A greeting of TLS 1.2 without session, `rest` behind its random numbers.
fn greeting(kind: u8, rest: &[&[u8]]) -> Vec<u8> {
    record(kind, &[&[3, 3][..], &[7; 32], &[0], &rest.concat()].concat())
}

#[tokio::test]
async fn a_listener_refuses_tls_1_2_without_extended_master_secret() {
    let extension = |kind: u8, content: &[u8]| [&[0, kind][..], &sized(2, content)].concat();
    let groups = extension(10, &sized(2, &[0, 0x17, 0, 0x1d]));
    let signatures = extension(13, &sized(2, &[4, 3, 8, 4]));
    let secret = extension(23, &[]);
    for (extensions, expected) in
        [(vec![&groups, &signatures, &secret], HANDSHAKE), (vec![&groups, &signatures], ALERT)]
    {
        let listener = listen(Transport::Tls).await;
        let all: Vec<u8> = extensions.into_iter().flatten().copied().collect();
        let hello = greeting(1, &[&sized(2, &SUITE), &[1, 0], &sized(2, &all)]);
        let old = async {
            let mut tcp = TcpStream::connect(listener.local_addr()).await.unwrap();
            tcp.write_all(&hello).await.unwrap();
            tcp.read_u8().await.unwrap()
        };
        let accept = async { listener.accept().await.unwrap().upgrade().await };
        let (answer, accepted) = soon(async { tokio::join!(old, accept) }).await;
        assert_eq!(answer, expected);
        assert!(accepted.is_err());
    }
}

/// What a dialler answers a server of TLS 1.2 that hangs up behind its greeting.
async fn answer(client: ClientTls, extensions: &[u8]) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let hello = greeting(2, &[&SUITE, &[0], &sized(2, extensions)]);
    let old = async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut head = [0; 5];
        tcp.read_exact(&mut head).await.unwrap();
        let mut theirs = vec![0; u16::from_be_bytes([head[3], head[4]]).into()];
        tcp.read_exact(&mut theirs).await.unwrap();
        tcp.write_all(&hello).await.unwrap();
        tcp.shutdown().await.unwrap();
        let mut rest = Vec::new();
        tcp.read_to_end(&mut rest).await.unwrap();
        rest
    };
    let (to, options) = (endpoint(Transport::Tls, address), DialOptions::new(client));
    let (dialled, rest) = soon(async { tokio::join!(dial(&to, &options), old) }).await;
    assert!(dialled.is_err());
    rest
}

#[tokio::test]
async fn a_dialler_refuses_tls_1_2_without_extended_master_secret() {
    for client in [client_tls, || with_ca(&Ca::new().file("ca.pem"))] {
        assert_eq!(answer(client(), &[0, 23, 0, 0]).await, [0; 0], "it waits for the certificate");
        assert_eq!(answer(client(), &[]).await.first(), Some(&ALERT));
    }
}
