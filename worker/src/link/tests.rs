//! A whole worker against fake control nodes over TCP.

mod fake;

use crate::Worker;
use crate::socket::Place;
use crate::testing::{eventually, pack_script, spec};
use fake::{Fake, OnKv, driven, options};
use longshore_transport::{Carrier, Secret};
use longshore_wire::edge::{AttachReply, ClassRequest, LogRequest, OpenWorker, Order, StreamResult, ToWorker};
use longshore_wire::kv::KvReply;
use longshore_wire::relay::{OutcomeAsk, OutcomeReply, RelayResult};
use longshore_wire::task::{NodeState, TaskSpec, TaskState};
use longshore_wire::{Code, Digest, Epoch, Failure, Outcome, RequestId, TaskId, decode, encode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const SECONDS: Duration = Duration::from_secs(10);
/// Nobody listens there.
const DEAD: &str = "longshore://127.0.0.1:1;transport=tcp";

/// Pushes an archive as the owner.
async fn push(control: &Fake, epoch: u64, digest: Digest, bytes: &[u8]) -> StreamResult {
    let head = OpenWorker::Archive { epoch: Epoch(epoch), digest, size: bytes.len() as u64, blake3: None };
    let mut stream = control.session().open(encode(&head)).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    decode(&answer).unwrap()
}

/// Brings a worker, driven with epoch 1, to run a script as `t-1`.
async fn run_script(control: &Fake, script: &str) -> TaskSpec {
    let (digest, bytes) = pack_script(script);
    assert_eq!(push(control, 1, digest, &bytes).await, StreamResult::Ok);
    let spec = TaskSpec { digest, ..spec("t-1", &["./run.sh"]) };
    control.order(1, Order::Start(Box::new(spec.clone()))).await.unwrap();
    spec
}

async fn reported(control: &Fake, state: TaskState) {
    eventually(&format!("a report of {state}"), || {
        let reports = control.reports.lock().unwrap();
        reports.last()?.tasks.iter().any(|task| task.state == state).then_some(())
    })
    .await;
}

async fn stop(worker: &Worker) {
    tokio::time::timeout(SECONDS * 2, worker.stop(SECONDS)).await.expect("a stop keeps its deadline");
    assert_eq!(worker.status().borrow().state, NodeState::Stopped);
    worker.stopped().await;
}

#[tokio::test]
async fn a_life_archive_task_logs_requests_stop() {
    let (dir, control) = (tempfile::tempdir().unwrap(), Fake::start(1, 1).await);
    let worker = Worker::start(options(dir.path(), &[&control])).await.unwrap();
    let status = driven(&worker, &control, 1).await;
    assert_eq!(status.carrier, Carrier::Tcp);
    assert_eq!(worker.status().borrow().state, NodeState::Ready);

    let (absent, _) = pack_script("false");
    let order = Order::Start(Box::new(TaskSpec { digest: absent, ..spec("t-9", &["./run.sh"]) }));
    assert_eq!(control.order(1, order).await.unwrap_err().code, Code::NotFound);
    let spec = run_script(&control, "for n in 1 2 3; do echo line $n; done; exec sleep 100").await;
    reported(&control, TaskState::Running).await;
    assert_eq!(control.reports.lock().unwrap().last().unwrap().archives, [spec.digest]);
    let StreamResult::Failed(failure) = push(&control, 1, Digest([9; 32]), b"no tar").await else { panic!("taken") };
    assert_eq!(failure.code, Code::Corrupt);

    let logs = LogRequest { task: spec.task.clone(), tail: Some(2), follow: true };
    let mut stream = control.session().open(encode(&OpenWorker::Logs(logs))).await.unwrap();
    let mut seen = [0; 14];
    stream.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"line 2\nline 3\n");

    let session = control.session();
    let ask = async |class: &str, body: Value| {
        let request = ToWorker::Request(ClassRequest { class: class.into(), body });
        session.request(encode(&request), SECONDS).await
    };
    let reply = ask("echo", json!({"a": [1, null]})).await.unwrap();
    assert_eq!(decode::<Value>(&reply).unwrap(), json!({"a": [1, null]}));
    assert_eq!(ask("nothing", Value::Null).await.unwrap_err().code, Code::NotFound);

    stop(&worker).await;
    let last = control.reports.lock().unwrap().last().unwrap().clone();
    assert_eq!(last.state, NodeState::Stopped);
    assert!(last.tasks.iter().all(|task| task.state == TaskState::Pending && task.exit_code == Some(143)));
}

