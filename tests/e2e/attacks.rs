//! The ten weaknesses of the ancestor's protocol, tried on a real control node.

use crate::capture::Capture;
use crate::dns::Dns;
use crate::process::{BINARY, Process, stderr};
use crate::single::{Claim, Single, TCP_PORT};
use crate::stranger::{CARRIERS, challenged, connect, framed, hello, messages, proven, reject, rest, run, send, told};
use longshore_transport::{Session, SessionOptions};
use longshore_wire::edge::{OpenControl, TaskKv, ToControl};
use longshore_wire::frame::{Header, Kind};
use longshore_wire::handshake::{FromAcceptor, FromDialler, Hello, Proof, RejectCode, Welcome};
use longshore_wire::kv::KvRequest;
use longshore_wire::peer::{Join, OpenPeer, PeerRequest, RaftRpc};
use longshore_wire::{Code, NodeId, RequestId, Role, TaskId, Transport, client, edge, encode};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;

const WAIT: Duration = Duration::from_secs(20);

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// It gave the password to whoever connected over TLS.
#[test]
fn attack_01_no_secret_is_given_to_a_stranger() {
    let single = Single::start();
    let verifiers = std::fs::read(single.dir.path().join("made/verifiers.json")).unwrap();
    let verifiers: Vec<longshore_wire::credential::Verifier> = serde_json::from_slice(&verifiers).unwrap();
    assert_eq!(verifiers.len(), 3);
    for transport in CARRIERS {
        for verifier in &verifiers {
            let claim = Hello { role: verifier.role, credential: verifier.credential.clone(), ..hello() };
            let secret = single.secret(&format!("{}.secret", verifier.credential));
            run(async {
                let (mut link, challenge, raw) = challenged(&single, transport, claim).await;
                assert_eq!(challenge.salt, verifier.salt, "it is the real credential");
                send(&mut link, &framed(&FromDialler::Proof(Proof { proof: vec![1; 32] }))).await;
                let heard = [raw, rest(&mut link).await].concat();
                for told in [secret.as_bytes(), &verifier.stored_key, &verifier.server_key] {
                    assert!(!contains(&heard, told), "{transport}: a secret of {}", verifier.credential);
                }
            });
        }
    }
}

/// It took whichever stage came, so that the proof could be left out.
#[test]
fn attack_02_no_stage_can_be_skipped() {
    let single = Single::start();
    let hello = framed(&FromDialler::Hello(hello()));
    let proof = framed(&FromDialler::Proof(Proof { proof: vec![0; 32] }));
    let welcome = encode(&FromAcceptor::Welcome(Welcome { proof: vec![0; 32] }));
    let welcome = [&u32::try_from(welcome.len()).unwrap().to_be_bytes(), welcome.as_slice()].concat();
    let attach = encode(&PeerRequest::ReadIndex);
    let notice = Header { kind: Kind::Notify, id: 0, length: u32::try_from(attach.len()).unwrap() }.encode();
    let session = [&notice[..], &attach].concat();
    let cases: [(&str, Vec<u8>, RejectCode); 6] = [
        ("the proof first", proof.clone(), RejectCode::Protocol),
        ("two hellos", [&hello[..], &hello].concat(), RejectCode::Protocol),
        ("the acceptor's own message", [&hello[..], &welcome].concat(), RejectCode::Protocol),
        ("the session at once", session.clone(), RejectCode::Protocol),
        ("the session behind the hello", [&hello[..], &session].concat(), RejectCode::Protocol),
        ("the session behind a wrong proof", [&hello[..], &proof, &session].concat(), RejectCode::Credential),
    ];
    for (what, bytes, code) in cases {
        for transport in CARRIERS {
            let heard = run(told(&single, transport, &bytes));
            assert_eq!(reject(&heard).code, code, "{what} over {transport}");
        }
    }
}

/// Its listener answered with the proof that it would take itself.
#[test]
fn attack_03_nothing_can_be_reflected() {
    let single = Single::start();
    for transport in CARRIERS {
        run(async {
            let (_, theirs, _) = challenged(&single, transport, hello()).await;
            let own = framed(&FromDialler::Hello(Hello { node: theirs.node, ..hello() }));
            let heard = told(&single, transport, &own).await;
            assert_eq!(reject(&heard).code, RejectCode::SelfDialled);
            assert_eq!(heard.len(), 1, "no challenge for its own id");
            // Its own nonce comes back to it: what it answers is fresh all the same, and proves nothing.
            let mirrored = Hello { nonce: theirs.nonce.clone(), ..hello() };
            let (mut link, again, _) = challenged(&single, transport, mirrored).await;
            assert_ne!(again.nonce, theirs.nonce);
            send(&mut link, &framed(&FromDialler::Proof(Proof { proof: again.nonce.clone() }))).await;
            assert_eq!(reject(&messages(&rest(&mut link).await)).code, RejectCode::Credential);
        });
    }
}

