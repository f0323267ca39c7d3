//! The messages of protocol version 1, byte by byte, as the last release before version 2 wrote them. FROZEN: what stands in
//! `version1.txt` is never to be changed as long as version 1 is spoken.
//!
//! A message that is written otherwise, or no longer read, fails here: older peers would not understand it either.
#![allow(clippy::unwrap_used)]

use longshore_wire::client::FromClient;
use longshore_wire::edge::{
    Accepted, Attach, AttachReply, ClassRequest, LogRequest, NotifyWorker, OpenControl, OpenWorker, Order, Report,
    StreamResult, TaskKv, ToControl, ToWorker,
};
use longshore_wire::frame::{Goodbye, RequestHead};
use longshore_wire::handshake::{
    Binding, Challenge, FromAcceptor, FromDialler, Hello, Proof, Reject, RejectCode, Welcome,
};
use longshore_wire::kv::{Consistency, Expect, KvEntry, KvReply, KvRequest};
use longshore_wire::peer::{Join, OpenPeer, PeerRequest, RaftRpc, ReadIndex};
use longshore_wire::task::{Limits, NodeState, RestartPolicy, TaskSpec, TaskState, TaskStatus};
use longshore_wire::{
    ClusterId, ClusterUri, Code, Digest, Epoch, Failure, Generation, NodeId, Outcome, Partition, RequestId, Role,
    ShortId, TaskId, decode, encode,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// Lines of a name and the message's bytes; what is no printable ASCII is written as `\x..`, a backslash as `\\`.
const GOLDEN: &str = include_str!("version1.txt");

const NODE: NodeId = NodeId::from_u128(0x0192_3456_789a_bcde_f012_3456_789a_bcde);
const REQUEST: RequestId = RequestId::from_u128(7);

/// The lines that no message has been compared with yet.
struct Golden(BTreeMap<&'static str, &'static str>);

impl Golden {
    fn read() -> Self {
        let lines = GOLDEN.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(lines.map(|line| line.split_once(" = ").unwrap()).collect())
    }

    fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, name: &str, message: &T) {
        let written = encode(message).escape_ascii().to_string();
        let golden = self.0.remove(name).unwrap_or_else(|| panic!("no line for:\n{name} = {written}"));
        assert_eq!(written, golden, "{name} is written otherwise than in version 1");
        assert_eq!(decode::<T>(&bytes(golden)).unwrap(), *message, "{name} is read otherwise than in version 1");
    }

    fn end(self) {
        assert!(self.0.is_empty(), "no message is compared with {:?}", self.0.keys());
    }
}

/// Undoes [`u8::escape_ascii`].
fn bytes(text: &str) -> Vec<u8> {
    let (mut found, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        (found, rest) = match (first, after) {
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                let byte = u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap();
                (push(found, byte), after)
            }
            (b'\\', [b't', after @ ..]) => (push(found, b'\t'), after),
            (b'\\', [b'r', after @ ..]) => (push(found, b'\r'), after),
            (b'\\', [b'n', after @ ..]) => (push(found, b'\n'), after),
            (b'\\', [literal, after @ ..]) => (push(found, *literal), after),
            (byte, after) => (push(found, *byte), after),
        };
    }
    found
}

fn push(mut bytes: Vec<u8>, byte: u8) -> Vec<u8> {
    bytes.push(byte);
    bytes
}

#[test]
fn escapes_are_undone() {
    let all: Vec<u8> = (0..=u8::MAX).collect();
    assert_eq!(bytes(&all.escape_ascii().to_string()), all);
}

fn uris() -> Vec<ClusterUri> {
    vec!["longshore://c1.example:8143;transport=wss".parse().unwrap(), "longshore://[::1]".parse().unwrap()]
}

fn failure() -> Failure {
    Failure { code: Code::NotOwner, message: "words".into(), outcome: Outcome::NotDone }
}

fn report() -> Report {
    let status = |state, exit_code, message: Option<&str>| TaskStatus {
        task: TaskId("app-4".into()),
        revision: 300,
        state,
        restarts: 2,
        exit_code,
        since_ms: 1_700_000_000_000,
        message: message.map(str::to_owned),
    };
    Report {
        state: NodeState::Ready,
        tasks: vec![status(TaskState::Running, None, None), status(TaskState::Failed, Some(139), Some("why"))],
        archives: vec![Digest([0xab; 32])],
    }
}

