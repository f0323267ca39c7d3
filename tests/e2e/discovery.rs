//! Finding the cluster while DNS and the candidates behind it misbehave, and the commands that explain it.

use crate::cluster::{Cluster, Reach, WSS_PORT};
use crate::dns::Dns;
use crate::process::{BINARY, Cli, Process, stderr, wait_for};
use crate::single::Single;
use serde_json::Value;
use std::net::{IpAddr, TcpListener};
use std::process::Command;

/// Host numbers of the single node's subnet.
const DNS_HOST: u8 = 53;
const DEAD_HOST: u8 = 66;

/// A worker that asks the name server `dns` for `longshore://cluster.test`, and waits very long for each candidate.
fn worker(single: &Single, dns: IpAddr, uri: &str) -> Process {
    let config = format!(
        r#"[node]
name = "worker-1"
roles = ["worker"]
data_dir = "{data}"
[cluster]
name = "test"
discovery = ["{uri}"]
[dns]
nameservers = ["{dns}:5353"]
timeout = "1s"
[auth]
secret_file = "{made}/worker.secret"
[timers]
connect_timeout = "60s"
"#,
        data = single.dir.path().join("worker-1").display(),
        made = single.dir.path().join("made").display(),
    );
    let file = single.dir.path().join("worker-1.toml");
    std::fs::write(&file, config).unwrap();
    Process::new("worker-1", file)
}

fn wait_driven(single: &Single) {
    wait_for("the worker to be driven", || {
        let nodes = single.cli().try_json(&["node", "list"])?;
        let ready = nodes
            .as_array()
            .is_some_and(|nodes| nodes.iter().any(|node| node["name"] == "worker-1" && node["state"] == "ready"));
        ready.then_some(()).ok_or_else(|| nodes.to_string())
    });
}

/// Takes connections and never answers: to a dialler of TLS it is as dead as a host behind a firewall that drops.
fn dead(single: &Single) -> TcpListener {
    TcpListener::bind((single.subnet.host(DEAD_HOST), WSS_PORT)).unwrap()
}

#[test]
fn dead_candidates_hold_a_worker_up_for_a_moment_only() {
    let single = Single::start();
    let (live, dead_ip, dns) = (single.subnet.host(1), single.subnet.host(DEAD_HOST), single.subnet.host(DNS_HOST));
    let _dead = dead(&single);
    let mut zone = format!("@ IN NAPTR 1 1 \"s\" \"LSS+D2W\" \"\" _longshore._wss.cluster.test.\nlive IN A {live}\n");
    for number in 0..8 {
        zone +=
            &format!("dead{number} IN A {dead_ip}\n_longshore._wss IN SRV 1 1 {WSS_PORT} dead{number}.cluster.test.\n");
    }
    zone += &format!("_longshore._wss IN SRV 2 1 {WSS_PORT} live.cluster.test.\n");
    let _dns = Dns::serve(dns, &zone);
    let mut worker = worker(&single, dns, "longshore://cluster.test");
    worker.start(&[]);
    // One after the other they would take eight minutes.
    wait_driven(&single);
}

#[test]
fn dns_down_at_the_start_and_changed_on_the_way() {
    let single = Single::start();
    let (live, dns_ip) = (single.subnet.host(1), single.subnet.host(DNS_HOST));
    let mut worker = worker(&single, dns_ip, "longshore://cluster.test;transport=wss");
    worker.start(&[]);
    worker.wait_log(&["not connected to the cluster", "DNS does not answer"]);
    // It comes up, and knows an address where nobody listens.
    let dns = Dns::serve(dns_ip, &format!("@ IN A {}\n", single.subnet.host(77)));
    worker.wait_log(&["not connected to the cluster", "cannot connect to wss://"]);
    drop(dns);
    let _dns = Dns::serve(dns_ip, &format!("@ IN A {live}\n"));
    wait_driven(&single);
}

#[test]
fn a_node_that_meets_itself_says_nothing() {
    let mut cluster = Cluster::prepare(0, Reach::All);
    cluster.start_controls();
    for control in &cluster.controls {
        let log = control.log();
        assert!(!log.contains("this node's own") && !log.contains("handshake refused"), "{log}");
    }
}

