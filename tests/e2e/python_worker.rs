//! The worker in Python, which was written from docs/protocol.md alone, with the real control node.

use crate::boxes::Authority;
use crate::process::{stderr, wait_for};
use crate::single::Single;
use serde_json::{Value, json};
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python-worker")
}

/// A Python that has what requirements.txt names: the system's, or one of the tests' own under target/.
fn python() -> PathBuf {
    let runs = |program: &Path| {
        let mut command = Command::new(program);
        command.arg("-c").arg("import msgpack, websockets.sync.client").stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let mine = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-worker");
    let program = mine.join("bin/python3");
    let made = program.exists() && runs(&program);
    if made {
        return program;
    }
    let system = PathBuf::from("python3");
    if runs(&system) {
        return system;
    }
    let requirements = folder().join("requirements.txt");
    let venv = Command::new("python3").args(["-m", "venv"]).arg(&mine).output();
    let pip = Command::new(&program).args(["-m", "pip", "install", "-q", "-r"]).arg(&requirements).output();
    assert!(
        runs(&program),
        "the worker in Python needs Python 3.11 or newer with the packages of {}: apt-get install python3 python3-venv, and \
         let pip reach its registry, or install both packages for python3. It said: {venv:?} {pip:?}",
        requirements.display()
    );
    program
}

/// The worker in Python; ends when dropped.
struct PythonWorker {
    child: Child,
    log: PathBuf,
}

impl PythonWorker {
    fn start(python: &Path, single: &Single, name: &str, uri: &str, arguments: &[&str]) -> Self {
        let file = |suffix: &str| single.dir.path().join(format!("{name}.{suffix}"));
        let log = File::create(file("log")).unwrap();
        let child = Command::new(python)
            .arg(folder().join("worker.py"))
            .args([uri, "--cluster", "test", "--name", name, "--secret-file"])
            .arg(single.dir.path().join("made/worker.secret"))
            .arg("--state-file")
            .arg(file("state"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("python starts");
        Self { child, log: file("log") }
    }
}

impl Drop for PythonWorker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- {}:\n{}", self.log.display(), std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// Waits until `name` is ready and answers; gives its node id.
fn works(single: &Single, name: &str) -> String {
    wait_for(&format!("{name} to be ready and to answer"), || {
        let nodes = single.cli().try_json(&["node", "list"])?;
        let node = nodes.as_array().and_then(|nodes| nodes.iter().find(|node| node["name"] == name));
        let node = node.filter(|node| node["state"] == "ready").ok_or_else(|| nodes.to_string())?;
        let reply = single.cli().try_json(&["request", name, "echo", r#"{"a":1}"#])?;
        if reply["reply"] != json!({"a": 1}) {
            return Err(reply.to_string());
        }
        node["id"].as_str().map(str::to_owned).ok_or_else(|| node.to_string())
    })
}

/// Its identity stays, and it is back when the control node is.
fn comes_back(single: &mut Single, name: &str) {
    let before = works(single, name);
    single.control.kill();
    single.control.start(&[]);
    assert_eq!(works(single, name), before);
}

#[test]
fn over_tcp_it_is_driven_takes_archives_and_comes_back() {
    let python = python();
    let mut single = Single::start();
    let uri = format!("longshore://{};transport=tcp", single.subnet.host(1));
    let _worker = PythonWorker::start(&python, &single, "python", &uri, &["--runtimes", "exec"]);
    works(&single, "python");
    let unknown = stderr(&single.cli().run(&["request", "python", "nope", "1"]));
    assert!(unknown.contains("no job class nope"), "{unknown}");
    let large = format!("\"{}\"", "x".repeat(100_000));
    assert_eq!(single.cli().text(&["request", "python", "echo", &large]).trim(), large);

    // More than the credit at the start of a stream.
    let app = single.dir.path().join("app");
    std::fs::create_dir(&app).unwrap();
    let flow = "[flows.main]\nentry = [\"./load\"]\n";
    std::fs::write(app.join("app.toml"), format!("name = \"load\"\nruntime = \"exec\"\n{flow}")).unwrap();
    std::fs::write(app.join("load"), vec![b'x'; 2_000_000]).unwrap();
    std::fs::set_permissions(app.join("load"), std::fs::Permissions::from_mode(0o755)).unwrap();
    single.cli().text(&["app", "deploy", app.to_str().unwrap()]);
    single.cli().text(&["flow", "start", "load", "--name", "load"]);
    wait_for("the task to be refused", || {
        let tasks = single.cli().try_json(&["task", "list"])?;
        let refused = |task: &Value| task["state"] == "failed" && task["message"] == "this worker runs no tasks";
        tasks.as_array().is_some_and(|tasks| tasks.iter().any(refused)).then_some(()).ok_or_else(|| tasks.to_string())
    });
    let held = std::fs::read_dir(single.dir.path().join("python.state.archives")).unwrap().flatten();
    let sizes: Vec<u64> = held.map(|entry| entry.metadata().unwrap().len()).collect();
    assert!(sizes.len() == 1 && sizes[0] > 2_000_000, "one archive, whole: {sizes:?}");
    single.cli().text(&["flow", "stop", "load"]);
    comes_back(&mut single, "python");
}

#[test]
fn over_wss_it_checks_the_certificate_and_comes_back() {
    let python = python();
    let authority = Authority::new();
    let mut single = Single::start_with(|folder, ip| {
        authority.issue(&ip.to_string(), &folder.join("node"));
        authority.write(&folder.join("ca.pem"));
        Authority::new().write(&folder.join("other.pem"));
        let (cert, key) = (folder.join("node.pem"), folder.join("node.key"));
        format!("[tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n", cert.display(), key.display())
    });
    let uri = format!("longshore://{};transport=wss", single.subnet.host(1));
    let file = |name: &str| single.dir.path().join(name).display().to_string();
    let (ca, other) = (file("ca.pem"), file("other.pem"));
    let stranger = PythonWorker::start(&python, &single, "stranger", &uri, &["--ca-file", &other]);
    let _worker = PythonWorker::start(&python, &single, "python", &uri, &["--ca-file", &ca]);
    comes_back(&mut single, "python");
    wait_for("the certificate to be refused", || {
        let log = std::fs::read_to_string(&stranger.log).unwrap_or_default();
        if log.contains("CERTIFICATE_VERIFY_FAILED") { Ok(()) } else { Err(log) }
    });
    let nodes = single.cli().json(&["node", "list"]).to_string();
    assert!(!nodes.contains("stranger"), "{nodes}");
}