#[test]
fn every_message() {
    let mut golden = Golden::read();
    let hello = |cluster_id, binding| {
        FromDialler::Hello(Hello {
            versions: (1, 1),
            node: NODE,
            role: Role::Worker,
            peer_role: Role::Control,
            cluster: "prod".into(),
            cluster_id,
            credential: "worker".into(),
            binding,
            nonce: vec![0x20; 32],
            release: "0.1.0".into(),
        })
    };
    golden.check("hello", &hello(None, Binding::None));
    golden.check("hello.bound", &hello(Some(ClusterId::from_u128(9)), Binding::TlsExporter));
    golden.check(
        "challenge",
        &FromAcceptor::Challenge(Challenge {
            version: 1,
            node: NODE,
            role: Role::Control,
            cluster: "prod".into(),
            cluster_id: Some(ClusterId::from_u128(9)),
            nonce: vec![0x40; 32],
            salt: vec![0x60; 16],
            iterations: 600_000,
            release: "0.1.0".into(),
        }),
    );
    golden.check("proof", &FromDialler::Proof(Proof { proof: vec![0x80; 32] }));
    golden.check("welcome", &FromAcceptor::Welcome(Welcome { proof: vec![0x81; 32] }));
    let reject = |code, retry_after_ms| FromAcceptor::Reject(Reject { code, message: "no".into(), retry_after_ms });
    golden.check("reject", &reject(RejectCode::Credential, None));
    golden.check("reject.later", &reject(RejectCode::Busy, Some(500)));
    sessions(&mut golden);
    workers(&mut golden);
    controls(&mut golden);
    peers(&mut golden);
    golden.end();
}

fn sessions(golden: &mut Golden) {
    golden.check("request_head", &RequestHead { timeout_ms: 70_000 });
    golden.check("failure", &failure());
    golden.check("failure.unknown", &Failure::unknown(Code::Timeout, ""));
    let goodbye = |retry_after_ms, go_to| Goodbye { reason: failure(), retry_after_ms, go_to };
    golden.check("goodbye", &goodbye(None, Vec::new()));
    golden.check("goodbye.steered", &goodbye(Some(1000), uris()));
}

/// What a worker and a client send.
fn workers(golden: &mut Golden) {
    let attach = Attach {
        name: "w1".into(),
        boot: REQUEST,
        labels: "core;site=eu".parse().unwrap(),
        release: "0.1.0".into(),
        runtimes: vec!["exec".into()],
        epoch: Epoch(5),
        published: uris(),
        report: report(),
    };
    golden.check("attach", &ToControl::Attach(attach));
    golden.check("report", &ToControl::Report(report()));
    let (key, value, task) = (|| "a/b".to_owned(), || vec![0, 255], || TaskId("app-4".into()));
    let kv = |request| ToControl::Kv(TaskKv { task: task(), request_id: REQUEST, request });
    golden.check("kv.get", &kv(KvRequest::Get { key: key(), consistency: Consistency::Linearizable }));
    golden.check("kv.put", &kv(KvRequest::Put { key: key(), value: value() }));
    golden.check("kv.delete", &kv(KvRequest::Delete { key: key() }));
    golden.check("kv.cas.absent", &kv(KvRequest::Cas { key: key(), value: value(), expect: Expect::Absent }));
    golden.check("kv.cas", &kv(KvRequest::Cas { key: key(), value: value(), expect: Expect::Revision(9) }));
    let consistency = Consistency::Local;
    golden.check("kv.list", &kv(KvRequest::List { prefix: key(), after: Some(key()), limit: 1000, consistency }));
    golden.check("tunnel", &OpenControl::Tunnel { to: NODE });
    golden.check("stream_result", &StreamResult::Ok);
    golden.check("stream_result.failed", &StreamResult::Failed(failure()));
    let request = ClassRequest { class: "echo".into(), body: json!({"a": [1, -2, 2.5, null, true, "x"]}) };
    golden.check("client.request", &FromClient::Request { node: NODE, request });
}

