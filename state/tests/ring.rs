//! Properties of the ring under any history of control nodes and workers coming and going.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use longshore_state::{Command, ControlNode, Outcome, Proposal, Reply, Ring, State};
use longshore_wire::{ClusterId, Epoch, NodeId, PARTITIONS, Partition, RequestId};
use proptest::prelude::*;
use std::collections::BTreeMap;

const CONTROLS: u128 = 7;

fn propose(state: &mut State, command: Command) -> Outcome {
    let index = state.applied() + 1;
    state.apply(index, &[Proposal { request_id: RequestId::from_u128(index.into()), now_ms: 0, command }]).remove(0)
}

fn control(number: u128) -> NodeId {
    NodeId::from_u128(1_000_000 + number)
}

/// Ids as ULIDs look: a common front, a different end.
fn worker_id(number: u128) -> NodeId {
    NodeId::from_u128((0x0192_3c1a << 96) | number)
}

fn cluster() -> State {
    let mut state = State::default();
    let init = Command::InitCluster { cluster_id: ClusterId::default(), name: "c".into(), verifiers: vec![] };
    propose(&mut state, init).unwrap();
    for number in 0..CONTROLS {
        let (node, name, boot) = (control(number), format!("c{number}"), RequestId::default());
        let control = ControlNode { node, name, boot, addresses: vec![], release: String::new() };
        propose(&mut state, Command::RegisterControl(control)).unwrap();
    }
    state
}

fn add_worker(state: &mut State, number: u128) {
    let (node, name, boot) = (worker_id(number), format!("w{number}"), RequestId::default());
    let (labels, release, runtimes, addresses) = Default::default();
    propose(state, Command::RegisterWorker { node, name, boot, labels, release, runtimes, addresses }).unwrap();
}

fn set_ring(state: &mut State, owners: impl IntoIterator<Item = u128>) -> u32 {
    let owners = owners.into_iter().map(control).collect();
    match propose(state, Command::SetRing { owners }).unwrap() {
        Reply::Ring { moved } => moved,
        other => panic!("{other:?}"),
    }
}

fn partitions(ring: &Ring) -> Vec<u32> {
    ring.owners().iter().map(|owner| u32::try_from(ring.partitions_of(*owner).count()).unwrap()).collect()
}

fn workers(ring: &Ring) -> Vec<u32> {
    ring.owners().iter().map(|owner| ring.workers_of(*owner)).collect()
}

