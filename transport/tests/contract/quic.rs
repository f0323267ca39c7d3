//! QUIC beyond what every carrier promises.

use crate::harness::{accept, client_tls, endpoint, listen, server_tls};
use longshore_transport::{
    Admission, AdmissionLimits, DialError, DialOptions, ListenOptions, Listener, Proxy, ProxyKind, dial,
};
use longshore_wire::Transport;
use longshore_wire::uri::TlsVerify;
use std::net::UdpSocket;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Deadline of what must fail.
const SOON: Duration = Duration::from_millis(300);

#[tokio::test]
async fn nobody_there_is_a_timeout_that_names_udp() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let endpoint = endpoint(Transport::Quic, silent.local_addr().unwrap());
    let options = DialOptions { connect_timeout: SOON, ..DialOptions::new(client_tls()) };
    let error = dial(&endpoint, &options).await.unwrap_err();
    assert!(matches!(error, DialError::Timeout { .. }) && error.to_string().contains("UDP"), "{error}");
}

#[tokio::test]
async fn certificates_are_checked_as_over_tcp() {
    let listener = listen(Transport::Quic).await;
    let mut endpoint = endpoint(Transport::Quic, listener.local_addr());
    endpoint.tls_verify = Some(TlsVerify::System);
    let options = DialOptions::new(client_tls());
    let (dialled, upgraded) =
        tokio::join!(dial(&endpoint, &options), async { listener.accept().await.unwrap().upgrade().await });
    assert!(matches!(dialled, Err(DialError::Tls { .. } | DialError::TlsSettings { .. })), "{dialled:?}");
    assert!(upgraded.is_err());
}

#[tokio::test]
async fn a_proxy_in_the_way_is_said_so() {
    let proxy = Proxy::new(ProxyKind::Http, "proxy.test".to_owned(), 3128, None, Box::new(|_| false));
    let options = DialOptions { proxy: Some(proxy), ..DialOptions::new(client_tls()) };
    let error = dial(&endpoint(Transport::Quic, "127.0.0.1:9".parse().unwrap()), &options).await.unwrap_err();
    assert!(matches!(error, DialError::NoUdpProxy { .. }) && error.to_string().contains("wss"), "{error}");
}

/// One address may hold as many of the eight places as are free: four.
#[tokio::test]
async fn whoever_is_too_many_is_told_so_at_once() {
    let limits = AdmissionLimits { pending: 8, active: 8, active_per_address: 8 };
    let options = ListenOptions {
        transport: Transport::Quic,
        bind: "127.0.0.1:0".parse().unwrap(),
        path: String::new(),
        tls: Some(server_tls()),
        admission: Admission::new(limits),
    };
    let listener = Listener::bind(options).await.unwrap();
    let endpoint = endpoint(Transport::Quic, listener.local_addr());
    let options = DialOptions::new(client_tls());
    let mut held = Vec::new();
    for _ in 0..4 {
        let (dialled, accepted) = tokio::join!(dial(&endpoint, &options), accept(&listener));
        held.push((dialled.unwrap(), accepted));
    }
    let refused = tokio::select! {
        dialled = dial(&endpoint, &options) => dialled.unwrap_err(),
        _ = listener.accept() => panic!("a fifth connection of one address is taken in"),
    };
    assert!(matches!(refused, DialError::Connect { .. }) && refused.to_string().contains("refused"), "{refused}");
    held.pop();
    let (mut dialled, mut accepted) =
        tokio::join!(async { dial(&endpoint, &options).await.unwrap() }, accept(&listener));
    dialled.io.write_all(b"here").await.unwrap();
    let mut got = [0; 4];
    accepted.io.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"here");
}
