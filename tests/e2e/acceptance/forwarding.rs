//! Whichever node is asked, and a worker through its proxy, the answer is the same; and there always is one.

use super::fleet::Fleet;
use super::http::{Answer, Connection};
use super::{limit, scaled, seconds};
use crate::process::{Process, wait_for};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// What is asked, one after the other: method, key, body.
const ASKED: [(&str, &str, &str); 10] = [
    ("GET", "same/a", ""),
    ("PUT", "same/a", "one"),
    ("GET", "same/a", ""),
    ("PUT", "same/a", "two"),
    ("PUT", "same/empty", ""),
    ("GET", "same/empty", ""),
    ("DELETE", "same/empty", ""),
    ("DELETE", "same/a", ""),
    ("DELETE", "same/a", ""),
    ("GET", "same/a", ""),
];

/// The same as a task asks it; each answer is a line.
const SCRIPT: &str = r#"#!/bin/sh
ask() { curl -s -m 20 --unix-socket "$LONGSHORE_SOCKET" -X "$1" --data-binary "$3" -w ' %{http_code}\n' "http://app/v1/kv/$2"; }
read_key() { curl -s -m 20 --unix-socket "$LONGSHORE_SOCKET" -w ' %{http_code}\n' "http://app/v1/kv/$1"; }
"#;

/// Status and body; every revision is another one.
fn plain(status: u16, body: &str) -> String {
    let revision = body.split_once("\"revision\":").map(|(_, rest)| rest.split([',', '}']).next().unwrap().to_owned());
    let body = revision.map_or_else(|| body.to_owned(), |revision| body.replace(&revision, "N"));
    format!("{} {status}", body.trim())
}

fn asked(fleet: &Fleet, index: usize) -> Vec<String> {
    let mut api = Connection::open(fleet.api(index)).unwrap();
    let ask = |(method, key, body): &(&str, &str, &str)| {
        let Answer { status, body } = api.call(method, &format!("/v1/kv/{key}"), &[], body.as_bytes()).unwrap();
        plain(status, std::str::from_utf8(&body).unwrap())
    };
    ASKED.iter().map(ask).collect()
}

