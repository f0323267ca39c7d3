//! Peers of version 1 where the line is not plain TCP, and where one of them drives workers.

use crate::cluster::WSS_PORT;
use crate::frozen::carrier::Carrier;
use crate::frozen::member::Member;
use crate::frozen::messages::{NotifyWorker, Order, Uri};
use crate::frozen::worker::Worker;
use crate::older::{BOOT, OLD_CONTROL, OLD_WORKER, address, app, ask_newly, relay, wait_ready, who};
use crate::process::wait_for;
use crate::single::{Claim, Single};
use longshore_wire::{Code, Outcome};
use serde_json::{Value, json};
use std::net::SocketAddr;

const SECOND_WORKER: &str = "01J8Y1MPJT00000000000000W2";
const TLS_PORT: u16 = 8141;

/// Comes over this carrier, is driven, answers, and goes where the cluster sends it.
fn comes_over(carrier: Carrier) {
    let single = Single::start_with(|_, ip| format!("[[listen]]\nuri = \"longshore://{ip}:{TLS_PORT};transport=tls\""));
    let port = if carrier == Carrier::Tls { TLS_PORT } else { WSS_PORT };
    let at = SocketAddr::new(single.subnet.host(1), port);
    let claims = [OLD_WORKER, SECOND_WORKER].map(|node| {
        let mut claim = who(&single, OLD_WORKER, "worker");
        claim.node = node.to_owned();
        claim
    });
    let workers = [(0, "old-1"), (1, "old-2")].map(|(index, name)| {
        let worker = Worker::enter_over(carrier, at, &claims[index], name, BOOT);
        assert_eq!(worker.accepted().owner_name, "control-1");
        wait_ready(&single, name);
        worker
    });
    let cli = single.cli();
    let carried = format!("{carrier:?}").to_lowercase();
    assert_eq!(cli.json(&["node", "show", "old-1"])["transport"], json!(carried));

    cli.text(&["app", "deploy", app(single.dir.path()).to_str().unwrap()]);
    cli.text(&["flow", "start", "old-app", "--name", "old-app"]);
    for worker in &workers {
        wait_for("the archive and the order to start", || {
            let seen = worker.seen();
            let started = seen.orders.iter().any(|(_, order)| matches!(order, Order::Start(_)));
            (started && seen.archives.len() == 1).then_some(()).ok_or_else(|| format!("{seen:?}"))
        });
    }
    let reply = cli.json(&["request", "old-2", "echo", r#"{"a":[1,null]}"#]);
    assert_eq!(reply["reply"], json!({"a": [1, null]}), "{reply}");

    let secret = single.dir.path().join("made/control.secret");
    let claim = Claim { role: "control", credential: "control", secret: &secret, cluster: "test" };
    let mut second = single.peer("control-2", claim, &single.wss());
    second.start(&[]);
    let (index, notice) = wait_for("a worker to be told to move", || {
        let told = workers.iter().enumerate().find_map(|(index, worker)| Some((index, worker.seen().notices.pop()?)));
        told.ok_or_else(|| "nobody".to_owned())
    });
    let NotifyWorker::Moved { name, addresses, .. } = notice;
    let there = SocketAddr::new(single.subnet.host(9), WSS_PORT);
    let expected = vec![Uri(format!("longshore://{there};transport=wss"))];
    assert_eq!((name.as_str(), addresses), ("control-2", expected));
    let moved = format!("old-{}", index + 1);
    let next = Worker::enter_over(Carrier::Wss, there, &claims[index], &moved, BOOT);
    assert_eq!(next.accepted().owner_name, "control-2");
    wait_for("a request to come to it there", || {
        let reply = cli.try_json(&["request", &moved, "echo", "[7]"])?;
        let came = reply["reply"] == json!([7]) && !next.seen().requests.is_empty();
        came.then_some(()).ok_or_else(|| reply.to_string())
    });
    let sessions = workers.iter().chain([&next]).map(|worker| worker.session.strange());
    assert_eq!(sessions.collect::<Vec<_>>().concat(), Vec::<String>::new(), "nothing came that only version 2 knows");
}

#[test]
fn a_worker_of_version_1_comes_over_tls() {
    comes_over(Carrier::Tls);
}

#[test]
fn a_worker_of_version_1_comes_over_wss() {
    comes_over(Carrier::Wss);
}

/// In one group with the present one, and owner of a part of the ring.
#[test]
fn a_control_node_of_version_1_owns_workers_in_a_mixed_group() {
    let single = Single::start();
    let workers = [(OLD_WORKER, "old-1"), (SECOND_WORKER, "old-2")].map(|(node, name)| {
        let mut claim = who(&single, OLD_WORKER, "worker");
        claim.node = node.to_owned();
        let worker = Worker::enter(address(&single), &claim, name, BOOT);
        wait_ready(&single, name);
        (node, name, worker)
    });
    let claim = who(&single, OLD_CONTROL, "control");
    let at = Uri(format!("longshore://{};transport=tcp", SocketAddr::new(single.subnet.host(7), 8140)));
    let owner = Member::join(address(&single), &claim, ("old-control", BOOT), at);
    let (moved, stays) = wait_for("one of the workers to be given to it", || {
        let told = workers.iter().position(|(.., worker)| !worker.seen().notices.is_empty());
        told.map(|index| (&workers[index], &workers[1 - index])).ok_or_else(|| "none".to_owned())
    });
    let (node, name, former) = moved;
    let cli = single.cli();
    wait_for("a request to come to its owner", || {
        let reply = cli.try_json(&["request", name, "echo", r#"{"a":[1,2.5]}"#])?;
        let came = reply["reply"] == json!({"a": [1, 2.5]}) && !owner.asked().is_empty();
        came.then_some(()).ok_or_else(|| reply.to_string())
    });
    let (asked, request) = owner.asked().remove(0);
    assert_eq!((asked.as_str(), request.class.as_str(), request.body), (*node, "echo", json!({"a": [1, 2.5]})));

    let before = (owner.asked().len(), former.seen().requests.len());
    let reply = ask_newly(&single, &relay(node, 1, "echo", br#" {"b": -7}"#)).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&reply).unwrap(), json!({"b": -7}));
    let unknown = ask_newly(&single, &relay(node, 2, "nothing", b"1")).unwrap_err();
    assert_eq!((unknown.code, unknown.outcome), (Code::NotFound, Outcome::NotDone), "{unknown:?}");
    let opaque = ask_newly(&single, &relay(node, 3, "echo", b"\x00\xff")).unwrap_err();
    assert_eq!((opaque.code, opaque.outcome), (Code::Unsupported, Outcome::NotDone), "{opaque:?}");
    assert_eq!((owner.asked().len(), former.seen().requests.len()), (before.0 + 2, before.1), "all through the owner");

    // And the other way: it asks for the worker that stays here.
    assert_eq!(owner.ask(stays.0, "echo", json!([1])).unwrap(), json!([1]));
    let elsewhere = owner.ask(node, "echo", json!(1)).unwrap_err();
    assert_eq!(elsewhere.code, "not_owner", "no request goes in a circle: {elsewhere:?}");
    // With its vote, since the group has two.
    wait_for("its vote", || {
        let status = cli.try_json(&["cluster", "status"])?;
        let members = status["members"].as_array().into_iter().flatten();
        let mut votes = members.filter(|member| member["id"] == OLD_CONTROL && member["role"] == "voter");
        votes.next().map(drop).ok_or_else(|| status.to_string())
    });
    cli.text(&["kv", "put", "seen", "by both"]);
    assert_eq!(cli.text(&["kv", "get", "seen"]).trim(), "by both");
    assert_eq!(owner.strange(), Vec::<String>::new(), "nothing came that only version 2 knows");
}