/// It signed for anybody, and challenges never changed, so that proofs could be played back.
#[test]
fn attack_04_nothing_is_signed_for_strangers_and_nothing_replays() {
    let single = Single::start();
    let to = SocketAddr::new(single.subnet.host(1), TCP_PORT);
    let door = SocketAddr::new(single.subnet.host(7), TCP_PORT);
    let capture = Capture::start(door, to);
    let secret = single.dir.path().join("made/worker.secret");
    let claim = Claim { role: "worker", credential: "worker", secret: &secret, cluster: "test" };
    let mut worker = single.peer("worker-1", claim, &format!("longshore://{door};transport=tcp"));
    worker.start(&[]);
    worker.wait_log(&["attached to the owner"]);
    worker.kill();
    let recorded = capture.recordings()[0].from_dialler.clone();
    assert!(contains(&recorded, b"proof"));
    for transport in CARRIERS {
        let heard = run(told(&single, transport, &recorded));
        assert_eq!(reject(&heard).code, RejectCode::Credential, "replayed over {transport}");
        let mut nonces = std::collections::HashSet::new();
        for _ in 0..20 {
            let (_, challenge, raw) = run(challenged(&single, transport, hello()));
            assert!(nonces.insert(challenge.nonce), "a challenge came twice");
            assert!(!contains(&raw, b"proof"));
        }
    }
}

/// Its proof covered neither role, nor cluster, nor version, nor the channel. Every field of the first two messages is
/// changed under way in `transport/tests/contract/middle.rs`; here the proof of one connection is used on another.
#[test]
fn attack_05_a_proof_is_worth_nothing_on_another_connection() {
    let single = Single::start();
    for transport in CARRIERS {
        run(async {
            // The honest worker dials the thief, who passes the hello on, and the challenge back, over his own connection,
            // but changes the release, which nobody compares.
            let (mut victim, thief) = longshore_transport::memory_pair();
            let honest = proven(&single, thief, (Role::Worker, "worker", "worker.secret"));
            let attack = async {
                let mut onward = connect(&single, transport).await;
                let mut body = vec![0; victim.io.read_u32().await.unwrap() as usize];
                victim.io.read_exact(&mut body).await.unwrap();
                let Ok(FromDialler::Hello(said)) = longshore_wire::decode(&body) else { panic!("no hello") };
                send(&mut onward, &framed(&FromDialler::Hello(Hello { release: "9".to_owned(), ..said }))).await;
                let _ = tokio::io::copy_bidirectional(&mut victim.io, &mut onward.io).await;
            };
            let (honest, ()) = tokio::join!(honest, attack);
            assert!(honest.is_err(), "{transport}: both must notice");
        });
    }
    single.control.wait_log(&["refused", "secret"]);
}

/// Whoever had the one password could be anything, and run anything anywhere.
#[test]
fn attack_06_a_secret_is_good_for_one_role() {
    let single = Single::start();
    let refusals = [
        (Role::Control, "worker", "worker.secret"),
        (Role::Client, "worker", "worker.secret"),
        (Role::Worker, "control", "control.secret"),
        (Role::Worker, "client", "client.secret"),
        (Role::Control, "client", "client.secret"),
    ];
    for claim in refusals {
        let refused = run(async { proven(&single, connect(&single, Transport::Wss).await, claim).await });
        assert_eq!(refused.err().and_then(|error| error.code()), Some(RejectCode::Role), "{claim:?}");
    }
    // And once inside, a worker has a worker's words only.
    run(async {
        let link = connect(&single, Transport::Tcp).await;
        let worker = proven(&single, link, (Role::Worker, "worker", "worker.secret")).await.unwrap();
        let (session, _inbound) = Session::start(worker, SessionOptions::default());
        let node = NodeId::from_u128(1);
        let join = Join {
            node,
            name: "evil".to_owned(),
            boot: RequestId::from_u128(1),
            addresses: Vec::new(),
            release: String::new(),
        };
        let echo = edge::ClassRequest { class: "echo".to_owned(), body: serde_json::Value::Null };
        let foreign = [
            encode(&PeerRequest::Raft { rpc: RaftRpc::Vote, body: vec![0; 8] }),
            encode(&PeerRequest::Propose { body: vec![0; 8] }),
            encode(&PeerRequest::Join(join)),
            encode(&PeerRequest::Worker { node, request: echo.clone() }),
            encode(&client::FromClient::Request { node, request: echo }),
        ];
        for body in foreign {
            let failure = session.request(body, WAIT).await.unwrap_err();
            assert_eq!(failure.code, Code::Unsupported, "{failure}");
        }
        for head in [
            encode(&OpenPeer::Snapshot { head: Vec::new(), size: 1 }),
            encode(&OpenPeer::GetBlob { digest: longshore_wire::Digest([0; 32]) }),
            encode(&OpenPeer::Tunnel { worker: node }),
        ] {
            let mut stream = session.open(head).await.unwrap();
            assert!(stream.read(&mut [0; 1]).await.is_err(), "a worker opened a control node's stream");
        }
    });
    assert!(!single.known("evil"));
}

