//! Round trips, and every kind of damage.

use super::*;
use crate::KvGap;
use crate::command::{Command, ControlNode, InstanceSpec, On, Proposal};
use longshore_wire::app::{Flow, MANIFEST_FORMAT, Manifest};
use longshore_wire::kv::{KvRequest, Txn, TxnOp};
use longshore_wire::{ClusterId, Digest, Epoch, NodeId, RequestId, Role};
use std::collections::BTreeMap;

fn propose(state: &mut State, command: Command) {
    let id = state.applied() + 1;
    let proposal = Proposal { request_id: RequestId::from_u128(id.into()), now_ms: id, command };
    state.apply(id, &[proposal]).remove(0).unwrap();
}

pub(crate) fn manifest() -> Manifest {
    let args = BTreeMap::from([("greeting".to_owned(), "hello".into())]);
    let flow = Flow { entry: vec!["./run".into()], args, restart: Default::default(), limits: Default::default() };
    let (sha256, runtime) = (Digest([1; 32]), "exec".into());
    let flows = BTreeMap::from([("main".into(), flow)]);
    Manifest { format: MANIFEST_FORMAT, name: "greeter".into(), sha256, runtime, flows, files: vec![] }
}

/// A running instance of this name, which nobody has started.
pub(crate) fn instance(name: &str, on: On) -> crate::Instance {
    let mut instance = full().instance("greeter").unwrap().clone();
    (instance.name, instance.on) = (name.to_owned(), on);
    instance
}

/// A state with something of everything.
pub(crate) fn full() -> State {
    let mut state = State::default();
    let node = |number: u128| NodeId::from_u128(number);
    let (boot, release) = (RequestId::from_u128(9), "0.1.0".to_owned());
    propose(
        &mut state,
        Command::InitCluster { cluster_id: ClusterId::from_u128(1), name: "prod".into(), verifiers: vec![] },
    );
    let addresses = vec!["longshore://10.0.0.1".parse().unwrap()];
    propose(
        &mut state,
        Command::RegisterControl(ControlNode {
            node: node(1),
            name: "c1".into(),
            boot,
            addresses,
            release: release.clone(),
        }),
    );
    propose(&mut state, Command::SetRing { owners: vec![node(1)] });
    for number in 2..5 {
        let (name, labels) = (format!("w{number}"), "core;group=a".parse().unwrap());
        let runtimes = vec!["exec".into()];
        let (release, addresses) = (release.clone(), vec![]);
        propose(
            &mut state,
            Command::RegisterWorker { node: node(number), name, boot, labels, release, runtimes, addresses },
        );
    }
    propose(&mut state, Command::RemoveNode { node: node(4) });
    propose(&mut state, Command::InstallApp { manifest: manifest(), digest: Digest([7; 32]), size: 10, blake3: None });
    let (instance, app, flow) = ("greeter".to_owned(), "greeter".to_owned(), "main".to_owned());
    let spec = InstanceSpec {
        instance: instance.clone(),
        app,
        flow,
        args: BTreeMap::new(),
        on: On::All,
        selector: String::new(),
    };
    propose(&mut state, Command::StartInstance(spec));
    let revision = state.instance("greeter").unwrap().revision;
    propose(&mut state, Command::Assign { instance, revision, add: vec![node(2), node(3)], drop: vec![] });
    for number in 0..200_u32 {
        let value = vec![u8::try_from(number).unwrap(); 1000];
        propose(&mut state, Command::Kv(KvRequest::Put { key: format!("k/{number}"), value }));
    }
    state
}

fn bytes_of(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(state, b"meta", &mut bytes).unwrap();
    bytes
}

