//! Whoever has proven nothing changes nothing, and is written down.

use super::http::Connection;
use crate::process::{Cli, Process, wait_for};
use crate::single::{Claim, Single};
use crate::stranger::{CARRIERS, framed, hello, reject, run, told};
use longshore_wire::frame::{Header, Kind};
use longshore_wire::handshake::{FromDialler, Proof, RejectCode};
use longshore_wire::peer::{Join, PeerRequest, RaftRpc};
use longshore_wire::{NodeId, RequestId, encode};
use serde_json::Value;
use std::net::SocketAddr;

/// All that a stranger could have changed.
fn picture(cli: &Cli) -> Vec<Value> {
    let asked: [&[&str]; 5] =
        [&["node", "list"], &["kv", "list"], &["kv", "lease", "list"], &["token", "list"], &["cluster", "members"]];
    let mut picture: Vec<Value> = asked.into_iter().map(|command| cli.json(command)).collect();
    // What is measured changes by itself.
    for member in picture.iter_mut().filter_map(Value::as_array_mut).flatten().filter_map(Value::as_object_mut) {
        member.retain(|field, _| !["disk_free", "snapshot_age_ms", "rtt_ms"].contains(&field.as_str()));
    }
    let status = cli.json(&["cluster", "status"]);
    picture.extend(["term", "committed", "voters_wanted", "leader"].map(|field| status[field].clone()));
    picture
}

fn lines(control: &Process, parts: &[&str]) -> usize {
    control.log().lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
}

/// A request of another control node, as it would cross a session.
fn request(request: &PeerRequest) -> Vec<u8> {
    let body = encode(request);
    let header = Header { kind: Kind::Request, id: 1, length: u32::try_from(body.len()).unwrap() }.encode();
    [&header[..], &body].concat()
}

#[test]
fn a21_strangers_are_refused_and_written_down_and_change_nothing() {
    let mut single = Single::start();
    // What a first start brings with it shall be over.
    single.control.wait_log(&["SetRing"]);
    single.control.kill();
    let config = single.dir.path().join("control-1.toml");
    single.control = Process::new("control-1", config).with("LONGSHORE_API_LOOPBACK", "token");
    single.control.start(&[]);
    let socket = Cli::new(&format!("unix://{}", single.dir.path().join("data/api.sock").display()));
    wait_for("the node to be back", || match socket.try_json(&["node", "list"])? {
        nodes if nodes[0]["generation"] == 2 => Ok(()),
        nodes => Err(nodes.to_string()),
    });
    socket.text(&["kv", "put", "secret", "value"]);
    let before = picture(&socket);

    // A control node without the secret asks to join.
    let wrong = single.dir.path().join("wrong.secret");
    std::fs::write(&wrong, "0123456789abcdef0123456789abcdef\n").unwrap();
    let claim = Claim { role: "control", credential: "control", secret: &wrong, cluster: "test" };
    let mut joiner = single.peer("joiner", claim, &single.wss());
    joiner.start(&[]);
    joiner.wait_log(&["refused", "secret"]);
    let id = std::fs::read_to_string(single.dir.path().join("joiner/node-id")).unwrap();
    single.control.wait_log(&["refused", id.trim(), "secret"]);
    joiner.kill();

    // The same, and what the Raft group says among itself, without any handshake, and behind one that proves nothing.
    let node = NodeId::from_u128(0xbad);
    let (name, boot) = ("bad".to_owned(), RequestId::from_u128(1));
    let join = PeerRequest::Join(Join { node, name, boot, addresses: vec![], release: String::new() });
    let raft = [RaftRpc::Vote, RaftRpc::Append].map(|rpc| PeerRequest::Raft { rpc, body: vec![0; 8] });
    let propose = PeerRequest::Propose { body: vec![0; 8] };
    let opening =
        [framed(&FromDialler::Hello(hello())), framed(&FromDialler::Proof(Proof { proof: vec![0; 32] }))].concat();
    let said: Vec<Vec<u8>> = raft.iter().chain([&join, &propose]).map(request).collect();
    let proven = said.iter().take(CARRIERS.len()).map(|said| [&opening[..], said].concat());
    let wrong = said.iter().cloned().map(|said| (said, RejectCode::Protocol));
    for (number, (said, code)) in wrong.chain(proven.map(|said| (said, RejectCode::Credential))).enumerate() {
        let known = lines(&single.control, &["refused"]);
        let carrier = CARRIERS[number % CARRIERS.len()];
        assert_eq!(reject(&run(told(&single, carrier, &said))).code, code);
        wait_for("the refusal to be written down", || {
            if lines(&single.control, &["refused"]) > known { Ok(()) } else { Err(single.control.log()) }
        });
    }

    // Calls of the API without a token, and with one that nobody has made.
    let mut api = Connection::open(SocketAddr::new(single.subnet.host(1), 8138)).unwrap();
    let calls = [
        ("GET", "/v1/kv/secret"),
        ("PUT", "/v1/kv/secret"),
        ("DELETE", "/v1/kv/secret"),
        ("POST", "/v1/kv/txn"),
        ("GET", "/v1/kv/watch"),
        ("GET", "/v1/events"),
        ("POST", "/v1/leases"),
        ("PUT", "/v1/cluster/voters"),
        ("DELETE", "/v1/nodes/control-1"),
        ("GET", "/v1/snapshot"),
    ];
    for (method, path) in calls {
        for (token, who) in [(&[][..], "nobody"), (&["authorization: Bearer lst_made-up"][..], "unknown token")] {
            let refused = api.call(method, path, token, b"").unwrap();
            assert_eq!(refused.status, 401, "{method} {path}: {refused:?}");
            assert!(!String::from_utf8_lossy(&refused.body).contains("value"), "{refused:?}");
            single.control.wait_log(&["audit: refused", method, path, who, "401"]);
        }
    }
    assert_eq!(picture(&socket), before, "no stranger changes anything");
}