/// Strangers made it hold and compute what they liked.
#[test]
fn attack_07_strangers_cost_little() {
    let single = Single::start();
    let hello_of =
        |credential: &str| framed(&FromDialler::Hello(Hello { credential: credential.to_owned(), ..hello() }));
    let nested = |depth: usize| [&(depth as u32).to_be_bytes()[..], &vec![0x91; depth]].concat();
    let cases = [
        ("four gigabytes announced", u32::MAX.to_be_bytes().to_vec()),
        ("one byte too many", 4097_u32.to_be_bytes().to_vec()),
        ("arrays in arrays", nested(4096)),
        ("a map of 2^32", [&[0, 0, 0, 5, 0xdf][..], &[0xff; 4]].concat()),
        ("a string of 2^32", [&[0, 0, 0, 5, 0xdb][..], &[0xff; 4]].concat()),
        ("another language", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("nothing", vec![0; 4]),
    ];
    for (what, bytes) in &cases {
        for transport in CARRIERS {
            let heard = run(told(&single, transport, bytes));
            assert_eq!(reject(&heard).code, RejectCode::Protocol, "{what} over {transport}");
        }
    }
    // A hello costs the node no key derivation: those of 200 names that do not exist would be a minute of computing.
    let before = cpu(single.control.pid());
    run(async {
        for number in 0..200 {
            let mut link = connect(&single, Transport::Tcp).await;
            send(&mut link, &hello_of(&format!("ghost-{number}"))).await;
            let length = link.io.read_u32().await.unwrap();
            assert!(length > 100);
        }
    });
    let spent = cpu(single.control.pid()) - before;
    println!("200 hellos cost the control node {spent:?} of computing");
    assert!(spent < Duration::from_secs(10), "{spent:?}");
    // One byte at a time buys no more time than silence.
    let start = Instant::now();
    run(async {
        let mut link = connect(&single, Transport::Tcp).await;
        for byte in hello_of("worker").iter().take(60).cycle() {
            send(&mut link, &[*byte]).await;
            let mut answer = [0; 1];
            if let Ok(ended) = tokio::time::timeout(Duration::from_millis(200), link.io.read(&mut answer)).await {
                assert!(matches!(ended, Ok(0) | Err(_)) || answer == [0], "an answer to half a hello");
                break;
            }
        }
    });
    assert!(start.elapsed() < WAIT, "a slow hello was waited for {:?}", start.elapsed());
    assert!(single.cli().try_json(&["cluster", "status"]).is_ok());
}

/// Time that a process has computed.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// A worker could drive the control side: call functions there, join nodes, send others elsewhere.
#[test]
fn attack_08_a_worker_drives_nobody() {
    let single = Single::start();
    run(async {
        let link = connect(&single, Transport::Wss).await;
        let worker = proven(&single, link, (Role::Worker, "worker", "worker.secret")).await.unwrap();
        let (session, _inbound) = Session::start(worker, SessionOptions::default());
        let kv = |task: &str| {
            let request = KvRequest::Put { key: "k".to_owned(), value: b"v".to_vec() };
            let (task, request_id) = (TaskId(task.to_owned()), RequestId::from_u128(1));
            encode(&ToControl::Kv(TaskKv { task, request_id, request }))
        };
        let report = edge::Report {
            state: longshore_wire::task::NodeState::Ready,
            tasks: Vec::new(),
            archives: vec![longshore_wire::Digest([7; 32])],
        };
        // Before it is driven it has no say at all.
        for body in [kv("a-1"), encode(&ToControl::Report(report.clone()))] {
            assert_eq!(session.request(body, WAIT).await.unwrap_err().code, Code::NotOwner);
        }
        let attach = edge::Attach {
            name: "evil".to_owned(),
            boot: RequestId::from_u128(9),
            labels: Default::default(),
            release: String::new(),
            runtimes: Vec::new(),
            epoch: longshore_wire::Epoch(0),
            published: Vec::new(),
            report,
        };
        let reply = session.request(encode(&ToControl::Attach(attach)), WAIT).await.unwrap();
        assert!(matches!(longshore_wire::decode(&reply).unwrap(), edge::AttachReply::Accepted(_)));
        // Driven, it still speaks for its own tasks alone.
        let failure = session.request(kv("somebody-elses-1"), WAIT).await.unwrap_err();
        assert!(matches!(failure.code, Code::NotFound | Code::Forbidden), "{failure:?}");
        let moved = edge::NotifyWorker::Moved { owner: NodeId::from_u128(5), name: "x".to_owned(), addresses: vec![] };
        session.notify(encode(&moved)).await.unwrap();
        let tunnel = OpenControl::Tunnel { to: NodeId::from_u128(0xdead) };
        let mut stream = session.open(encode(&tunnel)).await.unwrap();
        assert!(stream.read(&mut [0; 1]).await.is_err(), "a tunnel to nowhere");
    });
    let status = single.cli().json(&["cluster", "status"]);
    assert!(status.to_string().contains("control-1"), "{status}");
    let kv = single.cli().run(&["kv", "get", "apps/somebody-elses/k"]);
    assert!(!kv.status.success());
}

/// A default password, a default key for TLS, TLS 1.0.
#[test]
fn attack_09_nothing_secret_is_built_in() {
    let (one, other) = (Single::start(), Single::start());
    for file in ["control.secret", "worker.secret", "client.secret"] {
        assert_ne!(one.secret(file), other.secret(file));
        assert!(one.secret(file).len() >= 32);
    }
    let certificate = |single: &Single| std::fs::read(single.dir.path().join("data/tls.crt")).unwrap();
    assert_ne!(certificate(&one), certificate(&other));
    // Without a secret, or with one that anybody would guess, no node starts.
    let (weak, empty) = (one.dir.path().join("weak"), one.dir.path().join("empty"));
    std::fs::write(&weak, "nkcluster\n").unwrap();
    std::fs::write(&empty, "").unwrap();
    for secret in [&weak, &empty] {
        let claim = Claim { role: "worker", credential: "worker", secret, cluster: "test" };
        let _configured: Process = one.peer("w", claim, &one.wss());
        let config = one.dir.path().join("w.toml");
        let output = Command::new(BINARY).args(["run", "-c"]).arg(&config).output().unwrap();
        assert!(!output.status.success() && stderr(&output).contains("secret"), "{}", stderr(&output));
    }
    // A ClientHello of TLS 1.1 (RFC 4346) with a suite of that time.
    let mut hello = vec![1, 0, 0, 43, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 4, 0, 0x2f, 0, 0x35, 1, 0]);
    let mut record = vec![22, 3, 1, 0, u8::try_from(hello.len()).unwrap()];
    record.extend(&hello);
    let mut stream = TcpStream::connect(SocketAddr::new(one.subnet.host(1), crate::cluster::WSS_PORT)).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.write_all(&record).unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    assert_eq!(answer.first(), Some(&21), "an alert and no more: {answer:02x?}");
}