#[tokio::test]
async fn an_order_to_stop_ends_a_followed_output() {
    let (dir, control) = (tempfile::tempdir().unwrap(), Fake::start(1, 1).await);
    let worker = Worker::start(options(dir.path(), &[&control])).await.unwrap();
    driven(&worker, &control, 1).await;
    let spec = run_script(&control, "trap 'echo bye; exit 0' TERM; echo hi; while :; do sleep 0.02; done").await;
    let logs = LogRequest { task: spec.task.clone(), tail: None, follow: true };
    let mut stream = control.session().open(encode(&OpenWorker::Logs(logs))).await.unwrap();
    let mut seen = [0; 3];
    stream.read_exact(&mut seen).await.unwrap();
    control.order(1, Order::Stop { task: spec.task.clone() }).await.unwrap();
    control.order(1, Order::Stop { task: spec.task.clone() }).await.unwrap();
    let mut rest = String::new();
    tokio::time::timeout(SECONDS, stream.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert!(rest.ends_with("bye\n"), "{rest}");
    let gone = || control.reports.lock().unwrap().last()?.tasks.is_empty().then_some(());
    eventually("a report without the task", gone).await;
    stop(&worker).await;
}

#[tokio::test]
async fn redirected_to_the_owner() {
    let dir = tempfile::tempdir().unwrap();
    let (first, owner) = (Fake::start(1, 1).await, Fake::start(2, 5).await);
    first.sends_to(&owner, &[DEAD.parse().unwrap(), owner.uri()]);
    let worker = Worker::start(options(dir.path(), &[&first])).await.unwrap();
    assert_eq!(driven(&worker, &owner, 5).await.carrier, Carrier::Tcp);
    tokio::time::timeout(SECONDS, first.session().closed()).await.expect("the first session is given up");
    stop(&worker).await;
}

#[tokio::test]
async fn a_steered_worker_goes_where_it_is_sent_and_not_before_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let (first, other) = (Fake::start(1, 1).await, Fake::start(2, 5).await);
    let worker = Worker::start(options(dir.path(), &[&first])).await.unwrap();
    driven(&worker, &first, 1).await;
    let (wait, steered) = (Duration::from_millis(600), std::time::Instant::now());
    let reason = || Failure::new(Code::Unavailable, "this control node is stopping");
    first.session().steer(reason(), Some(wait), vec![DEAD.parse().unwrap(), other.uri()]);
    driven(&worker, &other, 5).await;
    assert!(steered.elapsed() >= wait, "{:?}", steered.elapsed());
    assert_eq!(first.attached.lock().unwrap().len(), 1);
    assert_eq!(other.attached.lock().unwrap().len(), 1);

    // A direction that leads nowhere is given up for what is configured.
    *first.attach.lock().unwrap() = [first.accepts(6)].into();
    other.session().steer(reason(), None, vec![DEAD.parse().unwrap()]);
    driven(&worker, &first, 6).await;
    stop(&worker).await;
}

