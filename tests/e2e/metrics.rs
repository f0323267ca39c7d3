//! What `/metrics` tells of what has happened.

use crate::acceptance::http::call;
use crate::process::wait_for;
use crate::single::{Claim, Single};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};

#[test]
fn metrics_count_proposals_readers_sessions_and_strangers() {
    let single = Single::start();
    let api = SocketAddr::new(single.subnet.host(1), 8138);
    let value = |name: &str| -> Result<u64, String> {
        let text = String::from_utf8(call(api, "GET", "/metrics", b"")?.body).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.ok_or_else(|| format!("no {name} in {text}"))
    };
    let reaches = |name: &str, wanted: u64| {
        wait_for(name, || match value(name)? {
            now if now == wanted => Ok(()),
            now => Err(now.to_string()),
        });
    };
    let committed = "longshore_raft_proposals_total{outcome=\"committed\"}";
    let before = value(committed).unwrap();
    single.cli().text(&["kv", "put", "a", "b"]);
    assert!(value(committed).unwrap() > before);
    assert_eq!(value("longshore_raft_leader_changes_total"), Ok(0), "the first leader is no change");

    assert_eq!(value("longshore_kv_watches"), Ok(0));
    let mut watch = TcpStream::connect(api).unwrap();
    watch.write_all(b"GET /v1/kv/watch?prefix=a HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    reaches("longshore_kv_watches", 1);

    assert_eq!(value("longshore_event_readers"), Ok(0));
    let mut events = TcpStream::connect(api).unwrap();
    events.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    reaches("longshore_event_readers", 1);
    drop(events);
    reaches("longshore_event_readers", 0);
    for stream in ["events", "kv"] {
        assert_eq!(value(&format!("longshore_readers_cut_off_total{{stream=\"{stream}\"}}")), Ok(0));
    }
    assert_eq!(value("longshore_owner_moves_total"), Ok(0));
    assert!(value("longshore_tls_certificate_not_after_seconds").unwrap() > 1_700_000_000);

    let right = single.dir.path().join("made/worker.secret");
    let claim = Claim { role: "worker", credential: "worker", secret: &right, cluster: "test" };
    let mut worker = single.peer("passer-by", claim, &single.wss());
    worker.start(&[]);
    reaches("longshore_sessions", 1);
    for direction in ["received", "sent"] {
        let bytes = value(&format!("longshore_session_bytes_total{{direction=\"{direction}\",kind=\"control\"}}"));
        assert!(bytes.as_ref().is_ok_and(|bytes| *bytes > 0), "{direction}: {bytes:?}");
    }
    worker.kill();
    wait_for("the session's end to be counted", || {
        value("longshore_sessions_ended_total{role=\"worker\",reason=\"unavailable\"}").map(drop)
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
