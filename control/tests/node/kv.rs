//! The key-value store over HTTP: watches, conditions, transactions, leases, request ids, limits.

use crate::rig::{self, Node};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::Instant;

/// The quota unless an operator sets another.
const QUOTA: u64 = 1 << 30;
const WAIT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_of_one_node() {
    let node = rig::start("c1", &[]).await;
    node.until("/v1/cluster", |status| status["members"][0]["role"] == "voter").await;
    watches(&node).await;
    gaps(&node).await;
    conditions(&node).await;
    transactions(&node).await;
    leases(&node).await;
    repeats(&node).await;
    limits(&node).await;
    let mut watch = Watching::open(&node, "/v1/kv/watch", "").await;
    watch.until("event: start").await;
    node.control.stop(Duration::from_secs(5)).await;
    watch.ended().await;
}

/// A watch, read as it comes.
struct Watching {
    stream: UnixStream,
    text: String,
}

impl Watching {
    async fn open(node: &Node, path: &str, head: &str) -> Self {
        let mut stream = UnixStream::connect(node.folder.path().join("api.sock")).await.unwrap();
        // As HTTP/1.0, so that the body comes without marks of its own.
        stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: x\r\n{head}\r\n").as_bytes()).await.unwrap();
        Self { stream, text: String::new() }
    }

    /// Reads until a text has come; all so far.
    async fn until(&mut self, wanted: &str) -> &str {
        let deadline = Instant::now() + WAIT;
        while !self.text.contains(wanted) {
            let mut piece = vec![0; 1024 * 1024];
            let read = tokio::time::timeout_at(deadline, self.stream.read(&mut piece)).await;
            let read = read.unwrap_or_else(|_| panic!("no {wanted} in {:.9999}", self.text)).unwrap();
            assert!(read > 0, "ended without {wanted}: {:.9999}", self.text);
            self.text.push_str(std::str::from_utf8(&piece[..read]).unwrap());
        }
        &self.text
    }

