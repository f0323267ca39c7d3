//! docs/protocol.md says what the code says: numbers, names, limits, and every field of every message.
#![allow(clippy::unwrap_used)]

use longshore_wire::client::{ClientKv, FromClient};
use longshore_wire::credential::{MAX_ITERATIONS, MIN_ITERATIONS};
use longshore_wire::edge::{
    Accepted, Attach, AttachReply, ClassRequest, LogRequest, Report, TaskKv, ToControl, ToWorker,
};
use longshore_wire::frame::{Goodbye, INITIAL_CREDIT, Kind, MAX_CONTROL, MAX_DATA, RequestHead};
use longshore_wire::handshake::{
    Binding, Challenge, Claim, FromAcceptor, FromDialler, Hello, MAX_MESSAGE, MAX_VERSION, MIN_VERSION, NONCE, Present,
    Proof, Reject, RejectCode, Welcome,
};
use longshore_wire::kv::KvRequest;
use longshore_wire::peer::{
    Confirm, CredentialReport, CredentialUse, Join, OpenPeer, PeerRequest, RaftRpc, ReadIndex, Vitals,
};
use longshore_wire::relay::{OutcomeAsk, OutcomeOf, Relay};
use longshore_wire::task::{NodeState, TaskSpec, TaskState, TaskStatus};
use longshore_wire::{
    ClusterUri, Code, Digest, Epoch, Failure, Generation, Labels, NodeId, Partition, RequestId, Role, ShortId, TaskId,
    Transport,
};
use serde::Serialize;
use std::collections::BTreeSet;

const DOCUMENT: &str = include_str!("../../docs/protocol.md");

