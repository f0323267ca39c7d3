//! Workers behind real nginx and HAProxy, with the very configuration that docs/configuration.md shows.

use crate::boxes::{Authority, Middlebox, forgetful, installed, wait_silence_cut};
use crate::cluster::WSS_PORT as WSS;
use crate::process::{Process, wait_for};
use crate::single::{Claim, Single, TCP_PORT};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where TLS ends in the middle. The documents say 443, which not everybody may bind.
const EDGE: u16 = 4443;
/// The balancer, on the control node's subnet.
const BOX: u8 = 10;
/// How long the boxes suffer silence; 60s in the documents.
const SILENCE: &str = "3s";
/// Both sides speak more often than that, and wait long enough for a slow machine.
const TIMERS: &str = "[timers]\nping_every = \"500ms\"\nping_deadline = \"20s\"\nsession_lost_after = \"30s\"\n";

/// A control node with all four transports of TCP.
pub(crate) fn control() -> Single {
    Single::start_with(|_, ip| {
        format!(
            "[[listen]]\nuri = \"longshore://{ip}:8139;transport=tls\"\n[[listen]]\nuri = \"longshore://{ip}:8180;transport=ws\"\n{TIMERS}"
        )
    })
}

/// A worker that dials `uri`, with more lines of configuration.
pub(crate) fn worker(single: &Single, name: &str, uri: &str, extra: &str) -> Process {
    let secret = single.dir.path().join("made/worker.secret");
    let claim = Claim { role: "worker", credential: "worker", secret: &secret, cluster: "test" };
    let process = single.peer(name, claim, uri);
    let file = single.dir.path().join(format!("{name}.toml"));
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{config}{TIMERS}{extra}")).unwrap();
    process
}

/// Waits until a worker is driven, and has it answer a request.
pub(crate) fn works(single: &Single, name: &str) {
    wait_for(&format!("{name} to answer"), || {
        let reply = single.cli().try_json(&["request", name, "echo", r#"{"hello": 1}"#])?;
        if reply["reply"]["hello"] == 1 { Ok(()) } else { Err(reply.to_string()) }
    });
}

/// How often a worker has come to an owner.
pub(crate) fn arrivals(worker: &Process) -> usize {
    worker.log().matches("attached to the owner").count()
}

/// What `doctor` says, and whether a candidate lets the node in.
pub(crate) fn doctor(process: &Process) -> (bool, String) {
    let output = process.command(&["doctor", "-o", "json"]);
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), text)
}

/// The code block of this language in the documents, with the test's addresses and files in the place of the examples.
fn documented(language: &str, single: &Single) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = std::fs::read_to_string(path).unwrap();
    let block = text.split(&format!("```{language}\n")).nth(1).and_then(|rest| rest.split("```").next());
    let mut block = block.expect("the documents show a configuration").to_owned();
    let folder = single.dir.path().display().to_string();
    let (node, edge) = (single.subnet.host(1).to_string(), single.subnet.host(BOX).to_string());
    for (example, ours) in [
        ("192.0.2.10:443", format!("{edge}:{EDGE}")),
        ("192.0.2.10", edge),
        ("10.0.0.1", node),
        ("/etc/longshore", folder),
        ("60s", SILENCE.to_owned()),
    ] {
        assert!(block.contains(example), "{example} stands no more in the documented {language}");
        block = block.replace(example, &ours);
    }
    block
}

/// A cluster behind one box.
struct Between {
    single: Single,
    edge: IpAddr,
}