/// What a task on a worker is answered, out of its output.
fn asked_by_a_task(fleet: &Fleet) -> Vec<String> {
    let app = fleet.dir.path().join("asker");
    std::fs::create_dir(&app).unwrap();
    let lines = ASKED.iter().map(|(method, key, body)| match *method {
        "GET" => format!("read_key {key}\n"),
        _ => format!("ask {method} {key} '{body}'\n"),
    });
    let script = app.join("ask.sh");
    std::fs::write(&script, format!("{SCRIPT}{}", lines.collect::<String>())).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let manifest = "name = \"asker\"\nruntime = \"exec\"\n[flows.main]\nentry = [\"./ask.sh\"]\n";
    std::fs::write(app.join("app.toml"), manifest).unwrap();
    let cli = fleet.cli(0);
    cli.text(&["app", "deploy", app.to_str().unwrap()]);
    cli.text(&["flow", "start", "asker", "--name", "asker"]);
    let task = wait_for("the task", || {
        let tasks = cli.try_json(&["task", "list", "--instance", "asker"])?;
        tasks[0]["task"].as_str().map(str::to_owned).ok_or_else(|| tasks.to_string())
    });
    wait_for("its output", || {
        let output = cli.run(&["task", "logs", &task]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let answers = lines.iter().filter_map(|line| {
            let (body, status) = line.rsplit_once(' ')?;
            Some(plain(status.parse().ok()?, body))
        });
        let answers: Vec<String> = answers.collect();
        if answers.len() == ASKED.len() { Ok(answers) } else { Err(format!("{text} {output:?}")) }
    })
}

fn worker(fleet: &Fleet, folder: &Path) -> Process {
    let config = format!(
        "[node]\nname = \"worker-1\"\nroles = [\"worker\"]\ndata_dir = \"{0}/worker-1\"\n[cluster]\nname = \"test\"\n\
         discovery = [\"longshore://{1}:8140;transport=tcp\"]\n[auth]\nsecret_file = \"{0}/made/worker.secret\"\n",
        folder.display(),
        fleet.subnet.host(1),
    );
    let file = folder.join("worker-1.toml");
    std::fs::write(&file, config).unwrap();
    Process::new("worker-1", file)
}

#[test]
fn a13_every_node_answers_the_same() {
    let mut fleet = Fleet::start(4, "");
    let mut worker = worker(&fleet, fleet.dir.path());
    worker.start(&[]);
    let leader = wait_for("a leader", || fleet.leader(0));
    let role = |role: &str| {
        let members = fleet.members(0).unwrap();
        let fits = |index: &usize| {
            members.iter().any(|member| member["name"] == *fleet.nodes[*index].name && member["role"] == role)
        };
        (0..4).filter(|index| *index != leader).find(fits).unwrap()
    };
    let (voter, learner) = (role("voter"), role("learner"));
    let answers = asked(&fleet, leader);
    println!("{answers:#?}");
    assert_eq!(asked(&fleet, voter), answers, "a voter");
    assert_eq!(asked(&fleet, learner), answers, "a learner");
    assert_eq!(asked_by_a_task(&fleet), answers, "a worker");
    // Absent, empty and an error are three things, and a write says what was there.
    let has = |number: usize, part: &str| assert!(answers[number].contains(part), "{}", answers[number]);
    has(0, "\"not_found\"");
    has(1, "\"created\":true");
    assert_eq!(answers[2], "one 200");
    has(3, "\"created\":false");
    assert_eq!(answers[5], " 200");
    has(6, "\"existed\":true");
    has(8, "\"existed\":false");
    assert_eq!(answers[9], answers[0]);

    for round in 0..scaled(1, 10) {
        fail_over(&mut fleet, round);
    }
}

/// The leader is killed while the others are asked: each answer comes in time, and is a success or asks to try again.
fn fail_over(fleet: &mut Fleet, round: usize) {
    let leader = wait_for("a leader", || (0..4).find_map(|index| fleet.leader(index).ok()).ok_or_else(String::new));
    fleet.nodes[leader].kill();
    let others: Vec<usize> = (0..4).filter(|index| *index != leader).collect();
    let asking = others.iter().flat_map(|index| [(*index, "PUT"), (*index, "GET"), (*index, "DELETE")]);
    let asking: Vec<_> = asking
        .map(|(index, method)| {
            let api = fleet.api(index);
            std::thread::spawn(move || ask_on(api, method, &format!("/v1/kv/failover/{index}/{method}")))
        })
        .collect();
    let (mut answers, mut longest) = (0, Duration::ZERO);
    for asker in asking {
        let (more, slowest) = asker.join().unwrap();
        (answers, longest) = (answers + more, longest.max(slowest));
    }
    println!("failover {}: {answers} answers, the slowest after {:.2} s", round + 1, longest.as_secs_f64());
    assert!(longest <= limit(seconds(10)), "{longest:?}");
    fleet.nodes[leader].start(&[]);
    // The others may not have missed it yet.
    wait_for("the former leader to answer", || fleet.leader(leader));
    fleet.wait_members(4);
}

/// Asks until the node has answered well three times behind a new leader, or once at least ten times.
fn ask_on(api: std::net::SocketAddr, method: &str, path: &str) -> (usize, Duration) {
    let (mut answers, mut well, mut slowest) = (0, 0, Duration::ZERO);
    let begun = Instant::now();
    while well < 20 {
        assert!(begun.elapsed() < limit(seconds(20)), "{method} {path}: {well} of {answers} answers were good");
        let asked = Instant::now();
        let answer = super::http::call(api, method, path, b"value").unwrap();
        slowest = slowest.max(asked.elapsed());
        answers += 1;
        match answer.status {
            // Of a read and a delete, too: the key is not there.
            200 | 201 | 404 => well += 1,
            503 | 504 | 429 => {
                let problem: Value = answer.json().unwrap();
                assert!(problem["outcome"].is_string(), "{problem}");
            }
            _ => panic!("{method} {path}: {answer:?}"),
        }
    }
    (answers, slowest)
}