/// The tables below a heading, up to the next heading, each with its title row; cells without their marks.
fn tables(heading: &str) -> Vec<Vec<Vec<String>>> {
    let start = DOCUMENT.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading}"));
    let section = &DOCUMENT[start + heading.len() + 2..];
    let section = section.split("\n#").next().unwrap();
    let cells = |line: &str| {
        line.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`').to_owned()).collect::<Vec<_>>()
    };
    let blocks = section.split("\n\n").map(str::trim_start).filter(|block| block.starts_with('|'));
    blocks.map(|block| block.lines().filter(|line| line.starts_with("| ")).map(cells).collect()).collect()
}

/// The rows of all of them.
fn rows(heading: &str) -> Vec<Vec<String>> {
    tables(heading).into_iter().flatten().collect()
}

/// The first cells of the table below a heading that begins with `title`.
fn names(heading: &str, title: &str) -> BTreeSet<String> {
    let table = tables(heading).into_iter().find(|table| table[0][0] == title);
    let table = table.unwrap_or_else(|| panic!("{heading}: no table of {title}s"));
    table[1..].iter().map(|row| row[0].clone()).collect()
}

/// The field names of a message, those of its one entry for a variant with content.
fn fields(message: &impl Serialize) -> BTreeSet<String> {
    let value = serde_json::to_value(message).unwrap();
    value.as_object().unwrap().keys().cloned().collect()
}

fn content(message: &impl Serialize) -> (String, BTreeSet<String>) {
    let value = serde_json::to_value(message).unwrap();
    let (name, content) = value.as_object().unwrap().iter().next().unwrap();
    (name.clone(), fields(content))
}

fn check(heading: &str, message: &impl Serialize) {
    assert_eq!(names(heading, "field"), fields(message), "{heading}");
}

fn id<T: From<u64>>() -> T {
    T::from(7)
}

fn report() -> Report {
    Report { state: NodeState::Ready, tasks: Vec::new(), archives: Vec::new() }
}

fn uri() -> ClusterUri {
    "longshore://c1".parse().unwrap()
}

#[test]
fn the_handshakes_fields() {
    let hello = Hello {
        versions: (1, 1),
        node: id(),
        role: Role::Worker,
        peer_role: Role::Control,
        cluster: String::new(),
        cluster_id: None,
        credential: String::new(),
        binding: Binding::None,
        nonce: Vec::new(),
        release: String::new(),
    };
    let challenge = Challenge {
        version: 1,
        node: id(),
        role: Role::Control,
        cluster: String::new(),
        cluster_id: None,
        nonce: Vec::new(),
        salt: Vec::new(),
        iterations: 1,
        release: String::new(),
    };
    let reject = Reject { code: RejectCode::Busy, message: String::new(), retry_after_ms: Some(1) };
    let present = Present {
        version: 1,
        node: id(),
        role: Role::Worker,
        cluster: String::new(),
        cluster_id: None,
        nonce: Vec::new(),
        credential: String::new(),
        release: String::new(),
    };
    let messages = [
        content(&FromAcceptor::Present(present)),
        content(&FromDialler::Claim(Claim { salt: Vec::new(), iterations: 1, proofs: Vec::new() })),
        content(&FromDialler::Hello(hello)),
        content(&FromAcceptor::Challenge(challenge)),
        content(&FromDialler::Proof(Proof { proof: Vec::new() })),
        content(&FromAcceptor::Welcome(Welcome { proof: Vec::new() })),
        content(&FromAcceptor::Reject(reject)),
    ];
    for (name, fields) in messages {
        assert_eq!(names(&format!("### {name}"), "field"), fields, "{name}");
    }
}

#[test]
fn the_sessions_fields() {
    let failure = Failure::new(Code::Busy, "");
    check("### Request head", &RequestHead { timeout_ms: 1 });
    check("### Failure", &failure);
    check("### Goodbye", &Goodbye { reason: failure, retry_after_ms: None, go_to: vec![uri()] });
}

#[test]
fn the_edges_fields() {
    let attach = Attach {
        name: String::new(),
        boot: RequestId::from_u128(1),
        labels: Labels::default(),
        release: String::new(),
        runtimes: Vec::new(),
        epoch: Epoch(0),
        published: Vec::new(),
        report: report(),
    };
    check("### Attach", &attach);
    let accepted = Accepted {
        epoch: Epoch(1),
        partition: Partition(1),
        short_id: ShortId(1),
        generation: Generation(1),
        owner: id::<NodeId>(),
        owner_name: String::new(),
    };
    check("### Accepted", &accepted);
    check("### Report", &report());
    let status = TaskStatus {
        task: TaskId(String::new()),
        revision: 1,
        state: TaskState::Running,
        restarts: 0,
        exit_code: None,
        since_ms: 0,
        message: None,
    };
    check("### TaskStatus", &status);
    let request = KvRequest::Delete { key: String::new() };
    let kv = TaskKv { task: TaskId(String::new()), request_id: RequestId::from_u128(1), request };
    check("### KV", &kv);
    let spec = TaskSpec {
        task: TaskId(String::new()),
        revision: 1,
        instance: String::new(),
        app: String::new(),
        version: 1,
        digest: Digest([0; 32]),
        flow: String::new(),
        runtime: String::new(),
        entry: Vec::new(),
        args: Default::default(),
        restart: Default::default(),
        limits: Default::default(),
    };
    check("### TaskSpec", &spec);
    let replies = [
        AttachReply::Accepted(accepted),
        AttachReply::Elsewhere { owner: id(), name: String::new(), addresses: Vec::new() },
        AttachReply::Wait { retry_after_ms: 1, reason: String::new() },
    ];
    assert_eq!(names("### Attach", "variant"), replies.iter().map(|reply| content(reply).0).collect());
}

/// What stands in the document as `{"…": …}` in the table of edge messages.
#[test]
fn every_edge_message_is_named() {
    let named: BTreeSet<String> = rows("## Edge messages")
        .iter()
        .filter_map(|row| row.get(2)?.strip_prefix("{\"")?.split_once('"').map(|(name, _)| name.to_owned()))
        .collect();
    // The compiler says here when a message is added.
    let to_control = |message: &ToControl| match message {
        ToControl::Attach(_) => "attach",
        ToControl::Report(_) => "report",
        ToControl::Kv(_) => "kv",
    };
    let to_worker = |message: &ToWorker| match message {
        ToWorker::Order { .. } => "order",
        ToWorker::Request(_) => "request",
        ToWorker::Relay { .. } => "relay",
        ToWorker::Outcome(_) => "outcome",
    };
    assert_eq!(to_control(&ToControl::Report(report())), "report");
    let order = longshore_wire::edge::Order::DropArchives { digests: Vec::new() };
    assert_eq!(to_worker(&ToWorker::Order { epoch: Epoch(1), order }), "order");
    for name in ["attach", "report", "kv", "order", "request", "relay", "outcome", "moved", "tunnel", "archive", "logs"]
    {
        assert!(named.contains(name), "{name}");
    }
}

/// The messages of the table below a heading: what kind, and as which field names the document writes each.
fn messages(heading: &str, column: usize) -> BTreeSet<(String, BTreeSet<String>)> {
    let table = tables(heading).into_iter().next().unwrap();
    let message = |row: &Vec<String>| {
        let names = row[column].split('"').skip(1).step_by(2).map(str::to_owned);
        let values = ["append", "vote", "pre_vote", "succeed"];
        let mut names = names.filter(|name| !values.contains(&name.as_str()));
        (names.next().unwrap(), names.collect())
    };
    table[1..].iter().map(message).collect()
}

/// The same of a message: its name, and all field names inside, but of what has a table of its own.
fn shape(message: &impl Serialize) -> (String, BTreeSet<String>) {
    fn collect(value: &serde_json::Value, found: &mut BTreeSet<String>) {
        for (name, inner) in value.as_object().into_iter().flatten() {
            found.insert(name.clone());
            collect(inner, found);
        }
    }
    let value = serde_json::to_value(message).unwrap();
    let Some(map) = value.as_object() else { return (value.as_str().unwrap().to_owned(), BTreeSet::new()) };
    let (name, content) = map.iter().next().unwrap();
    let mut found = BTreeSet::new();
    if !["relay", "outcome", "kv"].contains(&name.as_str()) {
        collect(content, &mut found);
    }
    (name.clone(), found)
}

fn relay() -> Relay {
    Relay { id: RequestId::from_u128(1), node: id(), class: String::new(), body: Vec::new() }
}

fn outcome() -> OutcomeOf {
    OutcomeOf { node: id(), ask: OutcomeAsk { id: RequestId::from_u128(1), boot: None } }
}

fn client_kv() -> ClientKv {
    let request = KvRequest::Delete { key: String::new() };
    ClientKv { id: Some(RequestId::from_u128(1)), repeat: true, request }
}

fn class_request() -> ClassRequest {
    ClassRequest { class: String::new(), body: serde_json::Value::Null }
}

#[test]
fn every_message_of_a_client_is_written() {
    check("### Relay", &relay());
    check("### OutcomeOf", &outcome());
    check("### Operation", &client_kv());
    // The compiler says here when a message is added: each is followed by the next.
    let next = |message: &FromClient| match message {
        FromClient::Request { .. } => Some(FromClient::Relay(relay())),
        FromClient::Relay(_) => Some(FromClient::Outcome(outcome())),
        FromClient::Outcome(_) => Some(FromClient::Kv(client_kv())),
        FromClient::Kv(_) => None,
    };
    let first = FromClient::Request { node: id(), request: class_request() };
    let known = std::iter::successors(Some(first), next).map(|message| shape(&message));
    assert_eq!(messages("## Client messages", 2), known.collect());
}

#[test]
fn every_message_among_control_nodes_is_written() {
    let join = || Join {
        node: id(),
        name: String::new(),
        boot: RequestId::from_u128(1),
        addresses: Vec::new(),
        release: String::new(),
    };
    let requests = |message: &PeerRequest| match message {
        PeerRequest::Raft { .. } => Some(PeerRequest::Propose { body: Vec::new() }),
        PeerRequest::Propose { .. } => Some(PeerRequest::ReadIndex),
        PeerRequest::ReadIndex => Some(PeerRequest::Join(join())),
        PeerRequest::Join(_) => Some(PeerRequest::Worker { node: id(), request: class_request() }),
        PeerRequest::Worker { .. } => Some(PeerRequest::Relay(relay())),
        PeerRequest::Relay(_) => Some(PeerRequest::Outcome(outcome())),
        PeerRequest::Outcome(_) => Some(PeerRequest::CredentialUse { nodes_of: None }),
        PeerRequest::CredentialUse { .. } => Some(PeerRequest::Leaving),
        PeerRequest::Leaving => Some(PeerRequest::Vitals),
        PeerRequest::Vitals => Some(PeerRequest::Confirm(Confirm { leader: id(), term: 1 })),
        PeerRequest::Confirm(_) => Some(PeerRequest::Superseded),
        PeerRequest::Superseded => None,
    };
    let (digest, request) = (Digest([0; 32]), || LogRequest { task: TaskId(String::new()), tail: None, follow: false });
    let opens = |message: &OpenPeer| match message {
        OpenPeer::Snapshot { .. } => Some(OpenPeer::SnapshotChunks { head: Vec::new(), size: 1, stamp: 1 }),
        OpenPeer::SnapshotChunks { .. } => Some(OpenPeer::PutBlob { digest, size: 1 }),
        OpenPeer::PutBlob { .. } => Some(OpenPeer::GetBlob { digest }),
        OpenPeer::GetBlob { .. } => Some(OpenPeer::Tunnel { worker: id() }),
        OpenPeer::Tunnel { .. } => Some(OpenPeer::Logs { node: id(), request: request() }),
        OpenPeer::Logs { .. } => None,
    };
    let raft = PeerRequest::Raft { rpc: RaftRpc::Append, body: Vec::new() };
    let snapshot = OpenPeer::Snapshot { head: Vec::new(), size: 1 };
    let requests = std::iter::successors(Some(raft), requests).map(|message| shape(&message));
    let opens = std::iter::successors(Some(snapshot), opens).map(|message| shape(&message));
    assert_eq!(messages("## Messages among control nodes", 1), requests.chain(opens).collect());
    let used = CredentialUse { credential: String::new(), secret: 1, sessions: 0, last_used_ms: 0, nodes: Vec::new() };
    let report = CredentialReport { own: String::new(), own_secret: 0, uses: Vec::new() };
    let section = DOCUMENT.split("\n## Messages among control nodes\n").nth(1).unwrap();
    for field in [fields(&used), fields(&report), fields(&Vitals::default()), fields(&ReadIndex { index: None })]
        .into_iter()
        .flatten()
    {
        assert!(section.contains(&format!("`{field}`")) || section.contains(&format!("\"{field}\"")), "{field}");
    }
}

#[test]
fn reject_codes() {
    let written = rows("### reject").into_iter().filter_map(|row| Some((row[0].parse().ok()?, row[1].clone())));
    let written: Vec<(u16, String)> = written.collect();
    let known = (0..=1000_u16).map(|number| (number, RejectCode::from(number)));
    let known = known.filter(|(_, code)| !matches!(code, RejectCode::Other(_)));
    assert_eq!(written, known.map(|(number, code)| (number, format!("{code:?}"))).collect::<Vec<_>>());
}

#[test]
fn frame_kinds() {
    let written: Vec<(String, String, String)> = rows("## Session")
        .into_iter()
        .filter(|row| row[0].parse::<u8>().is_ok())
        .map(|row| (row[0].clone(), row[1].clone(), row[3].clone()))
        .collect();
    let known = (0..=u8::MAX).filter_map(|number| Kind::try_from(number).ok());
    let known = known.map(|kind| ((kind as u8).to_string(), format!("{kind:?}"), kind.max_payload().to_string()));
    assert_eq!(written, known.collect::<Vec<_>>());
}

#[test]
fn failure_codes() {
    let every = |code: Code| match code {
        Code::Invalid => Code::NotFound,
        Code::NotFound => Code::Conflict,
        Code::Conflict => Code::TooLarge,
        Code::TooLarge => Code::Unsupported,
        Code::Unsupported => Code::NotReady,
        Code::NotReady => Code::NotConnected,
        Code::NotConnected => Code::StaleEpoch,
        Code::StaleEpoch => Code::NotOwner,
        Code::NotOwner => Code::NoQuorum,
        Code::NoQuorum => Code::Unavailable,
        Code::Unavailable => Code::Busy,
        Code::Busy => Code::Timeout,
        Code::Timeout => Code::Unauthenticated,
        Code::Unauthenticated => Code::Forbidden,
        Code::Forbidden => Code::Corrupt,
        Code::Corrupt => Code::NoSpace,
        Code::NoSpace => Code::Internal,
        Code::Internal | Code::Other => Code::Other,
    };
    let known = std::iter::successors(Some(Code::Invalid), |code| Some(every(*code)));
    let known = known.take_while(|code| *code != Code::Other).map(|code| code.name().to_owned());
    assert_eq!(names("### Failure", "code"), known.collect());
}

#[test]
fn numbers_and_states() {
    let limits = rows("## Limits and deadlines");
    let number = |what: &str| {
        let row = limits.iter().find(|row| row[0].starts_with(what)).unwrap_or_else(|| panic!("no limit '{what}'"));
        row[1].split(' ').next().unwrap().parse::<usize>().unwrap()
    };
    assert_eq!(number("handshake message"), MAX_MESSAGE);
    assert_eq!(number("body of a request"), MAX_CONTROL);
    assert_eq!(number("data frame"), MAX_DATA);
    assert_eq!(number("head of a stream"), Kind::Open.max_payload());
    assert_eq!(number("credit at the start"), INITIAL_CREDIT as usize);
    assert!(DOCUMENT.contains(&format!("| `nonce` | bytes, {NONCE} |")));
    assert_eq!((MIN_ITERATIONS, MAX_ITERATIONS), (4096, 5_000_000));
    assert!(DOCUMENT.contains("PBKDF2 rounds of the credential, 4,096 to 5,000,000"));
    let versions: Vec<u16> = rows("## Versions").iter().filter_map(|row| row[0].parse().ok()).collect();
    assert!(versions.contains(&MIN_VERSION) && versions.contains(&MAX_VERSION), "{versions:?}");
    let ports = rows("## Byte streams");
    for transport in Transport::ALL {
        let row = ports.iter().find(|row| row[0] == transport.name()).unwrap();
        assert!(row[1].starts_with(&transport.default_port().to_string()), "{row:?}");
    }
    for state in ["ready", "standby", "stopping", "stopped"] {
        assert!(serde_json::from_value::<NodeState>(state.into()).is_ok());
    }
    let states = rows("### TaskStatus").into_iter().find(|row| row[0] == "state").unwrap();
    for state in states[2].split(", ") {
        let state = state.trim_matches('`');
        assert!(serde_json::from_value::<TaskState>(state.into()).is_ok(), "{state}");
    }
}
