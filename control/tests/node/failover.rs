//! Three control nodes: joining, the ring over all of them, tunnels, and the loss of an owner, leader or not.

use crate::rig::{self, Node};
use crate::worker::Player;
use longshore_wire::{NodeId, Role};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// A lost owner's workers are driven again within this (measured: about 2.5 s; the rest is for slow machines).
const DRIVEN_AGAIN: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_followers_workers_are_driven_again() {
    let (nodes, leader) = three().await;
    let victim = nodes.iter().position(|node| node.control.node_id() != leader).unwrap();
    lose(&nodes, victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_leaders_workers_are_driven_again() {
    let (nodes, leader) = three().await;
    let victim = nodes.iter().position(|node| node.control.node_id() == leader).unwrap();
    lose(&nodes, victim).await;
}

/// Three voters, and who leads.
async fn three() -> (Vec<Node>, NodeId) {
    let mut nodes = vec![rig::start("c1", &[]).await];
    let seed = [nodes[0].uri.clone()];
    nodes.push(rig::start("c2", &seed).await);
    nodes.push(rig::start("c3", &seed).await);
    for node in &nodes {
        node.until("/v1/cluster", |status| voters(status) == 3).await;
    }
    assert_eq!(nodes[2].ask("PUT /v1/kv/from/c3", "", b"x").await.status, 200);
    assert_eq!(nodes[1].ask("GET /v1/kv/from/c3", "", b"").await.body, b"x");
    let leader = nodes[1].until("/v1/cluster", |status| status["leader"].is_string()).await;
    (nodes, leader["leader"].as_str().unwrap().parse().unwrap())
}

fn voters(status: &Value) -> usize {
    let voters = status["members"].as_array().unwrap().iter().filter(|member| member["role"] == "voter");
    voters.count()
}

/// Workers that know only one node come to all three; when another node goes, its workers come to the rest.
async fn lose(nodes: &[Node], victim: usize) {
    let known = &nodes[(victim + 1) % nodes.len()];
    let victim = &nodes[victim].control;
    let players: Vec<Player> = (1..=6).map(Player::new).collect();
    for player in &players {
        player.arrive(&known.uri).await;
    }
    // The ring grows to all nodes in the meantime; whoever was moved comes again.
    let listed = known.until("/v1/nodes", |listed| owners(listed).len() == 3).await;
    assert_eq!(listed.as_array().unwrap().len(), 9);
    let mut seats = Vec::new();
    for player in &players {
        seats.push(player.arrive(&known.uri).await);
    }
    let mine = known.control.node_id();
    for (accepted, _, _, tunnel) in &seats {
        assert_eq!(tunnel.is_some(), accepted.owner != mine, "through a tunnel to other nodes only");
    }
    asked_everywhere(nodes, &players).await;

    let lost: Vec<usize> = (0..seats.len()).filter(|index| seats[*index].0.owner == victim.node_id()).collect();
    assert!(!lost.is_empty(), "{listed:#}");
    let gone = Instant::now();
    victim.stop(Duration::from_millis(10)).await;
    for index in lost {
        let before = seats[index].0.epoch;
        seats[index] = players[index].arrive(&known.uri).await;
        assert!(seats[index].0.epoch > before && seats[index].0.owner != victim.node_id());
    }
    let took = gone.elapsed();
    println!("all workers of the lost node driven again after {took:?}");
    assert!(took < DRIVEN_AGAIN, "{took:?}");
    assert_eq!(known.ask("PUT /v1/kv/after", "", b"x").await.status, 200);
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

/// Who owns workers.
fn owners(listed: &Value) -> BTreeSet<&str> {
    let workers = listed.as_array().unwrap().iter().filter(|node| node["roles"][0] == Role::Worker.name());
    workers.filter_map(|worker| worker["owner"].as_str()).collect()
}
