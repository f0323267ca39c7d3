//! Version N-1 is spoken: frozen peers of version 1 with the built program, and the built program with a frozen one.

use crate::cluster::Subnet;
use crate::frozen::client::Client;
use crate::frozen::control::{Control, Peer};
use crate::frozen::handshake::Who;
use crate::frozen::messages::{
    Failure as OldFailure, Goodbye, KvReply, KvRequest, Limits, LogRequest, NotifyWorker, Order, Outcome, Report,
    Restart, StreamResult, TaskSpec, Uri, encode as old,
};
use crate::frozen::worker::{OUTPUT, Worker};
use crate::process::{BINARY, Process, stderr, wait_for};
use crate::single::{Claim, Single, TCP_PORT};
use crate::stranger;
use longshore_transport::{Inbound, Session, SessionOptions};
use longshore_wire::client::FromClient;
use longshore_wire::relay::{OutcomeAsk, OutcomeOf, OutcomeReply, Relay};
use longshore_wire::{Code, Failure, NodeId, RequestId, Role, Transport, encode};
use serde_bytes::ByteBuf;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(crate) const OLD_WORKER: &str = "01J8Y1MPJT00000000000000W1";
const OLD_CLIENT: &str = "01J8Y1MPJT00000000000000C1";
pub(crate) const OLD_CONTROL: &str = "01J8Y1MPJT00000000000000C7";
const NEXT_CONTROL: &str = "01J8Y1MPJT00000000000000C8";
const OLD_SECRET: &str = "a secret of long ago, and long enough";
pub(crate) const BOOT: &str = "01J8Y1MPJT00000000000000B1";
const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn who(single: &Single, node: &str, role: &'static str) -> Who {
    let secret = single.secret(&format!("{role}.secret"));
    Who { node: node.to_owned(), role, credential: role, cluster: "test".to_owned(), secret }
}

pub(crate) fn address(single: &Single) -> SocketAddr {
    (single.subnet.host(1), TCP_PORT).into()
}

fn old_worker(single: &Single) -> Worker {
    let worker = Worker::enter(address(single), &who(single, OLD_WORKER, "worker"), "old-1", BOOT);
    assert_eq!(worker.accepted().owner_name, "control-1");
    wait_ready(single, "old-1");
    worker
}

fn new_worker(single: &Single) -> Process {
    let secret = single.dir.path().join("made/worker.secret");
    let claim = Claim { role: "worker", credential: "worker", secret: &secret, cluster: "test" };
    let mut worker = single.peer("new-1", claim, &single.wss());
    worker.start(&[]);
    wait_ready(single, "new-1");
    worker
}

pub(crate) fn wait_ready(single: &Single, name: &str) {
    wait_for(&format!("{name} to be driven"), || {
        let node = single.cli().try_json(&["node", "show", name])?;
        (node["state"] == "ready").then_some(()).ok_or_else(|| node.to_string())
    });
}

fn node_id(single: &Single, name: &str) -> String {
    single.cli().json(&["node", "show", name])["id"].as_str().unwrap().to_owned()
}

