//! Which TLS is spoken, and which names are sent: nothing below TLS 1.2, and SNI is a name or nothing.

use crate::harness::{client_tls, endpoint, listen, soon};
use longshore_transport::{DialError, DialOptions, dial};
use longshore_wire::{Endpoint, Transport};
use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::LazyConfigAcceptor;

/// What an old server answers to a hello: a fatal alert `protocol_version`, or a hello of its own in TLS 1.1.
const ALERT: &[u8] = &[21, 3, 2, 0, 2, 2, 70];

fn old_hello() -> Vec<u8> {
    // ServerHello of TLS 1.1: version, random, no session, TLS_RSA_WITH_AES_128_CBC_SHA, no compression.
    let mut body = vec![3, 2];
    body.extend([7; 32]);
    body.extend([0, 0, 0x2f, 0]);
    let mut message = vec![2, 0, 0, u8::try_from(body.len()).unwrap()];
    message.extend(body);
    let mut record = vec![22, 3, 2, 0, u8::try_from(message.len()).unwrap()];
    record.extend(message);
    record
}

#[tokio::test]
async fn a_server_of_old_tls_is_refused_in_words() {
    for answer in [ALERT.to_vec(), old_hello()] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = endpoint(Transport::Tls, listener.local_addr().unwrap());
        let options = DialOptions::new(client_tls());
        let (dialled, ()) = soon(async {
            tokio::join!(dial(&target, &options), async {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let mut hello = [0; 4096];
                assert!(tcp.read(&mut hello).await.unwrap() > 0);
                tcp.write_all(&answer).await.unwrap();
                // Stays until the dialler has gone.
                let _gone = tcp.read_to_end(&mut Vec::new()).await;
            })
        })
        .await;
        let text = dialled.unwrap_err().to_string();
        assert!(text.contains("TLS 1.1 or older") && text.contains("1.2 or 1.3"), "{text}");
    }
}

#[tokio::test]
async fn a_client_of_old_tls_is_refused_in_words() {
    let listener = listen(Transport::Tls).await;
    // ClientHello of TLS 1.1 with one cipher suite and no extensions.
    let mut body = vec![3, 2];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let mut message = vec![1, 0, 0, u8::try_from(body.len()).unwrap()];
    message.extend(body);
    let mut record = vec![22, 3, 1, 0, u8::try_from(message.len()).unwrap()];
    record.extend(message);
    let mut tcp = TcpStream::connect(listener.local_addr()).await.unwrap();
    tcp.write_all(&record).await.unwrap();
    let error = soon(async { listener.accept().await.unwrap().upgrade().await }).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("TLS 1.1 or older"), "{text}");
    let mut answer = Vec::new();
    let _end = soon(tcp.read_to_end(&mut answer)).await;
    assert_eq!(answer.first(), Some(&21), "an alert and no hello: {answer:?}");
}

/// The name that a dialler of `host` sends in its hello.
async fn sni(host: &str) -> Option<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Endpoint { host: host.to_owned(), ..endpoint(Transport::Wss, listener.local_addr().unwrap()) };
    let options = DialOptions::new(client_tls());
    let (dialled, name) = soon(async {
        tokio::join!(dial(&target, &options), async {
            let (tcp, _) = listener.accept().await.unwrap();
            let start = LazyConfigAcceptor::new(Acceptor::default(), tcp).await.unwrap();
            start.client_hello().server_name().map(str::to_owned)
        })
    })
    .await;
    let text = dialled.unwrap_err();
    assert!(
        matches!(&text, DialError::Tls { source, .. } if source.to_string().contains("closed the connection")),
        "{text}"
    );
    name
}

#[tokio::test]
async fn sni_is_the_name_and_never_an_address() {
    assert_eq!(sni("node.example").await.as_deref(), Some("node.example"));
    assert_eq!(sni("node.example.").await.as_deref(), Some("node.example"));
    assert_eq!(sni("10.0.0.1").await, None);
    assert_eq!(sni("fd00::1").await, None);
}
