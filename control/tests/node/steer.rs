//! Where a control node sends those whose session it ends, and when they shall come back.

use crate::rig;
use crate::worker::{Attached, Player, connect};
use longshore_transport::{Inbound, Incoming, Session};
use longshore_wire::edge::NotifyWorker;
use longshore_wire::{Code, NodeId, Role, decode};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longest time for anything.
const WAIT: Duration = Duration::from_secs(90);

/// Waits for the notice that another node owns the worker. Nothing else is heeded.
async fn moved(mut inbound: Inbound) -> (NodeId, Inbound) {
    while let Some(incoming) = inbound.next().await {
        if let Incoming::Notify(body) = incoming {
            let NotifyWorker::Moved { owner, .. } = decode(&body).unwrap();
            return (owner, inbound);
        }
    }
    panic!("cut before it was told to move");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_does_not_move_is_sent_to_its_owner() {
    let first = rig::start("c1", &[]).await;
    let mut waiting = JoinSet::new();
    let mut sessions: Vec<Session> = Vec::new();
    for number in 1..=4 {
        let (_, session, inbound, _) = Player::new(number).arrive(&first.uri).await;
        sessions.push(session.clone());
        waiting.spawn(async move { (session, moved(inbound).await) });
    }
    let second = rig::start("c2", std::slice::from_ref(&first.uri)).await;
    let told = timeout(WAIT, waiting.join_next()).await.expect("somebody is told to move").unwrap().unwrap();
    let (session, (owner, _inbound)) = told;
    assert_eq!(owner, second.control.node_id());
    assert!(!session.is_closed(), "it is not cut before the new session could stand");
    let ending = timeout(WAIT, session.ended()).await.expect("who does not move is cut");
    assert_eq!(ending.reason.code, Code::NotOwner, "{ending:?}");
    assert_eq!((ending.go_to.first(), ending.retry_after), (Some(&second.uri), None));
    let stay = sessions.iter().filter(|session| !session.is_closed()).count();
    assert!(stay > 0, "those that the first node owns are left alone");
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_node_asks_to_wait() {
    let node = rig::start_full("c1", &[], (Role::Control.name(), rig::CONTROL), 2).await;
    let mut seats = Vec::new();
    for number in 1..=2 {
        seats.push(Player::new(number).arrive(&node.uri).await);
    }
    for (number, role) in [(3, Role::Worker), (4, Role::Client)] {
        let (session, _inbound) = connect(Player::new(number).id, &node.uri, role).await.unwrap();
        let ending = timeout(WAIT, session.ended()).await.expect("there is no room");
        assert_eq!((ending.reason.code, ending.go_to.len()), (Code::Busy, 0), "{ending:?}");
        let wait = ending.retry_after.expect("it says when");
        assert!((Duration::from_secs(5)..=Duration::from_secs(10)).contains(&wait), "{wait:?}");
    }
    assert!(seats.iter().all(|(_, session, ..)| !session.is_closed()), "who is here stays");
    seats.remove(0).1.abort();
    let third = Player::new(3);
    let comes = async {
        loop {
            let Some((session, inbound)) = connect(third.id, &node.uri, Role::Worker).await else { continue };
            if let Attached::Yes(..) = third.attach(session, inbound).await {
                return;
            }
        }
    };
    timeout(WAIT, comes).await.expect("there is room again");
    node.stop().await;
}

/// A node with no room sends another node's worker there, and asks its own to wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_node_sends_on_whom_another_drives() {
    let first = rig::start("c1", &[]).await;
    let full = rig::start_full("c2", std::slice::from_ref(&first.uri), (Role::Control.name(), rig::CONTROL), 1).await;
    let seated = async {
        loop {
            if let Some((session, inbound)) = connect(Player::new(100).id, &full.uri, Role::Client).await {
                return (session, inbound);
            }
        }
    };
    let (seated, _inbound) = timeout(WAIT, seated).await.expect("there is one seat");
    let turned_away = async {
        let mut sent_on = false;
        for number in (1..=16).cycle() {
            let Some((session, _inbound)) = connect(Player::new(number).id, &full.uri, Role::Worker).await else {
                continue;
            };
            let ending = session.ended().await;
            assert_eq!(ending.reason.code, Code::Busy, "{ending:?}");
            match ending.go_to.first() {
                Some(owner) => {
                    assert_eq!((owner, ending.retry_after), (&first.uri, None));
                    sent_on = true;
                }
                // Before it has the state, it knows no owner.
                None => assert!(ending.retry_after.is_some(), "{ending:?}"),
            }
            if sent_on && ending.go_to.is_empty() {
                return;
            }
        }
    };
    timeout(WAIT, turned_away).await.expect("some workers are the first node's, some its own");
    assert!(!seated.is_closed(), "who is here stays");
    first.stop().await;
    full.stop().await;
}
