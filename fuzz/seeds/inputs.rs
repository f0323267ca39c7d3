//! First inputs for the fuzzer, made of real messages.

use longshore_wire::edge::{Attach, AttachReply, ClassRequest, OpenControl, Report, TaskKv, ToControl, ToWorker};
use longshore_wire::frame::{Goodbye, Header, Kind, RequestHead};
use longshore_wire::handshake::{
    Binding, Challenge, Claim, FromAcceptor, FromDialler, Hello, Present, Proof, Reject, RejectCode, Welcome,
};
use longshore_wire::kv::KvRequest;
use longshore_wire::task::NodeState;
use longshore_wire::{Code, Epoch, Failure, Labels, NodeId, RequestId, Role, TaskId, client, encode, peer};

fn hello() -> FromDialler {
    FromDialler::Hello(Hello {
        versions: (1, 2),
        node: NodeId::from_u128(2),
        role: Role::Worker,
        peer_role: Role::Control,
        cluster: "prod".to_owned(),
        cluster_id: None,
        credential: "worker".to_owned(),
        binding: Binding::None,
        nonce: vec![7; 32],
        release: "1.2.3".to_owned(),
    })
}

fn challenge() -> FromAcceptor {
    FromAcceptor::Challenge(Challenge {
        version: 1,
        node: NodeId::from_u128(1),
        role: Role::Control,
        cluster: "prod".to_owned(),
        cluster_id: None,
        nonce: vec![9; 32],
        salt: vec![3; 16],
        iterations: 4096,
        release: "1.2.3".to_owned(),
    })
}

fn present() -> FromAcceptor {
    FromAcceptor::Present(Present {
        version: 1,
        node: NodeId::from_u128(2),
        role: Role::Worker,
        cluster: "prod".to_owned(),
        cluster_id: None,
        nonce: vec![9; 32],
        credential: "worker".to_owned(),
        release: "1.2.3".to_owned(),
    })
}

fn reject() -> FromAcceptor {
    let message = "come back later".to_owned();
    FromAcceptor::Reject(Reject { code: RejectCode::Busy, message, retry_after_ms: Some(5000) })
}

