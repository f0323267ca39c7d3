//! Who leads is shown by a majority of the voters, each by its own vote.

use super::cluster::{PATIENCE, leader_of, three};
use crate::raft::confirm::{Quick, holds, read_index};
use longshore_wire::peer::Confirm;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_is_confirmed_and_a_former_one_is_not() {
    let (_folders, nodes) = three().await;
    let former = leader_of(&nodes);
    nodes[former].put("key", "1").await.unwrap();
    let mut quick = Quick::new();
    for _ in 0..2 {
        let applied = nodes[former].group.status().applied;
        assert!(
            read_index(nodes[former].group.engine(), &mut quick).await >= applied,
            "first by all, then by the quick"
        );
    }
    assert_eq!(quick.len(), 2, "itself and one more");
    for node in nodes.iter().filter(|node| node.id != nodes[former].id) {
        assert_eq!(read_index(node.group.engine(), &mut Quick::new()).await, None, "{} does not lead", node.id);
    }
    let asked = Confirm { leader: nodes[former].id, term: nodes[former].group.status().term };
    nodes[former].group.hand_over(PATIENCE).await;
    let still = nodes.iter().filter(|node| holds(node.group.engine(), asked)).count();
    assert!(still <= 1, "a majority has promised another candidate to follow it: {still}");
    assert_eq!(read_index(nodes[former].group.engine(), &mut quick).await, None);
    let leader = &nodes[leader_of(&nodes)];
    leader.put("key", "2").await.unwrap();
    assert!(read_index(leader.group.engine(), &mut Quick::new()).await >= leader.group.status().applied);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_alone_is_not_confirmed() {
    let (_folders, mut nodes) = three().await;
    let leader = nodes.remove(leader_of(&nodes));
    leader.put("key", "1").await.unwrap();
    let mut quick = Quick::new();
    assert!(read_index(leader.group.engine(), &mut quick).await.is_some());
    let last = nodes.pop().unwrap();
    for node in nodes {
        node.stop().await;
    }
    assert!(
        read_index(leader.group.engine(), &mut quick).await.is_some(),
        "the other one is asked when the quick is gone"
    );
    last.stop().await;
    assert_eq!(read_index(leader.group.engine(), &mut quick).await, None);
    leader.stop().await;
}