impl Between {
    fn new() -> Self {
        let single = control();
        let edge = single.subnet.host(BOX);
        let authority = Authority::new();
        authority.write(&single.dir.path().join("ca.pem"));
        authority.issue(&edge.to_string(), &single.dir.path().join("edge"));
        Self { single, edge }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.single.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn start(&self, program: PathBuf, arguments: &[&str]) -> Middlebox {
        let doors = [EDGE, 8139, WSS].map(|port| SocketAddr::new(self.edge, port));
        Middlebox::start(program, arguments, self.single.dir.path().join("box.log"), &doors)
    }

    fn worker(&self, name: &str, port: u16, options: &str) -> Process {
        let uri = format!("longshore://{}:{port};{options}", self.edge);
        let ca = self.single.dir.path().join("ca.pem");
        worker(&self.single, name, &uri, &format!("[tls]\nca_file = \"{}\"\n", ca.display()))
    }

    /// What must hold behind every box.
    fn check(&self, mut middlebox: Middlebox) {
        let single = &self.single;
        let mut workers = vec![
            // TLS ends in the box: its certificate vouches, and plain WebSocket goes on to the control node.
            self.worker("ended", EDGE, "transport=wss;tls_verify=ca"),
            // TLS passes through: the worker is bound to the control node itself.
            self.worker("passed-wss", WSS, "transport=wss"),
            self.worker("passed-tls", 8139, "transport=tls"),
        ];
        for worker in &mut workers {
            worker.start(&[]);
        }
        for worker in &workers {
            works(single, &worker.name);
        }

        let (let_in, text) = doctor(&self.worker("unbound", EDGE, "transport=wss;tls_verify=binding"));
        assert!(!let_in && text.contains("balancer"), "without a certificate nothing vouches: {text}");
        let (let_in, text) = doctor(&self.worker("astray", EDGE, "transport=wss;path=/other;tls_verify=ca"));
        assert!(!let_in && text.contains("HTTP 404") && text.contains("path"), "{text}");

        for _ in 0..2 {
            wait_silence_cut(SocketAddr::new(self.edge, 8139));
        }
        for worker in &workers {
            assert_eq!(arrivals(worker), 1, "pings keep the session of {} through silence", worker.name);
        }

        middlebox.restart();
        for worker in &workers {
            wait_for(&format!("{} to come back", worker.name), || {
                if arrivals(worker) > 1 { Ok(()) } else { Err(worker.log()) }
            });
            works(single, &worker.name);
        }
    }
}

/// Without pings a firewall that forgets idle connections cuts the session again and again; with them it stays.
#[test]
fn pings_keep_what_a_forgetful_firewall_cuts() {
    const FORGETS: Duration = Duration::from_secs(2);
    const RARE: &str = "[timers]\nping_every = \"60s\"\nping_deadline = \"60s\"\nsession_lost_after = \"90s\"\n";
    let start = |timers: &'static str| {
        let single = Single::start_with(|_, _| timers.to_owned());
        let firewall = SocketAddr::new(single.subnet.host(BOX), TCP_PORT);
        forgetful(firewall, SocketAddr::new(single.subnet.host(1), TCP_PORT), FORGETS);
        let secret = single.dir.path().join("made/worker.secret");
        let claim = Claim { role: "worker", credential: "worker", secret: &secret, cluster: "test" };
        let mut worker = single.peer("worker-1", claim, &format!("longshore://{firewall};transport=tcp"));
        let file = single.dir.path().join("worker-1.toml");
        let config = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{config}{timers}")).unwrap();
        worker.start(&[]);
        works(&single, "worker-1");
        (worker, single)
    };
    let (silent, _one) = start(RARE);
    let (lively, _other) = start(TIMERS);
    wait_for("the firewall to cut the silent worker twice", || {
        if arrivals(&silent) > 2 { Ok(()) } else { Err(silent.log()) }
    });
    assert_eq!(arrivals(&lively), 1, "{}", lively.log());
}

#[test]
fn nginx_stands_between() {
    let Some(program) = installed("nginx", "the test behind nginx") else { return };
    let between = Between::new();
    let folder = between.single.dir.path();
    let shown = documented("nginx", &between.single);
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/nginx-{kind};\n", folder.display()))
        .concat();
    let shown = shown.replace("http {", &format!("http {{\naccess_log off;\n{temporary}"));
    let own = format!("daemon off;\nmaster_process off;\npid {}/nginx.pid;\n", folder.display());
    let file = between.file("nginx.conf", &format!("{own}{shown}"));
    let errors = folder.join("nginx.err");
    let arguments = ["-e", errors.to_str().unwrap(), "-c", file.to_str().unwrap()];
    between.check(between.start(program, &arguments));
}

#[test]
fn haproxy_stands_between() {
    let Some(program) = installed("haproxy", "the test behind HAProxy") else { return };
    let between = Between::new();
    let file = between.file("haproxy.cfg", &documented("haproxy", &between.single));
    between.check(between.start(program, &["-db", "-f", file.to_str().unwrap()]));
}

#[test]
fn a_box_that_opens_tls_is_noticed_and_works_where_it_is_trusted() {
    let Some(program) = installed("haproxy", "the test with a box that opens TLS") else { return };
    let between = Between::new();
    let (edge, node) = (between.edge, between.single.subnet.host(1));
    let both = between.single.dir.path().join("edge.both.pem");
    // It shows a certificate of its own CA, and opens TLS to the control node anew.
    let config = format!(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\nlisten tls\n  bind {edge}:{EDGE} ssl crt {both}\n  server s {node}:8139 ssl verify none\n",
        both = both.display()
    );
    let file = between.file("haproxy.cfg", &config);
    let doors = [SocketAddr::new(edge, EDGE)];
    let log = between.single.dir.path().join("box.log");
    let _box = Middlebox::start(program, &["-db", "-f", file.to_str().unwrap()], log, &doors);
    let (let_in, text) = doctor(&between.worker("bound", EDGE, "transport=tls"));
    assert!(!let_in && text.contains("opens their TLS"), "{text}");
    let mut trusting = between.worker("trusting", EDGE, "transport=tls;tls_verify=ca");
    trusting.start(&[]);
    works(&between.single, "trusting");
}