/// With its length in front.
fn framed(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

fn frame(kind: Kind, id: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header { kind, id, length: u32::try_from(payload.len()).unwrap() };
    [&header.encode()[..], payload].concat()
}

fn request(id: u32, body: &[u8]) -> Vec<u8> {
    let head = encode(&RequestHead { timeout_ms: 1000 });
    let length = u16::try_from(head.len()).unwrap().to_be_bytes();
    frame(Kind::Request, id, &[&length[..], &head, body].concat())
}

fn failure() -> Failure {
    Failure::new(Code::Busy, "later")
}

/// A peer that does everything once.
fn conversation(odd: u32) -> Vec<u8> {
    let goodbye = encode(&Goodbye { reason: failure(), retry_after_ms: Some(100), go_to: Vec::new() });
    [
        frame(Kind::Ping, 0, &[1; 8]),
        request(odd, b"body"),
        frame(Kind::Cancel, odd, b""),
        frame(Kind::Notify, 0, b"note"),
        frame(Kind::Open, odd + 2, b"head"),
        frame(Kind::Data, odd + 2, &[5; 300]),
        frame(Kind::Credit, odd + 2, &1000_u32.to_be_bytes()),
        frame(Kind::Finish, odd + 2, b""),
        frame(Kind::Open, odd + 4, b"x"),
        frame(Kind::Reset, odd + 4, &encode(&failure())),
        frame(Kind::Goodbye, 0, &goodbye),
    ]
    .concat()
}

fn messages() -> Vec<Vec<u8>> {
    let report = Report { state: NodeState::Ready, tasks: Vec::new(), archives: Vec::new() };
    let attach = Attach {
        name: "worker-1".to_owned(),
        boot: RequestId::from_u128(5),
        labels: "core;group=a".parse::<Labels>().unwrap(),
        release: "1.2.3".to_owned(),
        runtimes: vec!["exec".to_owned()],
        epoch: Epoch(1),
        published: vec!["longshore://c1:8139".parse().unwrap()],
        report: report.clone(),
    };
    let kv = TaskKv {
        task: TaskId("a-1".to_owned()),
        request_id: RequestId::from_u128(6),
        request: KvRequest::Put { key: "k".to_owned(), value: b"v".to_vec() },
    };
    let asked = || ClassRequest { class: "echo".to_owned(), body: serde_json::json!({"a": [1, 2.5, null]}) };
    let wait = AttachReply::Wait { retry_after_ms: 10, reason: "no leader".to_owned() };
    let kinds: [(u8, Vec<u8>); 13] = [
        (0, encode(&hello())),
        (0, encode(&FromDialler::Proof(Proof { proof: vec![1; 32] }))),
        (1, encode(&challenge())),
        (1, encode(&FromAcceptor::Welcome(Welcome { proof: vec![1; 32] }))),
        (1, encode(&reject())),
        (3, encode(&RequestHead { timeout_ms: 1 })),
        (4, encode(&failure())),
        (5, encode(&ToControl::Attach(attach))),
        (5, encode(&ToControl::Report(report))),
        (5, encode(&ToControl::Kv(kv))),
        (6, encode(&ToWorker::Request(asked()))),
        (7, encode(&wait)),
        (8, encode(&client::FromClient::Request { node: NodeId::from_u128(2), request: asked() })),
    ];
    let more = [
        (9, encode(&peer::PeerRequest::Worker { node: NodeId::from_u128(2), request: asked() })),
        (10, frame(Kind::Data, 3, b"")),
        (5, encode(&OpenControl::Tunnel { to: NodeId::from_u128(1) })),
        (1, encode(&present())),
        (
            0,
            encode(&FromDialler::Claim(Claim {
                salt: vec![3; 16],
                iterations: 4096,
                proofs: vec![vec![1; 32].into()],
            })),
        ),
    ];
    kinds.into_iter().chain(more).map(|(kind, body)| [&[kind][..], &body].concat()).collect()
}

fn websockets() -> Vec<Vec<u8>> {
    let ask = "GET /longshore HTTP/1.1\r\nHost: c1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let masked = [0x82, 0x84, 1, 2, 3, 4, 1, 2, 3, 4, 0x89, 0x80, 0, 0, 0, 0, 0x88, 0x80, 0, 0, 0, 0];
    let wrong = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n";
    let open = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let elsewhere = ask.replace("/longshore", "/");
    vec![
        [b"\0", ask.as_bytes(), &masked].concat(),
        [b"\0", elsewhere.as_bytes()].concat(),
        [b"\x01", wrong.as_bytes()].concat(),
        [b"\x01", open.as_bytes()].concat(),
    ]
}

/// The first inputs of each target.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let proof = framed(&encode(&FromDialler::Proof(Proof { proof: vec![1; 32] })));
    let hello = framed(&encode(&hello()));
    let challenge = framed(&encode(&challenge()));
    let welcome = framed(&encode(&FromAcceptor::Welcome(Welcome { proof: vec![1; 32] })));
    let uris = [
        "longshore://c1",
        "longshore://[::1]:8139;transport=wss;path=/a?b=c;tls_verify=pin",
        "longshore://10.0.0.1:1;transport=tcp",
    ];
    vec![
        ("acceptor", vec![hello.clone(), [&hello[..], &proof].concat(), [&hello[..], &hello].concat(), proof]),
        ("dialler", vec![challenge.clone(), [&challenge[..], &welcome].concat(), welcome, framed(&encode(&reject()))]),
        ("dns", zones()),
        ("messages", messages()),
        ("middle", vec![vec![], vec![0, 0, 1], vec![0x80, 9, 0x40], vec![1, 2, 0, 0x81, 3, 0xff], vec![5; 6]]),
        ("proxy", proxies()),
        ("session", vec![[&[0][..], &conversation(2)].concat(), [&[1][..], &conversation(1)].concat()]),
        ("uri", uris.map(|text| text.as_bytes().to_vec()).to_vec()),
        ("websocket", websockets()),
    ]
}

fn zones() -> Vec<Vec<u8>> {
    vec![
        vec![0; 1],
        // One NAPTR (s, LSS+D2W), one SRV, two addresses.
        vec![0, 1, 0, 10, 0, 20, 0, 0, 10, 1, 0, 1, 0, 5, 31, 0x90, 0, 2, 0, 1, 2, 1, 0, 1, 0, 2],
        vec![1, 2, 0, 0, 0, 0, 31, 0x90, 0, 0, 0, 0, 1, 31, 0x90, 2, 1, 0, 7, 7, 1, 1, 0, 9, 0, 8],
        vec![0, 255, 255, 1, 0, 1, 1],
    ]
}

fn proxies() -> Vec<Vec<u8>> {
    vec![
        b"\0HTTP/1.1 200 Connection established\r\n\r\nrest".to_vec(),
        b"\0HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n".to_vec(),
        // SOCKS5: no login, granted, bound to 10.0.0.9:1080.
        vec![1, 5, 0, 5, 0, 0, 1, 10, 0, 0, 9, 4, 56, b'x'],
        // With a login; granted, bound to a name.
        vec![0x80, 5, 2, 1, 0, 5, 0, 0, 3, 2, b'a', b'b', 0, 80],
        vec![1, 5, 0xff],
    ]
}
