//! A revocation ends the sessions of clients, of workers behind a tunnel, and of control nodes; nobody else's.

use crate::rig::{self, Node};
use crate::worker::{Attached, Player, connect_as, converse_as};
use longshore_transport::{Link, Secret, Session, make_verifier};
use longshore_wire::credential::MIN_ITERATIONS;
use longshore_wire::edge::OpenControl;
use longshore_wire::{Role, encode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Far more than the second that it may take: a test must not depend on speed. What it took is printed.
const WAIT: Duration = Duration::from_secs(20);
/// The secret of the control node with a credential of its own.
const THIRD: &str = "a secret of the third control node";

async fn create(node: &Node, credential: &str, role: Role, text: &str, holder: Option<&str>) {
    let secret = Secret::from_bytes(text.as_bytes()).unwrap();
    let verifier = make_verifier(&secret, credential, role, MIN_ITERATIONS);
    let body = json!({"verifier": verifier, "node": holder}).to_string();
    let made = node.ask("POST /v1/credentials", "", body.as_bytes()).await;
    assert_eq!((made.status, &made.json()["valid"]), (201, &1.into()), "{}", made.head);
    let told = String::from_utf8(made.body).unwrap();
    assert!(!told.contains("key"), "verifiers go in and never out: {told}");
}

async fn revoke(node: &Node, credential: &str) -> Value {
    node.ask(&format!("POST /v1/credentials/{credential}/revoke"), "", b"").await.json()
}

async fn is_cut(session: &Session, what: &str, since: Instant) {
    let reason = tokio::time::timeout(WAIT, session.closed()).await.expect("the session is cut");
    println!("{what}: cut {:?} after the revocation was asked for", since.elapsed());
    assert!(reason.message.contains("was revoked"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocation_reaches_clients_tunnels_and_control_nodes() {
    let first = rig::start("c1", &[]).await;
    first.until("/v1/cluster", |status| status["members"][0]["role"] == "voter").await;
    create(&first, "control-3", Role::Control, THIRD, Some("c3")).await;
    let second = rig::start("c2", std::slice::from_ref(&first.uri)).await;
    let third = rig::start_with("c3", std::slice::from_ref(&first.uri), "control-3", THIRD).await;
    for node in [&first, &second] {
        node.until("/v1/cluster", |status| {
            let members = status["members"].as_array().unwrap();
            members.len() == 3 && members.iter().all(|member| member["role"] == "voter" && member["alive"] == true)
        })
        .await;
    }
    for (credential, role) in [("client-2", Role::Client), ("worker-2", Role::Worker)] {
        create(&first, credential, role, rig::WORKER, None).await;
    }

    let (client, _client_inbound) = connect(&second, 1, Role::Client, "client-2").await;
    let (other, _other_inbound) = connect(&second, 2, Role::Client, "client").await;
    let (outer, inner, _inbounds) = by_tunnel(&first).await;

    let since = Instant::now();
    assert_eq!(revoke(&first, "client-2").await["revoked"], true);
    is_cut(&client, "a client's session on another control node", since).await;
    let since = Instant::now();
    assert_eq!(revoke(&second, "worker-2").await["revoked"], true);
    is_cut(&inner, "the session in a tunnel", since).await;
    is_cut(&outer, "the session around it", since).await;
    assert!(!other.is_closed(), "another credential's session goes on");
    assert!(connect_as(Player::new(9).id, &second.uri, Role::Client, "client-2").await.is_none());

    assert_eq!(revoke(&first, "control-3").await["revoked"], true);
    for node in [&first, &second] {
        node.until("/v1/cluster", |status| {
            status["members"]
                .as_array()
                .unwrap()
                .iter()
                .any(|member| member["name"] == "c3" && member["alive"] == false)
        })
        .await;
    }
    let last = first.ask("POST /v1/credentials/control/revoke", "", b"").await;
    assert_eq!(last.status, 409, "the control group does not cut itself off: {:?}", last.json());
    for node in [third, second, first] {
        node.stop().await;
    }
}

type Inbounds = (longshore_transport::Inbound, longshore_transport::Inbound);

async fn connect(node: &Node, number: u128, role: Role, credential: &str) -> (Session, longshore_transport::Inbound) {
    let start = Instant::now();
    loop {
        // A credential reaches the other control nodes a moment after it was made.
        if let Some(connected) = connect_as(Player::new(number).id, &node.uri, role, credential).await {
            return connected;
        }
        assert!(start.elapsed() < WAIT, "{credential} is not let in");
    }
}

/// A worker that comes in at this node and is driven by another one, through a tunnel.
async fn by_tunnel(node: &Node) -> (Session, Session, Inbounds) {
    let start = Instant::now();
    for number in 10.. {
        assert!(start.elapsed() < WAIT, "no worker is owned elsewhere");
        let player = Player::new(number);
        let (session, inbound) = connect(node, number, Role::Worker, "worker-2").await;
        let Attached::Elsewhere(to, outer) = player.attach(session, inbound).await else { continue };
        let Ok(stream) = outer.open(encode(&OpenControl::Tunnel { to })).await else { continue };
        let inner = converse_as(player.id, Link::tunnel(stream), Role::Worker, "worker-2").await;
        let Some((inner, inbound)) = inner else { continue };
        if let Attached::Yes(_, inner, inbound) = player.attach(inner, inbound).await {
            // The outer session's inbound half went with the attach; its handle is enough to see its end.
            return (outer.clone(), inner, (inbound, connect(node, 8, Role::Client, "client").await.1));
        }
    }
    unreachable!("the numbers do not end")
}