/// What a control node sends to a worker.
fn controls(golden: &mut Golden) {
    let accepted = Accepted {
        epoch: Epoch(5),
        partition: Partition(1023),
        short_id: ShortId(3),
        generation: Generation(2),
        owner: NODE,
        owner_name: "c1".into(),
    };
    golden.check("accepted", &AttachReply::Accepted(accepted));
    golden.check("elsewhere", &AttachReply::Elsewhere { owner: NODE, name: "c1".into(), addresses: uris() });
    golden.check("wait", &AttachReply::Wait { retry_after_ms: 300, reason: "no leader".into() });
    let spec = |restart, limits| TaskSpec {
        task: TaskId("app-4".into()),
        revision: 300,
        instance: "app".into(),
        app: "app".into(),
        version: 3,
        digest: Digest([0xab; 32]),
        flow: "main".into(),
        runtime: "exec".into(),
        entry: vec!["./run".into(), "-v".into()],
        args: [("n".to_owned(), json!(1)), ("t".to_owned(), json!("x"))].into(),
        restart,
        limits,
    };
    let order = |order| ToWorker::Order { epoch: Epoch(5), order };
    let start = spec(RestartPolicy::OnFailure, Limits::default());
    golden.check("order.start", &order(Order::Start(Box::new(start))));
    let limited = spec(RestartPolicy::Always, Limits { memory: Some(1 << 30) });
    golden.check("order.start.limited", &order(Order::Start(Box::new(limited))));
    golden.check("order.stop", &order(Order::Stop { task: TaskId("app-4".into()) }));
    golden.check("order.drop_archives", &order(Order::DropArchives { digests: vec![Digest([0xab; 32])] }));
    golden.check("request", &ToWorker::Request(ClassRequest { class: "echo".into(), body: json!([1, "x"]) }));
    golden.check("moved", &NotifyWorker::Moved { owner: NODE, name: "c1".into(), addresses: uris() });
    golden.check(
        "archive",
        &OpenWorker::Archive { epoch: Epoch(5), digest: Digest([0xab; 32]), size: 70_000, blake3: None },
    );
    golden.check("logs", &OpenWorker::Logs(LogRequest { task: TaskId("app-4".into()), tail: Some(9), follow: true }));
    let entry = || KvEntry { key: "a/b".into(), value: vec![0, 255], revision: 300, created_revision: 3, lease: None };
    golden.check("kv_reply.entry", &KvReply::Entry(Some(entry())));
    golden.check("kv_reply.no_entry", &KvReply::Entry(None));
    golden.check("kv_reply.written", &KvReply::Written { revision: 300, created: true });
    golden.check("kv_reply.deleted", &KvReply::Deleted { revision: 300, existed: false });
    golden.check("kv_reply.entries", &KvReply::Entries { entries: vec![entry()], more: true });
}

/// What control nodes say to each other.
fn peers(golden: &mut Golden) {
    golden.check("peer.append", &PeerRequest::Raft { rpc: RaftRpc::Append, body: vec![0, 255] });
    golden.check("peer.vote", &PeerRequest::Raft { rpc: RaftRpc::Vote, body: Vec::new() });
    golden.check("peer.propose", &PeerRequest::Propose { body: vec![0, 255] });
    golden.check("peer.read_index", &PeerRequest::ReadIndex);
    golden.check("peer.read_index.reply", &ReadIndex { index: Some(300) });
    golden.check("peer.read_index.none", &ReadIndex { index: None });
    let (name, release, addresses) = ("c2".into(), "0.1.0".into(), uris());
    golden.check("peer.join", &PeerRequest::Join(Join { node: NODE, name, boot: REQUEST, addresses, release }));
    let request = ClassRequest { class: "echo".into(), body: json!(1) };
    golden.check("peer.worker", &PeerRequest::Worker { node: NODE, request });
    golden.check("peer.snapshot", &OpenPeer::Snapshot { head: vec![0, 255], size: 70_000 });
    golden.check("peer.put_blob", &OpenPeer::PutBlob { digest: Digest([0xab; 32]), size: 70_000 });
    golden.check("peer.get_blob", &OpenPeer::GetBlob { digest: Digest([0xab; 32]) });
    golden.check("peer.tunnel", &OpenPeer::Tunnel { worker: NODE });
    let request = LogRequest { task: TaskId("app-4".into()), tail: None, follow: false };
    golden.check("peer.logs", &OpenPeer::Logs { node: NODE, request });
}