#[test]
fn discover_explains_every_record() {
    let single = Single::start();
    let dns_ip = single.subnet.host(DNS_HOST);
    let _dns = Dns::serve(
        dns_ip,
        "@ 60 IN NAPTR 10 10 \"s\" \"LSS+D2W\" \"\" _longshore._wss.cluster.test.
@ 60 IN NAPTR 10 20 \"s\" \"SIP+D2U\" \"\" _sip._udp.cluster.test.
_longshore._wss 30 IN SRV 10 10 8143 a.cluster.test.
_longshore._wss 30 IN SRV 20 0 8143 b.cluster.test.
_longshore._wss 30 IN SRV 30 0 0 .
a 20 IN A 127.0.0.1
a 20 IN AAAA ::1
b 20 IN CNAME c
c 10 IN A 127.0.0.2
",
    );
    let cli = Cli::new("http://127.0.0.1:9");
    let dns = format!("{dns_ip}:5353");
    let arguments = ["discover", "longshore://cluster.test", "--dns", &dns];
    let text = cli.text(&arguments);
    println!("{text}");
    let lines: Vec<&str> = text.lines().collect();
    for (wanted, why) in [
        (&["NAPTR cluster.test", "LSS+D2W", "60 s", "wss, by SRV"][..], "what is used, and for what"),
        (&["SIP+D2U", "skipped: not a service of ours"], "what is not, and why"),
        (
            &["SRV _longshore._wss.cluster.test", "10 10 8143 a.cluster.test", "30 s", "lowest priority first"],
            "the rule",
        ),
        (&["30 0 0 .", "decidedly not there"], "a target that is none"),
        (&["A b.cluster.test", "stands for c.cluster.test"], "aliases"),
        (&["none: no such record", "1 s"], "what is not there, and for how long"),
        (&["1 ", "wss://[::1]:8143/longshore (a.cluster.test)", "NAPTR 10 10 > SRV 10 10 > AAAA"], "the first"),
        (&["3 ", "wss://127.0.0.2:8143/longshore (b.cluster.test)", "SRV 20 0 > A"], "the last"),
        (&["3 endpoints, dialled in this order"], "the advice"),
    ] {
        assert!(lines.iter().any(|line| wanted.iter().all(|part| line.contains(part))), "{why}: {wanted:?}\n{text}");
    }
    assert!(!text.contains("Some(") && !text.contains('{'), "no debug formats: {text}");
    let json = cli.json(&arguments);
    assert_eq!(json["endpoints"].as_array().unwrap().len(), 3);
    assert_eq!(
        (&json["steps"][0]["ttl_s"], &json["ttl_s"]),
        (&Value::from(60), &Value::from(1)),
        "what is absent limits the whole too"
    );
    assert_eq!(json["steps"][0]["records"][1]["skipped"], true);

    let nowhere = cli.run(&["discover", "longshore://nowhere.cluster.test", "--dns", &dns]);
    assert_eq!(nowhere.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&nowhere.stdout).contains("no such name"), "the steps stand there all the same");
    assert!(stderr(&nowhere).contains("no address found"), "{}", stderr(&nowhere));
    let silent = cli.run(&["discover", "longshore://cluster.test", "--dns", "127.0.0.1:9"]);
    assert_eq!(silent.status.code(), Some(6));
}

fn doctor(config: &std::path::Path, more: &[&str]) -> (i32, String) {
    let output = Command::new(BINARY).args(["doctor", "-c"]).arg(config).args(more).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output))
}

#[test]
fn doctor_says_what_each_candidate_answered() {
    let single = Single::start();
    let ip = single.subnet.host(1);
    let secret = single.dir.path().join("made/worker.secret");
    let wrong = single.dir.path().join("wrong.secret");
    std::fs::write(&wrong, "a secret that is not the cluster's").unwrap();
    let config = |name: &str, uris: &[String], secret: &std::path::Path| {
        let file = single.dir.path().join(name);
        let text = format!(
            "[node]\nname = \"w\"\nroles = [\"worker\"]\ndata_dir = \"{}\"\n[cluster]\nname = \"test\"\ndiscovery = {uris:?}\n[auth]\nsecret_file = \"{}\"\n",
            single.dir.path().join("w").display(),
            secret.display()
        );
        std::fs::write(&file, text).unwrap();
        file
    };
    let good = format!("longshore://{ip}:{WSS_PORT};transport=wss");
    let all = config(
        "all.toml",
        &[good.clone(), format!("longshore://{ip}:1;transport=tls"), format!("{good};path=/x")],
        &secret,
    );
    let (code, text) = doctor(&all, &[]);
    println!("{text}");
    assert_eq!(code, 0, "{text}");
    for parts in [
        &["TCP", "ok"][..],
        &["TLS", "ok", "TLS 1.3, certificate", "valid until", "tls_verify=binding"],
        &["WebSocket", "ok", "HTTP 101 at /longshore"],
        &["proof", "ok", "control node", "protocol"],
        &["TCP", "FAILED", "refused"],
        &["WebSocket", "FAILED", "HTTP 404"],
        &["This node gets in (1 of 3 candidates)", ";path="],
    ] {
        assert!(text.lines().any(|line| parts.iter().all(|part| line.contains(part))), "{parts:?}\n{text}");
    }
    let (_, json) = doctor(&all, &["-o", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let stages = json["uris"][0]["candidates"][0]["stages"].as_array().unwrap();
    assert_eq!(
        stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect::<Vec<_>>(),
        ["TCP", "TLS", "WebSocket", "proof"]
    );
    assert!(stages.iter().all(|stage| stage["ok"] == true && stage["ms"].as_f64().unwrap() > 0.0), "{stages:?}");
    assert_eq!(json["uris"][1]["candidates"][0]["lets_in"], false);

    let (code, text) = doctor(&config("wrong.toml", &[good], &wrong), &[]);
    println!("{text}");
    assert_eq!(code, 6);
    assert!(
        text.contains(
            "The only candidate does not let this node in. The secret is not the cluster's: compare auth.secret_file"
        ),
        "{text}"
    );
    assert!(!text.contains("a secret that is not"), "the secret itself is told to nobody: {text}");
    // The node was not registered by all that.
    assert!(!single.known("w"));
}