/// A folder with an app whose archive is larger than a stream's first credit.
pub(crate) fn app(dir: &Path) -> PathBuf {
    let folder = dir.join("old-app");
    std::fs::create_dir(&folder).unwrap();
    let toml = "name = \"old-app\"\nruntime = \"exec\"\n[flows.main]\nentry = [\"./run.sh\"]\n";
    std::fs::write(folder.join("app.toml"), toml).unwrap();
    std::fs::write(folder.join("run.sh"), "#!/bin/sh\necho ran\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(folder.join("run.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(folder.join("ballast"), vec![7; 3 * 1024 * 1024]).unwrap();
    folder
}

/// Asks as a client of the present version does.
pub(crate) fn ask_newly(single: &Single, asked: &FromClient) -> Result<Vec<u8>, Failure> {
    stranger::run(async {
        let link = stranger::connect(single, Transport::Tcp).await;
        let proven = stranger::proven(single, link, (Role::Client, "client", "client.secret")).await.unwrap();
        assert_eq!(proven.peer.version, 2);
        let (session, _inbound): (Session, Inbound) = Session::start(proven, SessionOptions::default());
        session.request(encode(asked), TIMEOUT).await.map(|reply| reply.to_vec())
    })
}

pub(crate) fn relay(node: &str, number: u128, class: &str, body: &[u8]) -> FromClient {
    let (id, node) = (RequestId::from_u128(number), node.parse::<NodeId>().unwrap());
    FromClient::Relay(Relay { id, node, class: class.to_owned(), body: body.to_vec() })
}

#[test]
fn a_worker_of_version_1_is_driven() {
    let mut single = Single::start();
    let worker = old_worker(&single);
    let cli = single.cli();
    let node = cli.json(&["node", "show", "old-1"]);
    assert_eq!((&node["version"], &node["transport"]), (&json!("0.1.0"), &json!("tcp")), "{node}");

    cli.text(&["app", "deploy", app(single.dir.path()).to_str().unwrap()]);
    cli.text(&["flow", "start", "old-app", "--name", "old-app"]);
    let task = wait_for("the task to run", || {
        let tasks = cli.try_json(&["task", "list", "--node", "old-1"])?;
        let running = tasks[0]["state"] == "running";
        running.then(|| tasks[0]["task"].as_str().unwrap().to_owned()).ok_or_else(|| tasks.to_string())
    });
    let seen = worker.seen();
    let [(digest, size)] = seen.archives.as_slice() else { panic!("one archive: {seen:?}") };
    assert!(*size > 3 * 1024 * 1024, "more than the first credit: {size}");
    let start = seen.orders.iter().find_map(|(epoch, order)| match order {
        Order::Start(spec) => Some((*epoch, spec.clone())),
        _ => None,
    });
    let (epoch, spec) = start.expect("it was started");
    assert_eq!((epoch, &spec.task, &spec.digest), (worker.accepted().epoch, &task, digest));
    assert_eq!((spec.entry.as_slice(), spec.restart), (&["./run.sh".to_owned()][..], Restart::OnFailure));
    assert_eq!(cli.text(&["task", "logs", &task]).as_bytes(), OUTPUT);

    let put = KvRequest::Put { key: "seen".to_owned(), value: ByteBuf::from(b"by version 1".to_vec()) };
    let written = worker.kv(&task, "01J8Y1MPJT00000000000000K1", put).unwrap();
    assert!(matches!(written, KvReply::Written { created: true, .. }), "{written:?}");
    assert_eq!(cli.text(&["kv", "get", "apps/old-app/seen"]).trim(), "by version 1");
    let get = KvRequest::Get { key: "seen".to_owned(), consistency: "linearizable".to_owned() };
    let read = worker.kv(&task, "01J8Y1MPJT00000000000000K2", get).unwrap();
    assert!(matches!(&read, KvReply::Entry(Some(entry)) if *entry.value == b"by version 1"[..]), "{read:?}");

    cli.text(&["flow", "stop", "old-app"]);
    wait_for("the order to stop", || {
        let orders = worker.seen().orders;
        let stopped =
            orders.iter().any(|(_, order)| matches!(order, Order::Stop { task: stopped } if *stopped == task));
        stopped.then_some(()).ok_or_else(|| format!("{orders:?}"))
    });
    wait_for("pings in both directions", || match worker.session.pings() {
        (2.., 2..) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(single.control.terminate().success());
    wait_for("the goodbye", || worker.seen().goodbye.ok_or_else(|| "none".to_owned()));
    assert_eq!(worker.session.strange(), Vec::<String>::new(), "nothing came that only version 2 knows");
}

#[test]
fn relays_to_a_worker_of_version_1_are_converted() {
    let single = Single::start();
    let worker = old_worker(&single);
    let through_api = single.cli().json(&["request", "old-1", "echo", r#"{"a":[1,2.5,null,"x"]}"#]);
    assert_eq!(through_api["reply"], json!({"a": [1, 2.5, null, "x"]}), "{through_api}");
    let told = || worker.seen().requests.len();
    assert_eq!(told(), 1);

    let reply = ask_newly(&single, &relay(OLD_WORKER, 1, "echo", br#" {"b": -7}"#)).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&reply).unwrap(), json!({"b": -7}));
    let unknown = ask_newly(&single, &relay(OLD_WORKER, 2, "nothing", b"1")).unwrap_err();
    assert_eq!((unknown.code, unknown.outcome), (Code::NotFound, longshore_wire::Outcome::NotDone), "{unknown:?}");
    assert_eq!(told(), 3);
    let opaque = ask_newly(&single, &relay(OLD_WORKER, 3, "echo", b"\x00\xff")).unwrap_err();
    assert_eq!((opaque.code, opaque.outcome), (Code::Unsupported, longshore_wire::Outcome::NotDone), "{opaque:?}");
    assert!(opaque.message.contains("version 1"), "{opaque:?}");
    // It keeps no outcomes, and is not asked for any.
    let ask = OutcomeAsk { id: RequestId::from_u128(1), boot: Some(BOOT.parse().unwrap()) };
    let asked = FromClient::Outcome(OutcomeOf { node: OLD_WORKER.parse().unwrap(), ask });
    let outcome = ask_newly(&single, &asked).unwrap();
    assert_eq!(longshore_wire::decode::<OutcomeReply>(&outcome).unwrap(), OutcomeReply::Unknown);
    assert_eq!((told(), worker.session.strange()), (3, Vec::new()));
}

#[test]
fn a_client_of_version_1_asks_old_and_new_workers() {
    let mut single = Single::start();
    let (worker, _new) = (old_worker(&single), new_worker(&single));
    let client = Client::enter(address(&single), &who(&single, OLD_CLIENT, "client"));
    for node in [OLD_WORKER, &node_id(&single, "new-1")] {
        for body in [json!({"deep": {"list": [true, null, 1e300, u64::MAX, i64::MIN, "ä\n"]}}), json!(null), json!("")]
        {
            assert_eq!(client.ask(node, "echo", body.clone()).unwrap(), body, "{node}");
        }
        let unknown = client.ask(node, "nothing", json!(1)).unwrap_err();
        assert_eq!((unknown.code.as_str(), unknown.outcome), ("not_found", Outcome::NotDone), "{unknown:?}");
    }
    let nobody = client.ask("01J8Y1MPJT00000000000000ZZ", "echo", json!(1)).unwrap_err();
    assert_eq!((nobody.code.as_str(), nobody.outcome), ("not_found", Outcome::NotDone), "{nobody:?}");
    assert!(single.control.terminate().success());
    wait_for("the end of the session", || client.session.is_closed().then_some(()).ok_or_else(|| "open".to_owned()));
    assert_eq!((client.strange(), worker.session.strange()), (Vec::new(), Vec::new()));
}

#[test]
fn a_control_node_of_version_1_asks_for_old_and_new_workers() {
    let mut single = Single::start();
    let (worker, _new) = (old_worker(&single), new_worker(&single));
    let peer = Peer::enter(address(&single), &who(&single, OLD_CONTROL, "control"));
    for node in [OLD_WORKER, &node_id(&single, "new-1")] {
        assert_eq!(peer.ask(node, "echo", json!({"x": [1]})).unwrap(), json!({"x": [1]}), "{node}");
    }
    // A node that stops tells those of version 2 that it leaves; this one would not understand.
    assert!(single.control.terminate().success());
    wait_for("the end of the session", || peer.session.is_closed().then_some(()).ok_or_else(|| "open".to_owned()));
    assert_eq!((peer.strange(), worker.session.strange()), (Vec::new(), Vec::new()));
}

fn old_control(address: SocketAddr, node: &str) -> Control {
    let (node, cluster, secret) = (node.to_owned(), "test".to_owned(), OLD_SECRET.to_owned());
    Control::listen(address, Who { node, role: "control", credential: "worker", cluster, secret })
}

/// A worker of the present version, and a control node of version 1 to which it comes.
struct Scene {
    control: Control,
    worker: Process,
    dir: tempfile::TempDir,
    subnet: Subnet,
}

impl Scene {
    fn set() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("worker.secret"), OLD_SECRET).unwrap();
        let subnet = Subnet::take();
        let address = SocketAddr::new(subnet.host(1), TCP_PORT);
        let control = old_control(address, OLD_CONTROL);
        let config = format!(
            "[node]\nname = \"new-1\"\nroles = [\"worker\"]\ndata_dir = \"{folder}/data\"\n[cluster]\nname = \"test\"\n\
             discovery = [\"longshore://{address};transport=tcp\"]\n[worker]\non_stop = \"stop\"\n\
             [auth]\nsecret_file = \"{folder}/worker.secret\"\n",
            folder = dir.path().display(),
        );
        let file = dir.path().join("new-1.toml");
        std::fs::write(&file, config).unwrap();
        let mut worker = Process::new("new-1", file);
        worker.start(&[]);
        let scene = Self { control, worker, dir, subnet };
        scene.wait_report("a report", |_| true);
        scene
    }

    fn wait_report(&self, what: &str, wanted: impl Fn(&Report) -> bool) {
        wait_for(what, || {
            let heard = self.control.heard();
            let last = heard.reports.last().filter(|report| wanted(report));
            last.map(|_| ()).ok_or_else(|| format!("{heard:?}"))
        });
    }

    fn archive(&self) -> Vec<u8> {
        let file = self.dir.path().join("old-app.tar");
        let packed = Command::new(BINARY).args(["app", "pack"]).arg(app(self.dir.path())).arg("-o").arg(&file).output();
        let packed = packed.unwrap();
        assert!(packed.status.success(), "{}", stderr(&packed));
        std::fs::read(file).unwrap()
    }
}

fn spec(digest: &str) -> TaskSpec {
    TaskSpec {
        task: "old-app-4".to_owned(),
        revision: 11,
        instance: "old-app".to_owned(),
        app: "old-app".to_owned(),
        version: 1,
        digest: digest.to_owned(),
        flow: "main".to_owned(),
        runtime: "exec".to_owned(),
        entry: vec!["./run.sh".to_owned()],
        args: [("n".to_owned(), json!(1))].into(),
        restart: Restart::Never,
        limits: Limits { memory: None },
    }
}

#[test]
fn the_present_worker_is_driven_by_a_control_node_of_version_1() {
    let mut scene = Scene::set();
    let control = &scene.control;
    let heard = control.heard();
    assert_eq!((heard.attached[0].name.as_str(), heard.attached[0].epoch), ("new-1", 0), "{heard:?}");
    assert_eq!(control.ask("echo", json!({"a": [1, null]})).unwrap(), json!({"a": [1, null]}));
    let unknown = control.ask("nothing", json!(1)).unwrap_err();
    assert_eq!((unknown.code.as_str(), unknown.outcome), ("not_found", Outcome::NotDone));

    let (digest, stream) = control.push(&scene.archive());
    let pushed = wait_for("the archive to be taken", || control.pushed(stream));
    assert_eq!(pushed, StreamResult::Ok);
    scene.wait_report("the archive to be reported", |report| report.archives == [digest.clone()]);
    control.order(Order::Start(Box::new(spec(&digest)))).unwrap();
    scene.wait_report("the task to run", |report| {
        report.tasks.iter().any(|task| (task.state.as_str(), task.revision) == ("running", 11))
    });
    let request = LogRequest { task: "old-app-4".to_owned(), tail: None, follow: false };
    wait_for("the task's output", || {
        let stream = control.logs(request.clone());
        let printed = wait_for("an answer", || {
            let heard = control.heard();
            heard.streams.get(&stream).filter(|(_, whole)| *whole).cloned().ok_or_else(|| format!("{:?}", heard.resets))
        });
        (printed.0 == b"ran\n").then_some(()).ok_or_else(|| format!("{printed:?}"))
    });
    control.order(Order::Stop { task: "old-app-4".to_owned() }).unwrap();
    scene.wait_report("the task to be gone", |report| report.tasks.is_empty());
    control.order(Order::DropArchives { digests: vec![digest] }).unwrap();
    scene.wait_report("the archive to be gone", |report| report.archives.is_empty());
    wait_for("pings in both directions", || match control.session().pings() {
        (2.., 2..) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(scene.worker.terminate().success());
    assert_eq!(scene.control.strange(), Vec::<String>::new(), "nothing came that only version 2 knows");
    assert_eq!(scene.control.heard().refused, Vec::<String>::new());
}

#[test]
fn the_present_worker_follows_control_nodes_of_version_1() {
    let scene = Scene::set();
    let address = SocketAddr::new(scene.subnet.host(2), TCP_PORT);
    let next = old_control(address, NEXT_CONTROL);
    let (name, addresses) = ("next".to_owned(), vec![Uri(format!("longshore://{address};transport=tcp"))]);
    let first = scene.control.session();
    first.notify(&old(&NotifyWorker::Moved { owner: NEXT_CONTROL.to_owned(), name, addresses }));
    wait_for("the worker at the next owner", || match next.heard().reports.len() {
        0 => Err(format!("{:?}", next.heard())),
        _ => Ok(()),
    });
    assert_eq!(next.ask("echo", json!(1)).unwrap(), json!(1));
    wait_for("the former session to end", || first.is_closed().then_some(()).ok_or_else(|| "open".to_owned()));
    // An end that says when to come back, and not where.
    let reason = OldFailure::new("unavailable", "this control node is stopping");
    next.session().close(&Goodbye { reason, retry_after_ms: Some(100), go_to: Vec::new() });
    wait_for("the worker to be back", || match scene.control.heard().attached.len() {
        2.. => Ok(()),
        _ => Err(format!("{:?}", scene.control.heard())),
    });
    let both = [scene.control.strange(), next.strange()].concat();
    assert_eq!(both, Vec::<String>::new(), "nothing came that only version 2 knows");
}

/// Workers of version 1 here, and a second control node that takes some of them over.
#[test]
fn workers_of_version_1_are_told_where_to_go() {
    let single = Single::start();
    let (address, mut worker) = (address(&single), who(&single, OLD_WORKER, "worker"));
    let workers: Vec<Worker> = (1..=4)
        .map(|number| {
            worker.node = format!("01J8Y1MPJT00000000000000X{number}");
            let boot = format!("01J8Y1MPJT00000000000000Y{number}");
            Worker::enter(address, &worker, &format!("old-{number}"), &boot)
        })
        .collect();
    let secret = single.dir.path().join("made/control.secret");
    let claim = Claim { role: "control", credential: "control", secret: &secret, cluster: "test" };
    let mut second = single.peer("control-2", claim, &single.wss());
    second.start(&[]);
    let there = format!("longshore://{}:8143;transport=wss", single.subnet.host(9));
    let moved = wait_for("a worker to be told to move", || {
        let told = workers.iter().find(|worker| !worker.seen().notices.is_empty());
        told.ok_or_else(|| "nobody".to_owned())
    });
    let NotifyWorker::Moved { name, addresses, .. } = moved.seen().notices.remove(0);
    assert_eq!((name.as_str(), addresses), ("control-2", vec![Uri(there.clone())]));
    // These do not follow: that is ended, in words that version 1 understands.
    let goodbye = wait_for("the goodbye", || moved.seen().goodbye.ok_or_else(|| "none".to_owned()));
    assert_eq!((goodbye.reason.code.as_str(), goodbye.go_to.first()), ("not_owner", Some(&Uri(there))), "{goodbye:?}");
    let strange: Vec<String> = workers.iter().flat_map(|worker| worker.session.strange()).collect();
    assert_eq!(strange, Vec::<String>::new());
    assert!(workers.iter().any(|worker| !worker.session.is_closed()), "the others are driven on");
}

#[test]
fn a_worker_waits_until_a_full_control_node_has_room() {
    let single = Single::start_with(|_, _| "[limits]\nsessions = 1".to_owned());
    let old = old_worker(&single);
    let secret = single.dir.path().join("made/worker.secret");
    let claim = Claim { role: "worker", credential: "worker", secret: &secret, cluster: "test" };
    let mut worker = single.peer("new-1", claim, &single.wss());
    worker.start(&[]);
    worker.wait_log(&["limits.sessions"]);
    assert!(!single.known("new-1") && !old.session.is_closed());
    let reason = OldFailure::new("unavailable", "this worker stops");
    old.session.close(&Goodbye { reason, retry_after_ms: None, go_to: Vec::new() });
    wait_ready(&single, "new-1");
}
