//! Packets vanish, connections are forgotten, addresses change, name servers and control nodes go out of reach: sessions
//! notice, and come back. Needs root, iproute2 and nftables.

use crate::netns::Net;
use crate::netns_dns::DnsProcess;
use crate::netns_shore::{Plan, Shore, cut_off};
use crate::process::wait_for;
use std::time::{Duration, Instant};

/// Host of the control node, and of the worker, where there is one of each.
const CONTROL: u8 = 1;
const WORKER: u8 = 2;
/// Three pings of the default timers, and time for a busy machine to look.
const NOTICED_WITHIN: Duration = Duration::from_secs(18);

/// Packets are dropped silently: both ways, and each way alone. Both sides notice within three pings; the worker is back as
/// soon as packets pass again, and its task has never stopped.
fn silence(test: &str, transport: &str) {
    let Some(shore) = Shore::start(test, transport) else { return };
    shore.greet();
    let tasks = shore.tasks(0);
    let (control, worker) = (Net::address(CONTROL), Net::address(WORKER));
    let up = format!("ip saddr {worker} ip daddr {control} drop");
    let down = format!("ip saddr {control} ip daddr {worker} drop");
    for (which, rules) in [("both ways", &format!("{up}\n{down}")), ("up", &up), ("down", &down)] {
        let (sessions, losses) = (shore.sessions(), shore.losses());
        shore.net.rules(rules);
        let cut = Instant::now();
        let (mut control, mut worker) = (None, None);
        wait_for("both sides to notice", || {
            if control.is_none() && shore.in_state(0, "not_connected").is_ok() {
                control = Some(cut.elapsed());
            }
            if worker.is_none() && shore.losses() > losses {
                worker = Some(cut.elapsed());
            }
            control.zip(worker).ok_or_else(|| format!("{control:?} {worker:?}"))
        });
        println!(
            "{transport}, dropped {which}: the control node noticed after {control:?}, the worker after {worker:?}"
        );
        assert!(control.max(worker) < Some(NOTICED_WITHIN), "{transport}, {which}: {control:?}, {worker:?}");
        shore.net.heal();
        shore.wait_sessions(sessions + 1);
        shore.wait_state(0, "ready");
        assert_eq!(shore.tasks(0), tasks, "{transport}, {which}: another task runs");
    }
}

#[test]
fn a_silent_drop_is_noticed_on_tcp() {
    silence("a_silent_drop_is_noticed_on_tcp", "tcp");
}

#[test]
fn a_silent_drop_is_noticed_on_wss() {
    silence("a_silent_drop_is_noticed_on_wss", "wss");
}

#[test]
fn a_silent_drop_is_noticed_on_quic() {
    silence("a_silent_drop_is_noticed_on_quic", "quic");
}

/// A firewall forgets the connection and drops what belongs to it, without a reset; new connections pass.
#[test]
fn a_forgotten_connection_is_replaced() {
    for transport in ["tcp", "wss"] {
        let Some(shore) = Shore::start("a_forgotten_connection_is_replaced", transport) else { return };
        shore.greet();
        let (tasks, port) = (shore.tasks(0), shore.local_port());
        shore.net.rules(&format!("tcp sport {port} drop\ntcp dport {port} drop"));
        let cut = Instant::now();
        shore.wait_sessions(2);
        println!("{transport}, connection forgotten: a new session after {:?}", cut.elapsed());
        shore.wait_state(0, "ready");
        assert_ne!(shore.local_port(), port);
        assert_eq!(shore.tasks(0), tasks, "another task runs");
    }
}

/// The worker's only address is replaced: it is back by itself.
#[test]
fn a_worker_whose_address_changes_is_back() {
    for transport in ["tcp", "wss"] {
        let Some(shore) = Shore::start("a_worker_whose_address_changes_is_back", transport) else { return };
        shore.greet();
        let tasks = shore.tasks(0);
        shore.net.renumber(WORKER, 2, 77);
        let cut = Instant::now();
        shore.wait_sessions(2);
        println!("{transport}, other address: a new session after {:?}", cut.elapsed());
        shore.wait_state(0, "ready");
        assert_eq!(shore.tasks(0), tasks, "another task runs");
    }
}

/// The name server is out of reach when the session breaks: the worker goes where it was sent before.
#[test]
fn the_last_answer_stands_in_for_a_silent_name_server() {
    const DNS: u8 = 3;
    let Some(net) = Net::new("the_last_answer_stands_in_for_a_silent_name_server", 3) else { return };
    let records = format!(
        "_longshore._tcp IN SRV 10 10 8140 control-1.cluster.test.\ncontrol-1 IN A {}\n",
        Net::address(CONTROL)
    );
    let _dns = DnsProcess::start(&net.host(DNS), Net::address(DNS), &records);
    let more = format!("[dns]\nnameservers = [\"{}:5353\"]\ntimeout = \"1s\"\n", Net::address(DNS));
    let plan = Plan { uri: "longshore://cluster.test;transport=tcp", more: &more, ..Plan::pair("tcp") };
    let shore = Shore::start_in(net, plan);
    let port = shore.local_port();
    let silent = cut_off(Net::address(DNS));
    shore.net.rules(&format!("{silent}\ntcp sport {port} drop\ntcp dport {port} drop"));
    shore.wait_sessions(2);
    shore.workers[0].wait_log(&["going on with the last known addresses"]);
}

/// One control node of three is cut off from all others and from the workers: its workers go to the others, and nothing
/// is started twice; afterwards it is one of the group again.
#[test]
fn a_control_node_that_is_cut_off_is_replaced() {
    let Some(net) = Net::new("a_control_node_that_is_cut_off_is_replaced", 4) else { return };
    let shore = Shore::start_in(net, Plan { controls: 3, workers: 3, ..Plan::pair("tcp") });
    shore.greet();
    let tasks = shore.tasks(0);
    // One that drives a worker.
    let owner = wait_for("an owner", || {
        let nodes = shore.nodes(0)?;
        let status = shore.cli(0).try_json(&["cluster", "status"])?;
        let members = status["members"].as_array().ok_or("no members")?;
        let name = |id: &serde_json::Value| members.iter().find(|member| member["id"] == *id)?["name"].as_str();
        let found =
            nodes.iter().find_map(|node| Some((node["owner"].as_str()?.to_owned(), name(&node["owner"])?.to_owned())));
        found.ok_or_else(|| format!("{nodes:?}"))
    });
    let cut = shore.controls.iter().position(|control| control.name == owner.1).unwrap();
    let witness = (cut + 1) % 3;
    shore.net.rules(&cut_off(Net::address(u8::try_from(cut).unwrap() + 1)));
    let start = Instant::now();
    wait_for("the others to drive all workers", || {
        let nodes = shore.nodes(witness)?;
        let driven = nodes.iter().filter(|node| node["state"] == "ready" && node["owner"] != owner.0.as_str()).count();
        if driven == 3 { Ok(()) } else { Err(format!("{nodes:?}")) }
    });
    println!("{} cut off: the others drive all workers after {:?}", owner.1, start.elapsed());
    assert_eq!(shore.tasks(witness), tasks, "another task runs");
    shore.net.heal();
    shore.wait_voters();
    shore.wait_state(cut, "ready");
    assert_eq!(shore.tasks(cut), tasks, "another task runs");
}
