//! The API of a single bootstrapped node.

use crate::rig::{self, Node};
use longshore_control::StopReason;
use std::os::unix::fs::PermissionsExt as _;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_answers() {
    let node = rig::start("c1", &[]).await;
    let mode = std::fs::metadata(node.folder.path().join("api.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    node.until("/v1/cluster", |status| status["members"][0]["role"] == "voter").await;
    assert_eq!(node.ask("GET /readyz", "", b"").await.status, 200);
    keys(&node).await;
    listings(&node).await;
    refusals(&node).await;
    archives(&node).await;
    node.control.stop(std::time::Duration::from_secs(5)).await;
    assert_eq!(node.control.stopped().await, StopReason::Requested);
}

async fn keys(node: &Node) {
    let put = node.ask("PUT /v1/kv/a/b", "", b"one").await;
    assert_eq!((put.status, &put.json()["created"]), (200, &true.into()));
    let revision = put.header("x-longshore-revision").unwrap().to_owned();
    let got = node.ask("GET /v1/kv/a/b", "", b"").await;
    assert_eq!((got.body.as_slice(), got.header("x-longshore-revision")), (&b"one"[..], Some(revision.as_str())));

    let swap = format!("if-match: \"{revision}\"\r\n");
    assert_eq!(node.ask("PUT /v1/kv/a/b", &swap, b"two").await.status, 200);
    let late = node.ask("PUT /v1/kv/a/b", &swap, b"three").await;
    assert_eq!((late.status, late.json()["code"].as_str()), (409, Some("conflict")));
    assert_eq!(node.ask("PUT /v1/kv/a/b", "if-none-match: *\r\n", b"x").await.status, 409);
    assert_eq!(node.ask("PUT /v1/kv/c", "if-none-match: *\r\n", b"\xff").await.status, 200);

    let gone = node.ask("DELETE /v1/kv/a/b", "", b"").await.json();
    assert_eq!(gone["existed"], true);
    let absent = node.ask("GET /v1/kv/a/b?consistency=local", "", b"").await;
    assert_eq!((absent.status, absent.header("content-type")), (404, Some("application/problem+json")));
}

async fn listings(node: &Node) {
    for key in ["l/1", "l/2", "l/3"] {
        assert_eq!(node.ask(&format!("PUT /v1/kv/{key}"), "", key.as_bytes()).await.status, 200);
    }
    let first = node.get("/v1/kv?prefix=l/&limit=2").await;
    assert_eq!((first["entries"].as_array().unwrap().len(), &first["more"]), (2, &true.into()));
    let rest = node.get("/v1/kv?prefix=l/&after=l/2").await;
    assert_eq!((&rest["entries"][0]["value"], &rest["more"]), (&"l/3".into(), &false.into()));
    assert_eq!(node.get("/v1/kv?prefix=c").await["entries"][0]["encoding"], "base64");
}

async fn refusals(node: &Node) {
    let large = vec![0; longshore_wire::kv::MAX_VALUE + 1];
    let far_too_large = vec![0; longshore_wire::kv::MAX_VALUE + 4096];
    let cases: [(&str, &[u8], u16, &str); 12] = [
        ("GET /v1/nothing", b"", 404, "not_found"),
        ("POST /v1/cluster", b"", 405, "unsupported"),
        ("PUT /v1/kv/k?lease=30s", b"", 400, "invalid"),
        ("PUT /v1/kv/k", &large, 413, "too_large"),
        ("PUT /v1/kv/k", &far_too_large, 413, "too_large"),
        ("GET /v1/kv?limit=0", b"", 400, "invalid"),
        ("GET /v1/nodes/nobody", b"", 404, "not_found"),
        ("POST /v1/apps/x/flows/main", b"nonsense", 400, "invalid"),
        ("POST /v1/apps/x/flows/main", br#"{"instanse":"a"}"#, 400, "invalid"),
        ("POST /v1/apps/x/flows/main", br#"{"paused":true}"#, 501, "unsupported"),
        ("POST /v1/apps/x/flows/main", b"", 404, "not_found"),
        ("PUT /v1/cluster/voters", br#"{"voters":2}"#, 400, "invalid"),
    ];
    for (line, body, status, code) in cases {
        let answer = node.ask(line, "", body).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{line}");
    }
}

async fn archives(node: &Node) {
    let garbage = node.ask("PUT /v1/apps", "", b"this is no archive").await;
    assert!(matches!(garbage.status, 400 | 422), "{}", garbage.head);
    assert_eq!(garbage.json()["outcome"], "not_done");
    let left = std::fs::read_dir(node.folder.path().join("data/blobs/incoming")).unwrap().count();
    assert_eq!(left, 0);
    assert_eq!(node.get("/v1/apps").await.as_array().unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_and_collectors_are_told_what_there_is() {
    let node = rig::start("c1", &[]).await;
    node.until("/v1/cluster", |status| status["members"][0]["role"] == "voter").await;
    assert_eq!(node.ask("GET /livez", "", b"").await.status, 200);
    let ready = node.ask("GET /readyz?verbose", "", b"").await;
    let text = String::from_utf8(ready.body).unwrap();
    assert_eq!(ready.status, 200, "{text}");
    for name in ["running", "member", "leader", "applied", "log", "disk"] {
        assert!(text.contains(&format!("[+] {name}: ok\n")), "{text}");
    }
    let metrics = String::from_utf8(node.ask("GET /metrics", "", b"").await.body).unwrap();
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.split(' ').next() == Some(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .unwrap_or_else(|| panic!("{name}: {metrics}"))
    };
    assert_eq!((value("longshore_raft_has_leader"), value("longshore_raft_is_leader")), (1.0, 1.0));
    assert!(value("longshore_api_requests_total{method=\"GET\",status=\"200\"}") >= 3.0, "{metrics}");
    for name in ["longshore_raft_fsync_seconds_count", "longshore_raft_log_bytes", "longshore_disk_free_bytes"] {
        assert!(value(name) > 0.0, "{name}: {metrics}");
    }
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("longshore_"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_nobody_takes_in_is_alive_but_not_ready() {
    // Nobody listens there.
    let node = rig::start("c1", &["longshore://127.0.0.1:1;transport=tcp".parse().unwrap()]).await;
    assert_eq!(node.ask("GET /livez", "", b"").await.status, 200);
    let ready = node.ask("GET /readyz?verbose", "", b"").await;
    let text = String::from_utf8(ready.body).unwrap();
    assert_eq!(ready.status, 503, "{text}");
    assert!(text.contains("[+] disk: ok\n") && text.contains("[-] leader: no leader is known"), "{text}");
    let problem = node.ask("GET /readyz", "", b"").await.json();
    assert!(problem["detail"].as_str().unwrap().contains("member: the leader has not taken this node"), "{problem}");
    node.stop().await;
}
