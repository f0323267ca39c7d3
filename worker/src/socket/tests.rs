//! The app socket, asked over a real Unix socket.

use super::*;
use crate::testing::{FakeCluster, spec};
use longshore_wire::kv::{Consistency, Expect, KvEntry, KvReply, KvRequest};
use longshore_wire::{Code, TaskId};
use std::os::unix::fs::PermissionsExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

struct Rig {
    socket: AppSocket,
    cluster: Arc<FakeCluster>,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Arc::new(FakeCluster::default());
        let node = (NodeId::from_u128(5), "w1".to_owned());
        let place = Place::choose(dir.path()).unwrap();
        let sockets = Sockets::new(place, cluster.clone(), node, TaskTracker::new());
        let socket = sockets.open(&spec("t-3", &["x"]), Some(ShortId(3))).unwrap();
        Self { socket, cluster, _dir: dir }
    }

    fn answers(&self, answer: Result<KvReply, Failure>) {
        self.cluster.answers.lock().unwrap().push(answer);
    }

    fn asked(&self) -> KvRequest {
        self.cluster.asked.lock().unwrap().pop().expect("the cluster was asked").request
    }

    /// Sends one request; the head of the answer in lower case, and its body.
    async fn ask(&self, line: &str, headers: &str, body: &[u8]) -> (String, String) {
        let mut stream = UnixStream::connect(self.socket.path()).await.unwrap();
        let head = format!(
            "{line} HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server that refuses early may close before it has read all.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }
}

fn entry(key: &str, value: &[u8]) -> KvEntry {
    KvEntry { key: key.into(), value: value.into(), revision: 7, created_revision: 5, lease: None }
}

#[tokio::test]
async fn reads() {
    let rig = Rig::new();
    rig.answers(Ok(KvReply::Entry(Some(entry("a/b c", b"hello")))));
    let (head, body) = rig.ask("GET /v1/kv/a/b%20c?consistency=local", "", b"").await;
    assert!(head.starts_with("http/1.1 200") && head.contains("x-longshore-revision: 7"), "{head}");
    assert_eq!(body, "hello");
    assert_eq!(rig.asked(), KvRequest::Get { key: "a/b c".into(), consistency: Consistency::Local });

    rig.answers(Ok(KvReply::Entry(None)));
    let (head, body) = rig.ask("GET /v1/kv/absent", "", b"").await;
    assert!(head.starts_with("http/1.1 404") && head.contains("application/problem+json"), "{head}");
    assert!(body.contains(r#""code":"not_found""#) && body.contains(r#""outcome":"not_done""#), "{body}");

    rig.answers(Ok(KvReply::Entries { entries: vec![entry("a", b"x"), entry("b", &[0xff])], more: true }));
    let (_, body) = rig.ask("GET /v1/kv?prefix=p&after=q&limit=2", "", b"").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["more"], true);
    assert_eq!(body["entries"][1]["encoding"], "base64");
    let (prefix, after) = ("p".to_owned(), Some("q".to_owned()));
    assert_eq!(rig.asked(), KvRequest::List { prefix, after, limit: 2, consistency: Consistency::Linearizable });
}

#[tokio::test]
async fn writes() {
    let rig = Rig::new();
    for (headers, expect) in [
        ("", None),
        ("If-Match: 5\r\n", Some(Expect::Revision(5))),
        ("If-Match: \"5\"\r\n", Some(Expect::Revision(5))),
        ("If-None-Match: *\r\n", Some(Expect::Absent)),
    ] {
        rig.answers(Ok(KvReply::Written { revision: 8, created: true }));
        let (head, body) = rig.ask("PUT /v1/kv/k", headers, b"v").await;
        assert!(head.starts_with("http/1.1 200") && head.contains("x-longshore-revision: 8"), "{head}");
        assert!(body.contains(r#""revision":8"#), "{body}");
        let (key, value) = ("k".to_owned(), b"v".to_vec());
        let expected = match expect {
            None => KvRequest::Put { key, value },
            Some(expect) => KvRequest::Cas { key, value, expect },
        };
        assert_eq!(rig.asked(), expected);
    }
    rig.answers(Ok(KvReply::Deleted { revision: 9, existed: false }));
    let (_, body) = rig.ask("DELETE /v1/kv/k", "", b"").await;
    assert!(body.contains(r#""existed":false"#), "{body}");
    rig.answers(Err(Failure::unknown(Code::Timeout, "late")));
    let (head, body) = rig.ask("PUT /v1/kv/k", "", b"").await;
    assert!(head.starts_with("http/1.1 504") && body.contains(r#""outcome":"unknown""#), "{head} {body}");
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let rig = Rig::new();
    let large = vec![0; MAX_VALUE + 1];
    let cases: [(&str, &str, &[u8], &str, &str); 8] = [
        ("PUT /v1/kv/k", "If-Match: x\r\n", b"", "400", "invalid"),
        ("PUT /v1/kv/k", "If-Match: 1\r\nIf-None-Match: *\r\n", b"", "400", "invalid"),
        ("PUT /v1/kv/k?lease=30s", "", b"", "400", "invalid"),
        ("PUT /v1/kv/k", "", &large, "413", "too_large"),
        ("GET /v1/kv/k?consistency=some", "", b"", "400", "invalid"),
        ("GET /v1/kv?limit=0", "", b"", "400", "invalid"),
        ("GET /v2", "", b"", "404", "not_found"),
        ("POST /v1/self", "", b"", "405", "unsupported"),
    ];
    for (line, headers, body, status, code) in cases {
        let (head, body) = rig.ask(line, headers, body).await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{line}: {head}");
        assert!(body.contains(&format!("\"code\":\"{code}\"")), "{line}: {body}");
    }
    assert!(rig.cluster.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn each_task_has_its_own() {
    let rig = Rig::new();
    let (_, body) = rig.ask("GET /v1/self", "", b"").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["task"], &body["node"], &body["short_id"]), (&json!("t-3"), &json!("w1"), &json!(3)));
    let path = rig.socket.path().to_owned();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let place = Place::choose(rig._dir.path()).unwrap();
    assert_ne!(place.of(&TaskId("t-4".into())), path);
    drop(rig.socket);
    assert!(!path.exists());
}
