//! What `/metrics` tells of what has happened.

use crate::acceptance::http::call;
use crate::process::wait_for;
use crate::single::{Claim, Single};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};

#[test]
fn metrics_count_proposals_watches_and_strangers() {
    let single = Single::start();
    let api = SocketAddr::new(single.subnet.host(1), 8138);
    let value = |name: &str| -> Result<u64, String> {
        let text = String::from_utf8(call(api, "GET", "/metrics", b"")?.body).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.ok_or_else(|| format!("no {name} in {text}"))
    };
    let committed = "longshore_raft_proposals_total{outcome=\"committed\"}";
    let before = value(committed).unwrap();
    single.cli().text(&["kv", "put", "a", "b"]);
    assert!(value(committed).unwrap() > before);
    assert_eq!(value("longshore_raft_leader_changes_total"), Ok(0), "the first leader is no change");

    assert_eq!(value("longshore_kv_watches"), Ok(0));
    let mut watch = TcpStream::connect(api).unwrap();
    watch.write_all(b"GET /v1/kv/watch?prefix=a HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    wait_for("the watch to be counted", || match value("longshore_kv_watches")? {
        1 => Ok(()),
        other => Err(other.to_string()),
    });

    let wrong = single.dir.path().join("wrong.secret");
    std::fs::write(&wrong, "0123456789abcdef0123456789abcdef\n").unwrap();
    let claim = Claim { role: "worker", credential: "worker", secret: &wrong, cluster: "test" };
    let mut stranger = single.peer("stranger", claim, &single.wss());
    stranger.start(&[]);
    wait_for("the stranger to be counted", || {
        value("longshore_handshakes_refused_total{reason=\"credential\"}").map(drop)
    });
}
