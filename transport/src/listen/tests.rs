//! Listeners: what they accept, refuse and measure.

use super::admission::AdmissionLimits;
use super::*;
use longshore_wire::handshake::{FromAcceptor, RejectCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn listen(transport: Transport, active: usize) -> Listener {
    let bind = "127.0.0.1:0".parse().unwrap();
    let tls = Some(ServerTls::self_signed(&["localhost".to_owned()], None).unwrap());
    let limits = AdmissionLimits { pending: 4, active, active_per_address: active };
    let admission = Admission::new(limits);
    Listener::bind(ListenOptions { transport, bind, path: "/x".to_owned(), tls, admission }).await.unwrap()
}

#[tokio::test]
async fn a_silent_client_is_dropped_at_the_deadline() {
    for (transport, awaited) in [(Transport::Tls, "TLS"), (Transport::Ws, "the WebSocket's opening")] {
        let mut listener = listen(transport, 1).await;
        Arc::get_mut(&mut listener.upgrade).unwrap().deadline = Duration::from_millis(30);
        let mut client = TcpStream::connect(listener.local_addr()).await.unwrap();
        let error = listener.accept().await.unwrap().upgrade().await.unwrap_err();
        assert!(matches!(error, UpgradeError::Timeout { stage, .. } if stage == awaited), "{error}");
        assert_eq!(client.read(&mut [0; 16]).await.unwrap_or(0), 0, "the client sees the end");
    }
    // Over plain TCP nothing comes before the handshake, which goes on by the same clock.
    let listener = listen(Transport::Tcp, 1).await;
    let _client = connect(&listener).await;
    let link = listener.accept().await.unwrap().upgrade().await.unwrap();
    assert!(link.prove_by.is_some_and(|by| by <= Instant::now() + UPGRADE_TIMEOUT));
}

async fn connect(listener: &Listener) -> TcpStream {
    TcpStream::connect(listener.local_addr()).await.unwrap()
}

#[tokio::test]
async fn unproven_connections_are_counted() {
    let listener = listen(Transport::Tcp, 1).await;
    let _clients = [connect(&listener).await, connect(&listener).await];
    let first = listener.accept().await.unwrap().upgrade().await.unwrap();
    let mut second = Box::pin(listener.accept().await.unwrap().upgrade());
    assert!(tokio::time::timeout(Duration::from_millis(30), &mut second).await.is_err());
    drop(first);
    tokio::time::timeout(Duration::from_secs(5), second).await.unwrap().unwrap();
}

#[tokio::test]
async fn whoever_is_too_many_is_told_so_at_once() {
    for transport in [Transport::Tcp, Transport::Ws, Transport::Tls] {
        let listener = listen(transport, 1).await;
        let _waiting = [connect(&listener).await, connect(&listener).await];
        let _held = [listener.accept().await.unwrap(), listener.accept().await.unwrap()];
        let (mut third, honest) = (connect(&listener).await, async { listener.accept().await.unwrap() });
        let mut answer = Vec::new();
        tokio::select! {
            read = third.read_to_end(&mut answer) => drop(read.unwrap()),
            _ = honest => panic!("a third connection of one address is taken in"),
        }
        match transport {
            Transport::Tcp => {
                let FromAcceptor::Reject(reject) = longshore_wire::decode(&answer[4..]).unwrap() else { panic!() };
                assert_eq!(reject.code, RejectCode::Busy);
                assert!(reject.retry_after_ms.is_some_and(|ms| ms >= 1000));
            }
            Transport::Ws => {
                let text = String::from_utf8(answer).unwrap();
                assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("\r\nRetry-After: "), "{text}");
            }
            _ => assert!(answer.is_empty(), "nothing can be said before TLS stands"),
        }
    }
}

#[tokio::test]
async fn descriptors_are_kept_in_reserve() {
    let mut listener = listen(Transport::Tcp, 4).await;
    listener.descriptors = Some(3);
    let mut client = connect(&listener).await;
    let mut byte = [0; 1];
    tokio::select! {
        read = client.read(&mut byte) => assert_eq!(read.unwrap_or(0), 0, "closed without a word"),
        _ = listener.accept() => panic!("the last descriptors are not for strangers"),
    }
}

#[tokio::test]
async fn whoever_has_hung_up_costs_no_handshake() {
    let listener = listen(Transport::Tls, 1).await;
    let _first_client = connect(&listener).await;
    let first = listener.accept().await.unwrap();
    let mut second = connect(&listener).await;
    second.write_all(b"a hello").await.unwrap();
    let waiting = listener.accept().await.unwrap();
    drop((second, first));
    let told = async {
        while !waiting.arrival.is_gone() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), told).await.unwrap();
    let error = waiting.upgrade().await.unwrap_err();
    assert!(matches!(error, UpgradeError::Gone { .. }), "{error}");
}

#[tokio::test]
async fn the_turn_must_come_in_time() {
    let mut listener = listen(Transport::Tcp, 1).await;
    Arc::get_mut(&mut listener.upgrade).unwrap().deadline = Duration::from_millis(30);
    let (_one, mut other) = (connect(&listener).await, connect(&listener).await);
    let _first = listener.accept().await.unwrap().upgrade().await.unwrap();
    let error = listener.accept().await.unwrap().upgrade().await.unwrap_err();
    assert!(matches!(error, UpgradeError::Busy { .. }), "{error}");
    let mut answer = Vec::new();
    other.read_to_end(&mut answer).await.unwrap();
    assert!(matches!(longshore_wire::decode(&answer[4..]), Ok(FromAcceptor::Reject(_))), "{answer:?}");
}