    async fn ended(&mut self) {
        let mut rest = Vec::new();
        tokio::time::timeout(WAIT, self.stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    }

    /// Names and data of the events so far.
    fn events(&self) -> Vec<(String, Value)> {
        let (_, body) = self.text.split_once("\r\n\r\n").unwrap();
        let event = |text: &str| {
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            let data: Value = serde_json::from_str(&field("data: ")?).unwrap();
            assert_eq!(field("id: ").unwrap(), data["revision"].to_string());
            Some((field("event: ")?, data))
        };
        body.split("\n\n").filter_map(event).collect()
    }
}

async fn put(node: &Node, key: &str, value: &[u8]) -> u64 {
    let put = node.ask(&format!("PUT /v1/kv/{key}"), "", value).await;
    assert_eq!(put.status, 200, "{}", String::from_utf8_lossy(&put.body));
    put.json()["revision"].as_u64().unwrap()
}

async fn watches(node: &Node) {
    let first = put(node, "w/1", b"one").await;
    let mut from_now = Watching::open(node, "/v1/kv/watch?prefix=w/", "").await;
    assert!(from_now.until("event: start").await.contains("content-type: text/event-stream"));
    put(node, "other", b"x").await;
    put(node, "w/2", b"\xff").await;
    node.ask("DELETE /v1/kv/w/1", "", b"").await;
    let last = put(node, "w/3", b"end").await;
    from_now.until("w/3").await;
    let seen = |watching: &Watching| {
        let changes = watching.events().into_iter().filter(|(name, _)| name != "start" && name != "progress");
        changes.map(|(name, data)| format!("{name} {} {}", data["key"], data["value"])).collect::<Vec<_>>()
    };
    let changes = [r#"put "w/2" "/w==""#, r#"delete "w/1" null"#, r#"put "w/3" "end""#];
    assert_eq!(seen(&from_now), changes);

    // From a revision, and from behind the last event that has come.
    let mut from_first = Watching::open(node, &format!("/v1/kv/watch?prefix=w/&from={first}"), "").await;
    from_first.until("w/3").await;
    assert_eq!(seen(&from_first), [&[r#"put "w/1" "one""#], &changes[..]].concat());
    let resumed = format!("last-event-id: {}\r\n", last - 1);
    let mut resumed = Watching::open(node, "/v1/kv/watch?prefix=w/&from=1", &resumed).await;
    resumed.until("w/3").await;
    assert_eq!(seen(&resumed), changes[2..]);
    let listed = node.get("/v1/kv?prefix=w/").await;
    assert_eq!(listed["revision"], last, "where a watch goes on behind a listing");
    let strange = node.ask("GET /v1/kv/watch", "last-event-id: x\r\n", b"").await;
    assert_eq!((strange.status, strange.json()["code"].as_str()), (400, Some("invalid")));
}

/// A reader that stays away longer than the history reaches, and one with a revision of another life.
async fn gaps(node: &Node) {
    let mut slow = Watching::open(node, "/v1/kv/watch?prefix=g/", "").await;
    slow.until("event: start").await;
    // More than the history and the socket hold together.
    let value = vec![b'v'; 1024 * 1024];
    for number in 0..24 {
        put(node, &format!("g/{}", number % 2), &value).await;
    }
    slow.until("event: gap").await;
    let last = put(node, "g/last", b"x").await;
    slow.until("g/last").await;
    let events = slow.events();
    let gap = events.iter().position(|(name, _)| name == "gap").expect("a gap");
    let told = |event: &(String, Value)| event.1["revision"].as_u64().unwrap();
    let revisions: Vec<u64> = events.iter().map(told).collect();
    assert!(revisions.windows(2).all(|pair| pair[0] < pair[1]), "in order, each once: {revisions:?}");
    let in_a_row = |part: &[u64]| part.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    assert!(in_a_row(&revisions[..gap]) && in_a_row(&revisions[gap..]), "no hole but the gap: {revisions:?}");
    let mut old = Watching::open(node, "/v1/kv/watch?prefix=g/&from=1", "").await;
    old.until("event: gap").await;
    assert_eq!(told(&old.events()[1]), last);
    let mut strange = Watching::open(node, &format!("/v1/kv/watch?from={}", last + 1000), "").await;
    strange.until("event: gap").await;
    let next = put(node, "g/next", b"x").await;
    strange.until("g/next").await;
    assert_eq!(strange.events().iter().map(told).collect::<Vec<_>>(), [last, last, next]);
    for key in ["g/0", "g/1"] {
        node.ask(&format!("DELETE /v1/kv/{key}"), "", b"").await;
    }
}

async fn conditions(node: &Node) {
    let revision = put(node, "c", b"x").await;
    let late = node.ask("DELETE /v1/kv/c", &format!("if-match: {}\r\n", revision - 1), b"").await;
    assert_eq!((late.status, late.json()["code"].as_str()), (409, Some("conflict")));
    let gone = node.ask("DELETE /v1/kv/c", &format!("if-match: {revision}\r\n"), b"").await;
    assert_eq!((gone.status, &gone.json()["existed"]), (200, &true.into()));
    assert_eq!(node.ask("DELETE /v1/kv/c", &format!("if-match: {revision}\r\n"), b"").await.status, 409);
}

async fn txn(node: &Node, wish: Value) -> (u16, Value) {
    let answer = node.ask("POST /v1/kv/txn", "", wish.to_string().as_bytes()).await;
    (answer.status, answer.json())
}

async fn transactions(node: &Node) {
    let wish = json!({
        "if": [{"key": "t/a", "absent": true}],
        "then": [{"put": "t/a", "value": "1"}, {"put": "t/b", "value": "//4=", "encoding": "base64"}, {"get": "t/b"}],
        "else": [{"get": "t/a"}, {"delete": "t/b"}, {"get": "t/b"}],
    });
    let (status, done) = txn(node, wish.clone()).await;
    assert_eq!((status, &done["succeeded"], &done["unmet"]), (200, &true.into(), &Value::Null), "{done}");
    assert_eq!((&done["results"][0]["created"], &done["results"][2]["value"]), (&true.into(), &"//4=".into()));
    let (status, other) = txn(node, wish).await;
    assert_eq!((status, &other["succeeded"]), (200, &false.into()));
    assert!(other["unmet"].as_str().unwrap().contains("'t/a' exists"));
    assert_eq!((&other["results"][0]["value"], &other["results"][2]["absent"]), (&"1".into(), &true.into()));
    let swap =
        json!({"if": [{"key": "t/a", "value": "1"}], "then": [{"put": "t/a", "value": "2"}, {"put": "", "value": ""}]});
    let (status, refused) = txn(node, swap).await;
    assert_eq!((status, &refused["code"]), (400, &"invalid".into()));
    assert_eq!(node.ask("GET /v1/kv/t/a", "", b"").await.body, b"1", "nothing of it was done");
    let many: Vec<Value> = (0..129).map(|number| json!({"get": number.to_string()})).collect();
    assert_eq!(txn(node, json!({"then": many})).await.0, 413);
    assert_eq!(node.ask("POST /v1/kv/t/a", "", b"{}").await.status, 405);
}

async fn leases(node: &Node) {
    assert_eq!(node.ask("POST /v1/leases", "", br#"{"ttl_ms":999}"#).await.status, 400);
    let grant = async |ttl: u64| {
        let granted = node.ask("POST /v1/leases", "", json!({"ttl_ms": ttl}).to_string().as_bytes()).await;
        assert_eq!(granted.status, 201);
        granted.json()["lease"].as_u64().unwrap()
    };
    let (short, long) = (grant(1000).await, grant(3_600_000).await);
    assert_eq!(node.ask("PUT /v1/kv/l/x?lease=99999999", "", b"x").await.status, 404);
    assert_eq!(node.ask(&format!("PUT /v1/kv/l/short?lease={short}"), "", b"x").await.status, 200);
    let mut watch = Watching::open(node, "/v1/kv/watch?prefix=l/", "").await;
    watch.until("event: start").await;
    let held = node.ask(&format!("PUT /v1/kv/l/long?lease={long}"), "if-none-match: *\r\n", b"x").await;
    assert_eq!(held.status, 200);
    assert_eq!(node.ask("GET /v1/kv/l/long", "", b"").await.header("x-longshore-lease"), Some(&*long.to_string()));
    assert_eq!(node.get(&format!("/v1/leases/{long}")).await["keys"], json!(["l/long"]));
    assert_eq!(node.ask(&format!("POST /v1/leases/{long}/keep"), "", b"").await.json()["ttl_ms"], 3_600_000);

    // Nobody keeps the short one alive.
    watch.until("event: delete").await;
    node.until("/v1/leases", |leases| leases.as_array().unwrap().len() == 1).await;
    assert_eq!(node.ask("GET /v1/kv/l/short", "", b"").await.status, 404);
    assert_eq!(node.ask(&format!("POST /v1/leases/{short}/keep"), "", b"").await.status, 404);
    let (_, gone) = watch.events().into_iter().find(|(name, _)| name == "delete").unwrap();
    assert_eq!((&gone["key"], &gone["lease"]), (&"l/short".into(), &short.into()));
    assert_eq!(node.get("/v1/leases").await[0]["renewals"], 1);
    let ended = node.ask(&format!("DELETE /v1/leases/{long}"), "", b"").await;
    assert_eq!((ended.status, &ended.json()["keys"]), (200, &1.into()));
    assert_eq!(node.ask("GET /v1/kv/l/long", "", b"").await.status, 404);
}

async fn repeats(node: &Node) {
    let named = "x-longshore-request-id: 7ZZZZZZZZZ0000000000000001\r\n";
    let again = format!("{named}x-longshore-repeat: yes\r\n");
    let first = node.ask("PUT /v1/kv/r", named, b"1").await.json();
    put(node, "r", b"2").await;
    for head in [named, &again] {
        assert_eq!(node.ask("PUT /v1/kv/r", head, b"1").await.json(), first);
    }
    assert_eq!(node.ask("GET /v1/kv/r", "", b"").await.body, b"2");
    let other = node.ask("POST /v1/leases", named, br#"{"ttl_ms":1000}"#).await;
    assert_eq!((other.status, other.json()["code"].as_str()), (409, Some("conflict")), "the id of another request");
    assert_eq!(node.ask("PUT /v1/kv/r", "x-longshore-request-id: 1\r\n", b"").await.status, 400);
}

async fn limits(node: &Node) {
    let set = async |wish: Value| node.ask("PUT /v1/cluster/limits", "", wish.to_string().as_bytes()).await;
    assert_eq!(set(json!({"quota": 1})).await.status, 400);
    let small = 3 * 1024 * 1024;
    assert_eq!(set(json!({"quota": small})).await.json()["quota"], small);
    let value = vec![0; 1024 * 1024];
    let mut refused = None;
    for number in 0..4 {
        let answer = node.ask(&format!("PUT /v1/kv/full/{number}"), "", &value).await;
        refused = (answer.status != 200).then(|| answer.json()).or(refused);
    }
    let refused = refused.expect("three values at their limit, and keys, are more than the quota");
    assert_eq!(refused["code"], "too_large");
    assert!(refused["detail"].as_str().unwrap().contains("the quota is 3145728"), "{refused}");
    assert_eq!(set(json!({"quota": null})).await.json()["quota"], QUOTA);

    assert_eq!(set(json!({"brake": 1})).await.json()["brake"], 1);
    let mut braked = Vec::new();
    for _ in 0..5 {
        braked.push(node.ask("PUT /v1/kv/braked", "", b"").await);
    }
    let busy = braked.iter().find(|answer| answer.status == 503).expect("five writes take less than four seconds");
    assert_eq!((busy.header("retry-after"), &busy.json()["code"]), (Some("1"), &"busy".into()));
    assert_eq!(node.ask("GET /v1/kv/braked", "", b"").await.status, 200, "reads go on");
    assert_eq!(set(json!({"brake": null})).await.json()["brake"], Value::Null);
    for _ in 0..5 {
        put(node, "braked", b"").await;
    }
}
