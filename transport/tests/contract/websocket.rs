//! A WebSocket of ours against a peer that speaks the library's own interface.

use crate::harness::{accept, client_tls, endpoint, listen};
use futures_util::{SinkExt as _, StreamExt as _};
use longshore_transport::{DialError, DialOptions, Link, UpgradeError, dial};
use longshore_wire::Transport;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// A foreign client and our end of its WebSocket.
async fn foreign_client() -> (WebSocketStream<TcpStream>, Link) {
    let listener = listen(Transport::Ws).await;
    let address = listener.local_addr();
    let (client, link) = tokio::join!(
        async {
            let tcp = TcpStream::connect(address).await.unwrap();
            tokio_tungstenite::client_async(format!("ws://{address}/longshore?from=test"), tcp).await.unwrap().0
        },
        accept(&listener)
    );
    (client, link)
}

#[tokio::test]
async fn message_borders_mean_nothing() {
    let (mut client, mut link) = foreign_client().await;
    for part in [&b"one"[..], b"", b"two"] {
        client.send(Message::Binary(part.to_vec().into())).await.unwrap();
    }
    let frame = |part: &'static [u8], opcode, last| Message::Frame(Frame::message(part, OpCode::Data(opcode), last));
    client.send(frame(b"th", Data::Binary, false)).await.unwrap();
    client.send(frame(b"ree", Data::Continue, true)).await.unwrap();
    let mut got = [0; 11];
    link.io.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"onetwothree");
}

#[tokio::test]
async fn a_flush_is_one_message_of_bounded_size() {
    let (mut client, mut link) = foreign_client().await;
    for part in [b"a", b"b", b"c"] {
        link.io.write_all(part).await.unwrap();
    }
    link.io.flush().await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Binary("abc".into()));
    let writing = async {
        link.io.write_all(&vec![1; 1_000_000]).await.unwrap();
        link.io.flush().await.unwrap();
    };
    let reading = async {
        let mut rest = 1_000_000;
        while rest > 0 {
            let length = client.next().await.unwrap().unwrap().len();
            assert!(length <= 256 * 1024, "{length}");
            rest -= length;
        }
    };
    tokio::join!(writing, reading);
}

#[tokio::test]
async fn pings_are_answered_while_reading() {
    let (mut client, mut link) = foreign_client().await;
    client.send(Message::Ping("are you there".into())).await.unwrap();
    let mut byte = [0];
    tokio::select! {
        answer = client.next() => assert_eq!(answer.unwrap().unwrap(), Message::Pong("are you there".into())),
        read = link.io.read_exact(&mut byte) => panic!("a ping is no data: {read:?}"),
    }
}

#[tokio::test]
async fn a_close_frame_is_the_end_and_is_answered() {
    let (mut client, mut link) = foreign_client().await;
    client.send(Message::Binary("last".into())).await.unwrap();
    client.send(Message::Close(None)).await.unwrap();
    let mut got = Vec::new();
    link.io.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"last");
    assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
    let refused = async {
        link.io.write_all(b"x").await?;
        link.io.flush().await
    };
    assert!(refused.await.is_err());
    link.io.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_cut_is_no_clean_end() {
    let (client, mut link) = foreign_client().await;
    drop(client);
    assert!(link.io.read_to_end(&mut Vec::new()).await.is_err());
}

#[tokio::test]
async fn text_and_giants_are_refused() {
    let (mut client, mut link) = foreign_client().await;
    client.send(Message::Text("hello".into())).await.unwrap();
    let error = link.io.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert!(error.to_string().contains("text message"), "{error}");

    let (mut client, mut link) = foreign_client().await;
    let giant = Message::Binary(vec![0; 256 * 1024 + 1].into());
    let (_, read) = tokio::join!(client.send(giant), async {
        let mut got = Vec::new();
        let error = link.io.read_to_end(&mut got).await.unwrap_err();
        drop(link);
        (got, error)
    });
    assert!(read.0.is_empty());
    assert!(read.1.to_string().contains("too long"), "{}", read.1);
}

#[tokio::test]
async fn another_path_is_not_found() {
    let listener = listen(Transport::Wss).await;
    let mut endpoint = endpoint(Transport::Wss, listener.local_addr());
    endpoint.path = "/elsewhere".to_owned();
    let options = DialOptions::new(client_tls());
    let upgrade = async { listener.accept().await.unwrap().upgrade().await };
    let (dialled, upgraded) = tokio::join!(dial(&endpoint, &options), upgrade);
    assert!(matches!(dialled, Err(DialError::Status { status: 404, .. })), "{dialled:?}");
    assert!(matches!(upgraded, Err(UpgradeError::WebSocket { .. })), "{upgraded:?}");
}

/// Balancers choose by it: the name that was dialled, wherever it leads.
#[tokio::test]
async fn the_opening_names_the_host_that_was_dialled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut endpoint = endpoint(Transport::Ws, listener.local_addr().unwrap());
    endpoint.host = "edge.example.".to_owned();
    let options = DialOptions::new(client_tls());
    let (dialled, head) = tokio::join!(dial(&endpoint, &options), async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    });
    assert!(dialled.is_err(), "nobody has answered");
    let hosts: Vec<&str> = head.lines().filter_map(|line| line.strip_prefix("Host: ")).collect();
    assert_eq!(hosts, [format!("edge.example:{}", endpoint.address.port())], "{head}");
}

#[tokio::test]
async fn what_is_no_websocket_is_refused() {
    for request in ["GET /longshore HTTP/1.1\r\nHost: a\r\n\r\n", "\x16\x03\x01\x00\x05hello\r\n\r\n"] {
        let listener = listen(Transport::Ws).await;
        let mut client = TcpStream::connect(listener.local_addr()).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let upgraded = listener.accept().await.unwrap().upgrade().await;
        assert!(matches!(upgraded, Err(UpgradeError::WebSocket { .. })), "{upgraded:?}");
    }
}
