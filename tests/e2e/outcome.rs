//! A session is cut between a request and its reply: what became of the request is learnt over the next one.

use crate::process::{Cli, Process, stderr, wait_for};
use crate::single::{Claim, Single, TCP_PORT};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

/// What the requests carry, so that the gate sees them pass.
const MARK: &[u8] = b"the-mark-of-the-request";
const BODY: &str = r#""the-mark-of-the-request""#;

/// Stands between the worker and the control node, and swallows what it is told to.
#[derive(Clone, Default)]
struct Gate(Arc<Inner>);

#[derive(Default)]
struct Inner {
    swallow_requests: AtomicBool,
    swallow_replies: AtomicBool,
    /// What was swallowed.
    swallowed: Mutex<Vec<u8>>,
    open: Mutex<Vec<TcpStream>>,
}

impl Gate {
    fn between(listen: SocketAddr, control: SocketAddr) -> Self {
        let gate = Self::default();
        let listener = TcpListener::bind(listen).unwrap();
        let accepting = gate.clone();
        thread::spawn(move || {
            for worker in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(control) else { continue };
                let mut open = accepting.0.open.lock().unwrap();
                open.extend([worker.try_clone().unwrap(), upstream.try_clone().unwrap()]);
                drop(open);
                accepting
                    .copy(worker.try_clone().unwrap(), upstream.try_clone().unwrap(), |gate| &gate.swallow_replies);
                accepting.copy(upstream, worker, |gate| &gate.swallow_requests);
            }
        });
        gate
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, swallow: fn(&Inner) -> &AtomicBool) {
        let inner = Arc::clone(&self.0);
        thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                if swallow(&inner).load(SeqCst) {
                    inner.swallowed.lock().unwrap().extend_from_slice(&buffer[..count]);
                } else if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
    }

    fn wait_mark(&self) {
        wait_for("the request at the gate", || {
            let swallowed = self.0.swallowed.lock().unwrap();
            let found = swallowed.windows(MARK.len()).any(|window| window == MARK);
            found.then_some(()).ok_or_else(|| format!("{} bytes swallowed", swallowed.len()))
        });
    }

    /// Cuts all connections; new ones pass.
    fn cut(&self) {
        let open = std::mem::take(&mut *self.0.open.lock().unwrap());
        self.0.swallow_requests.store(false, SeqCst);
        self.0.swallow_replies.store(false, SeqCst);
        open.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }
}

struct Scene {
    single: Single,
    worker: Process,
    gate: Gate,
}

impl Scene {
    fn set() -> Self {
        let single = Single::start();
        let (control, behind): (IpAddr, IpAddr) = (single.subnet.host(1), single.subnet.host(2));
        let gate = Gate::between((behind, TCP_PORT).into(), (control, TCP_PORT).into());
        let secret = single.dir.path().join("made/worker.secret");
        let claim = Claim { role: "worker", credential: "worker", secret: &secret, cluster: "test" };
        let mut worker = single.peer("w1", claim, &format!("longshore://{behind}:{TCP_PORT};transport=tcp"));
        worker.start(&[]);
        let scene = Self { single, worker, gate };
        scene.wait_ready();
        scene
    }

    fn cli(&self) -> Cli {
        self.single.cli()
    }

    fn wait_ready(&self) {
        wait_for("the worker to be driven", || {
            let node = self.cli().try_json(&["node", "show", "w1"])?;
            (node["state"] == "ready").then_some(()).ok_or_else(|| node.to_string())
        });
    }

    fn ask(&self) -> Child {
        self.cli().spawn(&["request", "w1", "echo", BODY, "-o", "json"])
    }
}

fn answer(asking: Child) -> (bool, Value) {
    let output = asking.wait_with_output().unwrap();
    let printed = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    (output.status.success(), printed)
}

#[test]
fn a_lost_reply_is_fetched_over_the_next_session() {
    let scene = Scene::set();
    scene.gate.0.swallow_replies.store(true, SeqCst);
    let asking = scene.ask();
    scene.gate.wait_mark();
    scene.gate.cut();
    let (ok, reply) = answer(asking);
    assert!(ok && reply["outcome"] == "done" && reply["reply"] == "the-mark-of-the-request", "{reply}");
    // And once more by the operator, later.
    let id = reply["id"].as_str().unwrap();
    let later = scene.cli().json(&["outcome", "w1", id]);
    assert!(later["outcome"] == "done" && later["reply"] == "the-mark-of-the-request", "{later}");
}

#[test]
fn a_request_that_never_came_is_not_done() {
    let scene = Scene::set();
    scene.gate.0.swallow_requests.store(true, SeqCst);
    let asking = scene.ask();
    scene.gate.wait_mark();
    scene.gate.cut();
    let (ok, failed) = answer(asking);
    assert!(!ok && failed["outcome"] == "not_done", "{failed}");
}

#[test]
fn a_worker_that_was_started_anew_does_not_know() {
    let mut scene = Scene::set();
    scene.gate.0.swallow_replies.store(true, SeqCst);
    let asking = scene.ask();
    scene.gate.wait_mark();
    scene.worker.kill();
    scene.gate.cut();
    scene.worker.start(&[]);
    let (ok, failed) = answer(asking);
    assert!(!ok && failed["outcome"] == "unknown", "{failed}");
    let id = failed["id"].as_str().unwrap();
    let error = failed["error"].as_str().unwrap();
    let advice = format!("longshore outcome w1 {id} --boot ");
    let boot = error.split(&advice).nth(1).unwrap_or_else(|| panic!("no advice in: {error}"));
    let boot = boot.split('`').next().unwrap();
    scene.wait_ready();
    let later = scene.cli().json(&["outcome", "w1", id, "--boot", boot]);
    assert_eq!(later["outcome"], "unknown", "{later}");
}
