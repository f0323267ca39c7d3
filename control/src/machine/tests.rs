//! Snapshots over crashes and damage.

use super::snapshots::is_finished;
use super::*;
use crate::log::{Members, Position};
use longshore_state::Command;
use longshore_wire::kv::KvRequest;
use longshore_wire::{ClusterId, NodeId, RequestId, encode};
use std::fs;

fn entry(index: u64, payload: Payload) -> Entry {
    Entry { position: Position { term: 1, leader: NodeId::from(1), index }, payload }
}

fn proposals(index: u64, commands: Vec<Command>) -> Entry {
    let encoded: Vec<Vec<u8>> = commands
        .into_iter()
        .enumerate()
        .map(|(number, command)| {
            let request_id = RequestId::from_u128(u128::from(index) * 1000 + number as u128);
            encode(&Proposal { request_id, now_ms: 1, command })
        })
        .collect();
    let count = u32::try_from(encoded.len()).unwrap();
    let packed = pack_proposals(count, encoded.iter().map(Vec::as_slice), 0);
    entry(index, Payload::Proposals(packed.into()))
}

fn init() -> Command {
    Command::InitCluster { cluster_id: ClusterId::from_u128(1), name: "test".to_owned(), verifiers: vec![] }
}

fn put(key: &str, value: &str) -> Command {
    Command::Kv(KvRequest::Put { key: key.to_owned(), value: value.as_bytes().to_vec() })
}

fn value(state: &State, key: &str) -> Option<Vec<u8>> {
    state.kv_get(key).map(|entry| entry.value.clone())
}

fn apply_all(machine: &mut Machine, entries: impl IntoIterator<Item = Entry>) -> Vec<Vec<Outcome>> {
    let outcomes = entries.into_iter().map(|entry| machine.apply(entry).unwrap()).collect();
    machine.publish();
    outcomes
}

fn filled(folder: &Path) -> Machine {
    let mut machine = Machine::restore(folder).unwrap();
    let voters = [NodeId::from(1)].into();
    let members = Members { voters: vec![voters], nodes: [NodeId::from(1), NodeId::from(2)].into() };
    let log =
        [entry(0, Payload::Members(members)), proposals(1, vec![init(), put("a", "1")]), entry(2, Payload::Blank)];
    let outcomes = apply_all(&mut machine, log);
    assert_eq!(outcomes.iter().map(Vec::len).collect::<Vec<_>>(), [0, 2, 0]);
    assert!(outcomes[1].iter().all(Result::is_ok));
    machine
}

#[test]
fn a_restart_goes_on_from_the_newest_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = filled(folder.path());
    for index in 3..6 {
        machine.apply(proposals(index, vec![put("a", &index.to_string())])).unwrap();
        machine.image().save().unwrap();
    }
    machine.apply(proposals(6, vec![put("a", "lost with the memory")])).unwrap();
    fs::write(folder.path().join("00000000000000000009-00000000000000000001.snap.tmp"), "half written").unwrap();
    drop(machine);

    let restored = Machine::restore(folder.path()).unwrap();
    assert_eq!(restored.meta().applied.map(|position| position.index), Some(5));
    assert_eq!(restored.meta().members.nodes.len(), 2);
    assert_eq!(value(&restored.view().state(), "a"), Some(b"5".to_vec()));
    assert_eq!(*restored.view().advanced().borrow(), 6);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "two are kept, and nothing unfinished");
}

/// The value in what a start makes of a folder with these files.
fn value_after_a_crash(files: &[(&str, &[u8])]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let machine = Machine::restore(folder.path()).unwrap();
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| is_finished(&name.to_string_lossy())), "{left:?}");
    // It goes on from there, also where the crash has left a file under the name of the next snapshot.
    machine.image().save().unwrap();
    value(&machine.view().state(), "a").unwrap()
}