#[test]
fn a_state_round_trips_with_its_indexes() {
    let state = full();
    let bytes = bytes_of(&state);
    assert!(bytes.len() > 3 * 64 * 1024, "several blocks");
    let mut input = bytes.as_slice();
    let (mut back, meta) = read(&mut input).unwrap();
    assert_eq!((meta.as_slice(), input.len()), (b"meta".as_slice(), 0));
    assert_eq!(bytes_of(&back), bytes, "written again, it is the same");
    assert_eq!(back.ring(), state.ring());
    assert_eq!(back.ring().workers_of(NodeId::from_u128(1)), 2);
    assert_eq!(back.tasks_of(NodeId::from_u128(2)).count(), 1);
    assert_eq!(back.find_node("2").unwrap().name, "w2");
    // A repeat of an old request still gets the first outcome, and a new node does not get a resting short id.
    let repeat = Proposal { request_id: RequestId::from_u128(1), now_ms: 0, command: Command::SetVoters { wanted: 2 } };
    assert_eq!(back.apply(1000, &[repeat]), [Ok(crate::Reply::Done)]);
    let mut both = [state, back];
    for state in &mut both {
        let (node, boot) = (NodeId::from_u128(77), RequestId::from_u128(5));
        let (name, labels, release, runtimes) = ("w77".into(), Default::default(), String::new(), vec![]);
        state.applied = 1000;
        propose(state, Command::RegisterWorker { node, name, boot, labels, release, runtimes, addresses: vec![] });
        assert_eq!(state.node(node).unwrap().short_id.0, 5, "4 rests");
    }
    assert_eq!(bytes_of(&both[0]), bytes_of(&both[1]));
}

#[test]
fn the_format_before_is_migrated() {
    let old = include_bytes!("golden/format-1.bin");
    let (state, meta) = read(&mut old.as_slice()).unwrap();
    assert_eq!((meta.as_slice(), state.kv_get("k").unwrap().value), (b"meta".as_slice(), b"v".to_vec()));
    for (name, role, fill) in
        [("client", Role::Client, 30), ("control", Role::Control, 10), ("worker", Role::Worker, 20)]
    {
        let credential = state.credential(name).unwrap();
        let secret = &credential.secrets[0];
        assert_eq!((credential.role, &credential.holder, credential.revoked_ms), (role, &None, None));
        assert_eq!((secret.number, secret.retired_ms, credential.secrets.len()), (1, None, 1));
        assert_eq!(secret.verifier.salt, [fill; 16]);
        assert_eq!(
            (&secret.verifier.stored_key[..], &secret.verifier.server_key[..]),
            (&[fill + 1; 32][..], &[fill + 2; 32][..])
        );
    }
    let (again, _) = read(&mut bytes_of(&state).as_slice()).unwrap();
    assert!(again.credentials().eq(state.credentials()), "written in the new format, it is the same");
    let mut damaged = old.to_vec();
    damaged[11] = 2;
    assert!(
        matches!(read(&mut damaged.as_slice()), Err(SnapshotError::Damaged { .. })),
        "the format is part of the sums"
    );
}

#[test]
fn the_format_before_leases_is_read() {
    let old = include_bytes!("golden/format-2.bin");
    let (mut state, meta) = read(&mut old.as_slice()).unwrap();
    assert_eq!((meta.as_slice(), state.applied(), state.kv_revision()), (b"meta".as_slice(), 4, 3));
    let entry = state.kv_get("k").unwrap();
    assert_eq!((entry.value.as_slice(), entry.revision, entry.lease), (&b"x"[..], 3, None));
    assert_eq!((state.leases().count(), state.kv_usage()), (0, (4, crate::KV_QUOTA)));
    propose(&mut state, Command::GrantLease { ttl_ms: 1_000 });
    let (again, _) = read(&mut bytes_of(&state).as_slice()).unwrap();
    assert_eq!(bytes_of(&again), bytes_of(&state), "written in the new format, it is the same");
}