#[tokio::test]
async fn relays_are_answered_once_and_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let control = Fake::start(1, 1).await;
    let worker = Worker::start(options(dir.path(), &[&control])).await.unwrap();
    driven(&worker, &control, 1).await;
    let boot = control.attached.lock().unwrap()[0].boot;
    let ask = async |message: ToWorker| control.session().request(encode(&message), SECONDS).await;
    let relay = |id, class: &str, body: &[u8]| {
        let (id, class, body) = (RequestId::from_u128(id), class.to_owned(), body.to_vec());
        ToWorker::Relay { id, class, body }
    };
    assert_eq!(ask(relay(1, "echo", b"\x00\xff")).await.unwrap(), &b"\x00\xff"[..]);
    assert_eq!(ask(relay(1, "echo", b"a repeat")).await.unwrap(), &b"\x00\xff"[..]);
    assert_eq!(ask(relay(2, "nothing", b"")).await.unwrap_err().code, Code::NotFound);
    let outcome = async |id, boot| {
        let reply = ask(ToWorker::Outcome(OutcomeAsk { id: RequestId::from_u128(id), boot })).await;
        decode::<OutcomeReply>(&reply.unwrap()).unwrap()
    };
    // What was answered over one session is known over the next one.
    control.session().abort();
    eventually("a second session", || (control.attached.lock().unwrap().len() == 2).then_some(())).await;
    driven(&worker, &control, 1).await;
    assert_eq!(outcome(1, None).await, OutcomeReply::Done { reply: RelayResult::Ok(vec![0, 255]) });
    assert!(matches!(outcome(2, None).await, OutcomeReply::Done { reply: RelayResult::Failed(_) }));
    assert_eq!(outcome(3, None).await, OutcomeReply::Unknown);
    assert_eq!(outcome(3, Some(boot)).await, OutcomeReply::NotDone);
    assert_eq!(ask(relay(3, "echo", b"late")).await.unwrap_err().outcome, Outcome::NotDone);
    stop(&worker).await;
}

#[tokio::test]
async fn tunnelled_to_an_owner_that_cannot_be_dialled_and_moved_back() {
    let dir = tempfile::tempdir().unwrap();
    let (first, owner) = (Fake::start(1, 1).await, Fake::start(2, 5).await);
    first.sends_to(&owner, &[DEAD.parse().unwrap()]);
    first.beyond.set(Arc::clone(&owner)).ok().unwrap();
    let worker = Worker::start(options(dir.path(), &[&first])).await.unwrap();
    assert_eq!(driven(&worker, &owner, 5).await.carrier, Carrier::Tunnel);
    assert!(!first.session().is_closed());
    owner.order(5, Order::DropArchives { digests: Vec::new() }).await.unwrap();

    *first.attach.lock().unwrap() = [first.accepts(6)].into();
    owner.moved(&first, &[first.uri()]).await;
    assert_eq!(driven(&worker, &first, 6).await.carrier, Carrier::Tcp);
    let carrier = first.sessions.lock().unwrap()[0].clone();
    tokio::time::timeout(SECONDS, carrier.closed()).await.expect("the tunnel and its carrier are given up");
    first.order(6, Order::DropArchives { digests: Vec::new() }).await.unwrap();
    stop(&worker).await;
}

#[tokio::test]
async fn a_move_makes_before_it_breaks() {
    let dir = tempfile::tempdir().unwrap();
    let (former, next) = (Fake::start(1, 1).await, Fake::start(2, 2).await);
    former.beyond.set(Arc::clone(&next)).ok().unwrap();
    let worker = Worker::start(options(dir.path(), &[&former])).await.unwrap();
    driven(&worker, &former, 1).await;
    // First the new owner is not ready: the former one goes on.
    *next.attach.lock().unwrap() =
        [AttachReply::Wait { retry_after_ms: 1, reason: "soon".into() }, next.accepts(2)].into();
    former.moved(&next, &[next.uri()]).await;
    driven(&worker, &next, 2).await;
    assert!(next.attached.lock().unwrap().len() >= 2);
    let stale = former.order(1, Order::DropArchives { digests: Vec::new() }).await.unwrap_err();
    assert_eq!(stale.code, Code::StaleEpoch, "the former session still answers, and is refused");
    tokio::time::timeout(SECONDS, former.session().closed()).await.expect("the former session is given up");
    stop(&worker).await;
}

