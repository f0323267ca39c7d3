//! Who is turned away, and that both sides say so in words; and that secrets stay secret.

use crate::capture::Capture;
use crate::process::wait_for;
use crate::single::{Claim, Single, TCP_PORT};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

#[test]
fn strangers_are_refused_in_words_on_both_sides() {
    let single = Single::start();
    let made = single.dir.path().join("made");
    let wrong = single.dir.path().join("wrong.secret");
    std::fs::write(&wrong, "0123456789abcdef0123456789abcdef\n").unwrap();
    let (of_worker, of_control) = (made.join("worker.secret"), made.join("control.secret"));
    let worker = Claim { role: "worker", credential: "worker", secret: &of_worker, cluster: "test" };
    let cases = [
        ("wrong-secret", Claim { secret: &wrong, ..worker }, "secret"),
        ("wrong-cluster", Claim { cluster: "other", ..worker }, "cluster"),
        ("workers-secret", Claim { role: "control", credential: "control", ..worker }, "secret"),
        ("controls-secret", Claim { secret: &of_control, ..worker }, "secret"),
        ("controls-credential", Claim { credential: "control", secret: &of_control, ..worker }, "role"),
    ];
    for (name, claim, word) in cases {
        let mut peer = single.peer(name, claim, &single.wss());
        peer.start(&[]);
        let theirs = peer.wait_log(&["refused", word]);
        let id = wait_for("the node id", || {
            let text = std::fs::read_to_string(single.dir.path().join(name).join("node-id"));
            text.map(|id| id.trim().to_owned()).map_err(|error| error.to_string())
        });
        let ours = single.control.wait_log(&["refused", &id, word]);
        println!("{name}\n  dialler:  {theirs}\n  acceptor: {ours}");
        peer.kill();
        assert!(!single.known(name), "{name} must not be registered");
        for text in [peer.log(), single.control.log()] {
            for file in ["control.secret", "worker.secret", "client.secret"] {
                assert!(!text.contains(&single.secret(file)), "the secret of {file} is in a log");
            }
            assert!(!text.contains("0123456789abcdef0123456789abcdef"), "the wrong secret is in a log");
        }
    }
}

#[test]
fn a_recorded_handshake_is_worth_nothing_and_holds_no_secret() {
    let single = Single::start();
    let tcp = SocketAddr::new(single.subnet.host(1), TCP_PORT);
    let door = SocketAddr::new(single.subnet.host(7), TCP_PORT);
    let capture = Capture::start(door, tcp);
    let secret = single.dir.path().join("made/worker.secret");
    let claim = Claim { role: "worker", credential: "worker", secret: &secret, cluster: "test" };
    let mut worker = single.peer("worker-1", claim, &format!("longshore://{door};transport=tcp"));
    worker.start(&[]);
    wait_for("the worker to be driven", || {
        let nodes = single.cli().try_json(&["node", "list"])?;
        let driven = nodes
            .as_array()
            .is_some_and(|list| list.iter().any(|node| node["name"] == "worker-1" && node["state"] == "ready"));
        if driven { Ok(()) } else { Err(nodes.to_string()) }
    });
    for process in [&worker, &single.control] {
        let arguments = std::fs::read(format!("/proc/{}/cmdline", process.pid())).unwrap();
        assert!(!contains(&arguments, single.secret("worker.secret").as_bytes()), "the secret is in argv");
    }
    worker.kill();

    let recordings = capture.recordings();
    assert!(recordings.iter().any(|recording| recording.from_dialler.len() > 100), "the proxy saw the handshake");
    for recording in &recordings {
        for file in ["control.secret", "worker.secret", "client.secret"] {
            let secret = single.secret(file);
            assert!(!contains(&recording.from_dialler, secret.as_bytes()), "{file} crossed the wire");
            assert!(!contains(&recording.from_acceptor, secret.as_bytes()), "{file} crossed the wire");
        }
    }

    let replayed = &recordings[0].from_dialler;
    let mut stream = TcpStream::connect(tcp).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(replayed).unwrap();
    let mut answer = Vec::new();
    // The acceptor closes; whether it does so in peace or with a reset is no matter.
    drop(stream.read_to_end(&mut answer));
    assert!(contains(&answer, b"challenge"), "the acceptor answers a hello");
    assert!(!contains(&answer, b"welcome"), "a replay must not be welcomed");
    single.control.wait_log(&["refused", "secret"]);
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