#[test]
fn leases_quota_and_brake_come_back_and_the_history_begins_anew() {
    let mut state = full();
    propose(&mut state, Command::GrantLease { ttl_ms: 5_000 });
    let (lease, _) = state.leases().next().unwrap();
    let op = TxnOp::Put { key: "held".into(), value: b"x".to_vec(), lease: Some(lease.id) };
    propose(&mut state, Command::Txn(Txn { then: vec![op], ..Txn::default() }));
    propose(&mut state, Command::KeepLease { lease: lease.id });
    propose(&mut state, Command::SetQuota { bytes: Some(3 << 20) });
    propose(&mut state, Command::SetBrake { writes: Some(7) });
    assert_eq!(state.kv_changes(0).unwrap().count(), 201);
    let (mut back, _) = read(&mut bytes_of(&state).as_slice()).unwrap();
    assert_eq!(back.leases().collect::<Vec<_>>(), state.leases().collect::<Vec<_>>());
    assert_eq!((back.kv_usage(), back.cluster().unwrap().kv_brake), (state.kv_usage(), Some(7)));
    assert_eq!(back.kv_changes(200).map(Iterator::count), Err(KvGap { compacted: 201 }));
    assert_eq!(back.kv_changes(201).map(Iterator::count), Ok(0));
    propose(&mut back, Command::RevokeLease { lease: lease.id, renewals: Some(1) });
    assert!(back.kv_get("held").is_none());
    let gone: Vec<_> =
        back.kv_changes(201).unwrap().map(|change| (change.revision(), change.value().is_none())).collect();
    assert_eq!(gone, [(202, true)]);
}

#[test]
fn an_empty_state_round_trips() {
    let (back, _) = read(&mut bytes_of(&State::default()).as_slice()).unwrap();
    assert_eq!(back.applied(), 0);
    assert_eq!(back.owner_of(NodeId::from_u128(1)), None::<(NodeId, Epoch)>);
}

#[test]
fn every_changed_byte_is_noticed() {
    let bytes = bytes_of(&full());
    // Every byte of the headers and of both ends, and a stride through the middle.
    let places = (0..100).chain((100..bytes.len() - 60).step_by(4999)).chain(bytes.len() - 60..bytes.len());
    for place in places {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x10;
        assert!(read(&mut damaged.as_slice()).is_err(), "byte {place} of {}", bytes.len());
    }
}

#[test]
fn every_cut_is_noticed() {
    let bytes = bytes_of(&full());
    for length in (0..50).chain((50..bytes.len()).step_by(4999)).chain([bytes.len() - 1]) {
        let cut = read(&mut &bytes[..length]);
        assert!(matches!(cut, Err(SnapshotError::Truncated { .. })), "{length}");
    }
}

#[test]
fn a_lost_or_swapped_block_is_noticed() {
    let bytes = bytes_of(&full());
    let mut blocks = Vec::new();
    let mut rest = &bytes[12..];
    while !rest.is_empty() {
        let length = 8 + u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        blocks.push(&rest[..length]);
        rest = &rest[length..];
    }
    let rebuilt = |order: &[usize]| {
        let mut bytes = bytes[..12].to_vec();
        order.iter().for_each(|number| bytes.extend_from_slice(blocks[*number]));
        read(&mut bytes.as_slice())
    };
    let all: Vec<usize> = (0..blocks.len()).collect();
    assert!(rebuilt(&all).is_ok());
    let mut swapped = all.clone();
    swapped.swap(1, 2);
    assert!(matches!(rebuilt(&swapped), Err(SnapshotError::Damaged { block: 1 })));
    let mut lost = all.clone();
    lost.remove(2);
    assert!(matches!(rebuilt(&lost), Err(SnapshotError::Damaged { block: 2 })));
}

#[test]
fn other_files_and_formats_are_named() {
    assert!(matches!(read(&mut [0; 64].as_slice()), Err(SnapshotError::Magic)));
    let mut newer = bytes_of(&State::default());
    newer[11] = 4;
    assert!(matches!(read(&mut newer.as_slice()), Err(SnapshotError::Format { found: 4 })));
    // A length out of this world is refused before anything is allocated.
    let mut long = bytes_of(&State::default());
    long[12..16].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(matches!(read(&mut long.as_slice()), Err(SnapshotError::Damaged { block: 0 })));
}