#[test]
fn a_crash_at_any_step_of_saving_leaves_a_whole_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = filled(folder.path());
    let saved = |machine: &Machine| {
        let file = machine.image().save().unwrap();
        (file.name(), file.read_at(0, usize::try_from(file.size).unwrap()).unwrap())
    };
    let old = saved(&machine);
    machine.apply(proposals(3, vec![put("a", "new")])).unwrap();
    let new = saved(&machine);
    let unfinished = format!("{}.tmp", new.0);
    // Before the sync any part of it may be there, and of the rest only its length.
    for written in (0..new.1.len()).step_by(new.1.len() / 8).chain([new.1.len() - 1, new.1.len()]) {
        let part = &new.1[..written];
        let holes: Vec<u8> = [part, &vec![0; new.1.len() - written]].concat();
        for content in [part, &holes] {
            assert_eq!(value_after_a_crash(&[(&old.0, &old.1), (&unfinished, content)]), b"1", "{written} bytes");
        }
    }
    // Once it has its name it is whole, whether or not the one before it is removed.
    assert_eq!(value_after_a_crash(&[(&old.0, &old.1), (&new.0, &new.1)]), b"new");
    assert_eq!(value_after_a_crash(&[(&new.0, &new.1)]), b"new");
    // Two saves at once: one of them is done, the other had begun anew.
    assert_eq!(value_after_a_crash(&[(&new.0, &new.1), (&unfinished, &new.1[..9])]), b"new");
}

#[test]
fn a_damaged_snapshot_is_named() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).image().save().unwrap();
    let path = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = Machine::restore(folder.path()).unwrap_err().to_string();
    assert!(error.contains("00000000000000000002-00000000000000000001.snap: the snapshot is damaged"), "{error}");
}

#[test]
fn an_entry_of_a_newer_format_is_not_applied() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = Machine::restore(folder.path()).unwrap();
    let newer = entry(0, Payload::Proposals(vec![9, 0xdd, 0, 0, 0, 0].into()));
    let error = machine.apply(newer).unwrap_err().to_string();
    assert!(error.starts_with("log entry 0 cannot be applied: its format is 9"), "{error}");
    assert_eq!(machine.meta().applied, None);
}

#[test]
fn readers_see_whole_batches() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = filled(folder.path());
    let view = machine.view();
    let before = view.state();
    machine.apply(proposals(3, vec![put("a", "2"), put("b", "2")])).unwrap();
    for seen in [&before, &view.state()] {
        assert_eq!((value(seen, "a"), value(seen, "b")), (Some(b"1".to_vec()), None));
    }
    machine.publish();
    let after = view.state();
    assert_eq!((value(&after, "a"), value(&after, "b")), (Some(b"2".to_vec()), Some(b"2".to_vec())));
}

fn members(voters: &[u64], learners: &[u64]) -> Payload {
    let ids = |numbers: &[u64]| numbers.iter().copied().map(NodeId::from).collect::<std::collections::BTreeSet<_>>();
    Payload::Members(Members { voters: vec![ids(voters)], nodes: &ids(voters) | &ids(learners) })
}

fn control(node: u64) -> Command {
    Command::RegisterControl(longshore_state::ControlNode {
        node: NodeId::from(node),
        name: format!("control-{node}"),
        boot: RequestId::from_u128(1),
        addresses: vec![],
        release: String::new(),
    })
}

/// A log with a bit of everything.
fn eventful() -> Vec<Entry> {
    let mut log = vec![
        entry(0, members(&[1], &[])),
        proposals(1, vec![init(), control(1)]),
        proposals(2, vec![put("a", "1")]),
        proposals(3, vec![control(2), control(3)]),
        entry(4, members(&[1], &[2])),
        entry(5, members(&[1, 2], &[3])),
        proposals(6, vec![Command::SetAlive { node: NodeId::from(3), alive: false }]),
        entry(7, Payload::Blank),
    ];
    log[7].position = Position { term: 2, leader: NodeId::from(2), index: 7 };
    log
}