fn spread(counts: &[u32]) -> u32 {
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

fn slots(ring: &Ring) -> Vec<Option<(NodeId, Epoch)>> {
    (0..PARTITIONS).map(|number| ring.owner(Partition(number))).collect()
}

/// Most registered workers in one partition: what cannot be split.
fn heaviest(state: &State) -> u32 {
    let mut counts = BTreeMap::<Partition, u32>::new();
    state.workers().for_each(|worker| *counts.entry(worker.partition()).or_default() += 1);
    counts.values().copied().max().unwrap_or(0)
}

#[derive(Debug, Clone)]
enum Step {
    Add(u128),
    Remove(u128),
    Ring(Vec<u128>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let owners = proptest::sample::subsequence((0..CONTROLS).collect::<Vec<_>>(), 1..=7);
    let step = prop_oneof![
        6 => (0..120_u128).prop_map(Step::Add),
        1 => (0..120_u128).prop_map(Step::Remove),
        2 => owners.prop_map(Step::Ring),
    ];
    proptest::collection::vec(step, 1..80)
}

fn take(state: &mut State, step: &Step) {
    match step {
        Step::Add(number) => add_worker(state, *number),
        // May not be there; that is a refusal, no fault.
        Step::Remove(number) => drop(propose(state, Command::RemoveNode { node: worker_id(*number) })),
        Step::Ring(owners) => drop(set_ring(state, owners.clone())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Epochs rise exactly where the owner changes, whatever happens; owners are always those wanted.
    #[test]
    fn epochs_rise_with_each_change_of_owner(steps in steps()) {
        let mut state = cluster();
        for step in steps {
            let before = slots(state.ring());
            take(&mut state, &step);
            for (old, new) in before.iter().zip(slots(state.ring())) {
                match (*old, new) {
                    (Some((owner, epoch)), Some(now)) if owner == now.0 => prop_assert_eq!(epoch, now.1),
                    (Some((_, epoch)), Some(now)) => prop_assert_eq!(epoch.0 + 1, now.1.0),
                    (None, Some(now)) => prop_assert_eq!(now.1, Epoch(1)),
                    (old, None) => prop_assert_eq!(old, None),
                }
            }
            let owners = state.ring().owners();
            prop_assert!(slots(state.ring()).iter().flatten().all(|(owner, _)| owners.contains(owner)));
            let counted: u32 = workers(state.ring()).iter().sum();
            prop_assert!(owners.is_empty() || usize::try_from(counted).unwrap() == state.workers().count());
        }
    }

    /// After a spread, workers differ by one at most where partitions can be split so, and partitions by one.
    #[test]
    fn a_spread_is_balanced(steps in steps(), owners in 1..=CONTROLS) {
        let mut state = cluster();
        steps.iter().for_each(|step| take(&mut state, step));
        set_ring(&mut state, 0..owners);
        prop_assert!(spread(&workers(state.ring())) <= heaviest(&state).max(1), "{:?}", workers(state.ring()));
        prop_assert!(spread(&partitions(state.ring())) <= 1, "{:?}", partitions(state.ring()));
        prop_assert_eq!(set_ring(&mut state, 0..owners), 0, "a second time nothing moves");
    }

    /// Workers that come to a standing ring go to the owner with the fewest, and the partitions stay even.
    #[test]
    fn new_workers_keep_the_balance(owners in 1..=CONTROLS, numbers in proptest::collection::btree_set(0..10_000_u128, 1..60)) {
        let mut state = cluster();
        set_ring(&mut state, 0..owners);
        for number in numbers {
            let shared = state.workers().any(|worker| worker.partition() == worker_id(number).partition());
            let before = spread(&workers(state.ring()));
            add_worker(&mut state, number);
            let after = spread(&workers(state.ring()));
            let allowed = if shared { before + 1 } else { before.max(1) };
            prop_assert!(after <= allowed, "{after} after {before}");
            prop_assert!(spread(&partitions(state.ring())) <= 1);
        }
    }

    /// A control node that joins takes its share and nothing else moves; one that leaves gives up its own only.
    #[test]
    fn joining_and_leaving_move_little(owners in 1..CONTROLS, count in 0..80_u128) {
        let mut state = cluster();
        set_ring(&mut state, 0..owners);
        (0..count).for_each(|number| add_worker(&mut state, number));
        set_ring(&mut state, 0..owners);
        let before = slots(state.ring());
        let moved = set_ring(&mut state, 0..=owners);
        let share = u32::from(PARTITIONS).div_ceil(u32::try_from(owners).unwrap() + 1);
        prop_assert!(moved <= share + 2, "{moved} moved, the share is {share}");
        for (old, new) in before.iter().zip(slots(state.ring())) {
            prop_assert!(old.unwrap() == new.unwrap() || new.unwrap().0 == control(owners), "moved past the new node");
        }
        let gone = u32::try_from(state.ring().partitions_of(control(0)).count()).unwrap();
        let moved = set_ring(&mut state, 1..=owners);
        prop_assert!(moved <= gone + 2 * u32::try_from(owners).unwrap(), "{moved} moved, {gone} had to");
    }
}

#[test]
fn twelve_workers_come_evenly_to_three_control_nodes() {
    let mut state = cluster();
    set_ring(&mut state, 0..3);
    (0..12).for_each(|number| add_worker(&mut state, number));
    assert_eq!(workers(state.ring()), [4, 4, 4]);
    assert_eq!(spread(&partitions(state.ring())), 1);
}

#[test]
fn ten_thousand_workers_spread_within_one_percent() {
    let mut state = cluster();
    set_ring(&mut state, 0..3);
    (0..10_000).for_each(|number| add_worker(&mut state, number));
    set_ring(&mut state, 0..3);
    assert!(spread(&workers(state.ring())) <= 33, "{:?}", workers(state.ring()));
}

#[test]
fn only_those_are_touched_to_whom_something_is_new() {
    let touched = |new: &State, old: &State| new.touched(old).map(|ids| ids.into_iter().collect::<Vec<_>>());
    let mut state = cluster();
    set_ring(&mut state, [0]);
    (0..100).for_each(|number| add_worker(&mut state, number));
    let before = state.clone();
    assert_eq!(touched(&state, &before), Some(vec![]));
    add_worker(&mut state, 100);
    let (node, owner) = (worker_id(7), control(0));
    let (_, epoch) = state.owner_of(node).unwrap();
    let (ready, transport) = (longshore_wire::task::NodeState::Ready, "tcp".to_owned());
    propose(
        &mut state,
        Command::SetConnected { node, epoch, owner, state: ready, transport, remote: None, clone: None },
    )
    .unwrap();
    assert_eq!(touched(&state, &before), Some(vec![node, worker_id(100)]));
    assert_eq!(touched(&before, &state), Some(vec![node, worker_id(100)]), "one that is gone is touched too");

    let before = state.clone();
    assert!(set_ring(&mut state, [0, 1]) > 0);
    let moved: Vec<NodeId> =
        (0..=100).map(worker_id).filter(|id| state.owner_of(*id) != before.owner_of(*id)).collect();
    assert!(moved.len() > 20 && moved.len() < 80, "{}", moved.len());
    assert_eq!(touched(&state, &before), Some(moved));
}