#[tokio::test]
async fn a_replaced_owner_is_never_obeyed_again() {
    let (dir, control) = (tempfile::tempdir().unwrap(), Fake::start(1, 7).await);
    let worker = Worker::start(options(dir.path(), &[&control])).await.unwrap();
    driven(&worker, &control, 7).await;
    let stale = control.order(6, Order::DropArchives { digests: Vec::new() }).await.unwrap_err();
    assert_eq!(stale.code, Code::StaleEpoch);
    let StreamResult::Failed(stale) = push(&control, 6, Digest([9; 32]), b"x").await else { panic!("taken") };
    assert_eq!(stale.code, Code::StaleEpoch);
    drop(worker);

    // Also a worker that starts again remembers.
    *control.attach.lock().unwrap() = [control.accepts(6)].into();
    let worker = eventually_started(dir.path(), &control).await;
    eventually("two refusals", || (control.attached.lock().unwrap().len() >= 3).then_some(())).await;
    assert!(worker.status().borrow().link.is_none());
    assert!(control.attached.lock().unwrap().iter().skip(1).all(|attach| attach.epoch == Epoch(7)));
    *control.attach.lock().unwrap() = [control.accepts(8)].into();
    driven(&worker, &control, 8).await;
    stop(&worker).await;
}

/// Starts a worker in a folder that a dropped one is just letting go of.
async fn eventually_started(dir: &std::path::Path, control: &Fake) -> Worker {
    for _ in 0..200 {
        match Worker::start(options(dir, &[control])).await {
            Ok(worker) => return worker,
            Err(crate::StartError::InUse(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the data folder is never let go of");
}

#[tokio::test]
async fn a_write_outlives_its_session_and_keeps_its_id() {
    let (dir, control) = (tempfile::tempdir().unwrap(), Fake::start(1, 1).await);
    let worker = Worker::start(options(dir.path(), &[&control])).await.unwrap();
    driven(&worker, &control, 1).await;
    run_script(&control, "exec sleep 100").await;
    reported(&control, TaskState::Running).await;
    let written = KvReply::Written { revision: 4, created: true };
    control.on_kv.lock().unwrap().extend([OnKv::Cut, OnKv::Cut, OnKv::Answer(written)]);

    let socket = Place::choose(&dir.path().canonicalize().unwrap()).unwrap().of(&TaskId("t-1".into()));
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let request = "PUT /v1/kv/k HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Length: 1\r\n\r\nv";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(SECONDS, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let asked = control.kv.lock().unwrap().clone();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|kv| kv.request_id == asked[0].request_id && kv.task == TaskId("t-1".into())));
    stop(&worker).await;
}

#[tokio::test]
async fn without_a_session_a_call_ends_in_time() {
    use crate::cluster::Cluster;
    let (sender, session) = tokio::sync::watch::channel(None);
    let uplink = crate::uplink::Uplink::new(session).patience(Duration::from_millis(50), SECONDS);
    let request = longshore_wire::kv::KvRequest::Delete { key: "k".into() };
    let request_id = longshore_wire::RequestId::from_u128(1);
    let ask = longshore_wire::edge::TaskKv { task: TaskId("t-1".into()), request_id, request };
    let failure = tokio::time::timeout(SECONDS, uplink.kv(ask)).await.unwrap().unwrap_err();
    assert_eq!((failure.code, failure.outcome), (Code::NotConnected, Outcome::NotDone));
    drop(sender);
}

#[tokio::test]
async fn a_wrong_secret_is_told() {
    let (dir, control) = (tempfile::tempdir().unwrap(), Fake::start(1, 1).await);
    let mut wrong = options(dir.path(), &[&control]);
    wrong.secret = Secret::from_bytes(b"not the secret at all").unwrap();
    let worker = Worker::start(wrong).await.unwrap();
    let status = worker.status();
    let trouble = eventually("the trouble", || status.borrow().trouble.clone()).await;
    assert!(trouble.contains("credential 'worker'"), "{trouble}");
    assert_eq!(status.borrow().state, NodeState::Connecting);
    stop(&worker).await;
}