/// DNS steered security: without NAPTR it stepped down to plain TCP.
#[test]
fn attack_10_dns_leads_nobody_to_plaintext() {
    let single = Single::start();
    let ip = single.subnet.host(1);
    // Whoever answers for the zone offers plaintext under every name that he can think of, and nothing else.
    let records = format!(
        "@ IN A {ip}\n_longshore._tcp IN SRV 1 1 {TCP_PORT} c1\n_longshore._ws IN SRV 1 1 {TCP_PORT} c1\n\
         _nkcluster._tcp IN SRV 1 1 {TCP_PORT} c1\nc1 IN A {ip}\n\
         steered IN NAPTR 1 1 \"s\" \"LS+D2T\" \"\" _longshore._tcp.cluster.test.\nsteered IN A {ip}\n"
    );
    let dns = Dns::serve(single.subnet.host(53), &records);
    let secret = single.dir.path().join("made/worker.secret");
    let claim = Claim { role: "worker", credential: "worker", secret: &secret, cluster: "test" };
    // Nothing said; TLS said where NAPTR offers plaintext; WSS likewise.
    let uris = [
        "longshore://cluster.test",
        "longshore://steered.cluster.test;transport=tls",
        "longshore://steered.cluster.test;transport=wss",
    ];
    for (number, uri) in uris.iter().enumerate() {
        let name = format!("worker-{number}");
        let mut worker = single.peer(&name, claim, uri);
        let config = single.dir.path().join(format!("{name}.toml"));
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, format!("{text}[dns]\nnameservers = [\"{}\"]\n", dns.address())).unwrap();
        worker.start(&[]);
        // WSS finds the control node on its default port; TLS finds nobody. Neither takes what the zone offers.
        if uri.ends_with("wss") {
            worker.wait_log(&["attached to the owner", "carrier=wss"]);
        } else {
            worker.wait_log(&["8139"]);
        }
        assert!(!worker.log().contains("carrier=tcp"), "led to plaintext:\n{}", worker.log());
        assert!(!worker.log().contains(&format!(":{TCP_PORT}")), "plaintext was dialled:\n{}", worker.log());
        worker.kill();
    }
}