#[test]
fn the_same_log_tells_the_same_events_however_it_is_cut() {
    let told = |cut: usize| {
        let folder = tempfile::tempdir().unwrap();
        let mut machine = Machine::restore(folder.path()).unwrap();
        let (mut log, journal) = (eventful(), machine.view().journal().clone());
        while !log.is_empty() {
            apply_all(&mut machine, log.drain(..cut.min(log.len())));
        }
        let events = journal.after(Cursor { index: 0, position: 0 }, 100).unwrap();
        assert_eq!(journal.after(events.last().unwrap().at, 100), Ok(vec![]));
        assert_eq!(journal.after(events[2].at, 100).unwrap(), events[3..]);
        events
    };
    let whole = told(100);
    assert_eq!(whole, told(1));
    assert_eq!(whole, told(3));
    let places: Vec<String> = whole.iter().map(|event| event.at.to_string()).collect();
    assert_eq!(places, ["0.1", "0.2", "1.1", "3.1", "3.2", "4.1", "5.1", "5.2", "6.1", "7.1"]);
    assert!(matches!(whole[9].what, What::Leader { term: 2, before: Some(_), .. }), "{:?}", whole[9]);
    let promoted =
        |event: &Event| matches!(event.what, What::Part { before: Some(Part::Learner), now: Some(Part::Voter), .. });
    assert!(promoted(&whole[6]), "{:?}", whole[6]);
}

#[test]
fn a_worker_that_gets_another_owner_has_moved() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = Machine::restore(folder.path()).unwrap();
    let worker = Command::RegisterWorker {
        node: NodeId::from(9),
        name: "w".into(),
        boot: RequestId::default(),
        labels: Default::default(),
        release: String::new(),
        runtimes: Vec::new(),
        addresses: Vec::new(),
    };
    let owned_by = |nodes: &[u64]| Command::SetRing { owners: nodes.iter().copied().map(NodeId::from).collect() };
    let moves = |machine: &Machine| machine.view().journal().moves();
    let first = vec![init(), control(1), control(2), worker, owned_by(&[1])];
    apply_all(&mut machine, [proposals(1, first)]);
    assert_eq!(moves(&machine), 0, "its first owner is no move");
    apply_all(&mut machine, [proposals(2, vec![owned_by(&[2])])]);
    assert_eq!(moves(&machine), 1);
    apply_all(&mut machine, [proposals(3, vec![put("a", "1")])]);
    assert_eq!(moves(&machine), 1);
}

#[test]
fn who_asks_for_what_is_not_known_is_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = Machine::restore(folder.path()).unwrap();
    apply_all(&mut machine, eventful());
    let (journal, first) = (machine.view().journal().clone(), Cursor { index: 1, position: 1 });
    assert_eq!(journal.after(Cursor { index: 9, position: 0 }, 1), Err(Gap::Ahead));
    machine.image().save().unwrap();
    let restored = Machine::restore(folder.path()).unwrap();
    let journal_there = restored.view().journal().clone();
    assert_eq!(journal_there.after(first, 1), Err(Gap::NeverSeen), "a state from a snapshot does not tell how it came");
    assert_eq!(journal_there.picture().roster.standings().count(), 3);

    // More than is kept.
    let alive = |index: u64| {
        proposals(index, vec![Command::SetAlive { node: NodeId::from(3), alive: index.is_multiple_of(2) }])
    };
    apply_all(&mut machine, (8..70_000).map(alive));
    assert_eq!(journal.after(first, 1), Err(Gap::Forgotten));
    assert!(journal.after(Cursor { index: 60_000, position: 1 }, 1).is_ok());
}

#[test]
fn writes_to_the_store_wake_nobody_who_does_not_care_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = filled(folder.path());
    let (mut changed, mut advanced) = (machine.view().changed(), machine.view().advanced());
    let mut told = move || {
        let told = (changed.has_changed().unwrap(), advanced.has_changed().unwrap());
        changed.mark_unchanged();
        advanced.mark_unchanged();
        told
    };
    apply_all(&mut machine, [proposals(3, vec![put("a", "2")])]);
    assert_eq!(told(), (false, true), "a key");
    apply_all(&mut machine, [proposals(4, vec![Command::SetVoters { wanted: 5 }])]);
    assert_eq!(told(), (true, true), "something else");
    let members = machine.meta().members.clone();
    apply_all(&mut machine, [entry(5, Payload::Members(members))]);
    assert_eq!(told(), (true, true), "the group");
}
