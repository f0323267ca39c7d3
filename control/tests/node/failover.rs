//! Three control nodes: joining, the ring over all of them, tunnels, and the loss of an owner.

use crate::rig::{self, Node};
use crate::worker::Player;
use longshore_wire::Role;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// A lost owner's workers are driven again within this (measured: about 3 s; the rest is for slow machines).
const DRIVEN_AGAIN: Duration = Duration::from_secs(15);

fn voters(status: &Value) -> usize {
    let voters = status["members"].as_array().unwrap().iter().filter(|member| member["role"] == "voter");
    voters.count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_owners_workers_are_driven_again() {
    let mut nodes = vec![rig::start("c1", &[]).await];
    let seed = [nodes[0].uri.clone()];
    nodes.push(rig::start("c2", &seed).await);
    nodes.push(rig::start("c3", &seed).await);
    for node in &nodes {
        node.until("/v1/cluster", |status| voters(status) == 3).await;
    }
    assert_eq!(nodes[2].ask("PUT /v1/kv/from/c3", "", b"x").await.status, 200);
    assert_eq!(nodes[1].ask("GET /v1/kv/from/c3", "", b"").await.body, b"x");
    spread(&nodes).await;
}

/// Workers that know only the first node come to all three; when one of the others goes, they come to the rest.
async fn spread(nodes: &[Node]) {
    let players: Vec<Player> = (1..=6).map(Player::new).collect();
    let mut seats = Vec::new();
    for player in &players {
        seats.push(player.arrive(&nodes[0].uri).await);
    }
    // The ring grows to all nodes in the meantime; whoever was moved comes again.
    let listed = nodes[0].until("/v1/nodes", |listed| owners(listed) == 3).await;
    assert_eq!(listed.as_array().unwrap().len(), 9);
    let victim = &nodes[2];
    let lost: Vec<usize> = (0..players.len())
        .filter(|index| {
            let worker = listed.as_array().unwrap().iter().find(|node| node["id"] == players[*index].id.to_string());
            worker.unwrap()["owner"] == victim.control.node_id().to_string()
        })
        .collect();
    assert!(!lost.is_empty(), "{listed:#}");
    for (seat, player) in seats.iter_mut().zip(&players) {
        *seat = player.arrive(&nodes[0].uri).await;
    }
    for index in &lost {
        assert_eq!(seats[*index].0.owner, victim.control.node_id());
        assert!(seats[*index].3.is_some(), "through a tunnel");
    }
    asked_everywhere(nodes, &players).await;

    let gone = Instant::now();
    victim.control.stop(Duration::from_millis(10)).await;
    for index in &lost {
        let before = seats[*index].0.epoch;
        seats[*index] = players[*index].arrive(&nodes[0].uri).await;
        assert!(seats[*index].0.epoch > before && seats[*index].0.owner != victim.control.node_id());
    }
    let took = gone.elapsed();
    println!("all workers of the lost node driven again after {took:?}");
    assert!(took < DRIVEN_AGAIN, "{took:?}");
}

/// A request reaches a worker's own node from any other.
async fn asked_everywhere(nodes: &[Node], players: &[Player]) {
    for (node, player) in nodes.iter().zip(players) {
        let path = format!("POST /v1/nodes/{}/request", player.id);
        let answer = node.ask(&path, "", br#"{"class":"echo","timeout_ms":300}"#).await;
        // The players do not answer here: what matters is that the request found a session.
        assert_eq!(answer.json()["code"], "timeout", "{}", String::from_utf8_lossy(&answer.body));
    }
}

fn owners(listed: &Value) -> usize {
    let workers = listed.as_array().unwrap().iter().filter(|node| node["roles"][0] == Role::Worker.name());
    workers.map(|worker| worker["owner"].to_string()).collect::<std::collections::BTreeSet<_>>().len()
}
