//! Saved snapshots: every kind of damage, and a group out of a whole one.

use super::*;
use crate::log::Log;
use crate::machine::Machine;
use crate::recover::{RecoverError, inspect, recover};
use longshore_state::{Command, ControlNode, Proposal};
use longshore_wire::kv::KvRequest;
use longshore_wire::{NodeId, RequestId};

fn state() -> State {
    let control = ControlNode {
        node: NodeId::from(1),
        name: "c1".to_owned(),
        boot: RequestId::from_u128(1),
        addresses: vec![],
        release: String::new(),
    };
    let commands = [
        Command::InitCluster { cluster_id: ClusterId::from_u128(7), name: "test".to_owned(), verifiers: vec![] },
        Command::RegisterControl(control),
        Command::Kv(KvRequest::Put { key: "a".to_owned(), value: b"1".to_vec() }),
    ];
    let mut state = State::default();
    for (number, command) in (1..).zip(commands) {
        let proposal = Proposal { request_id: RequestId::from_u128(number), now_ms: 1, command };
        assert!(state.apply(9, &[proposal])[0].is_ok());
    }
    state
}

fn at(index: u64) -> Position {
    Position { term: 3, leader: NodeId::from(1), index }
}

fn saved(folder: &Path) -> PathBuf {
    let path = folder.join("saved.snap");
    write(&state(), Some(at(9)), &mut File::create(&path).unwrap()).unwrap();
    path
}

#[test]
fn a_whole_one_tells_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let summary = verify(&saved(folder.path())).unwrap();
    assert_eq!((summary.cluster.as_str(), summary.index, summary.term, summary.kv_revision), ("test", 9, 3, 1));
    assert_eq!((summary.counts.control_nodes, summary.counts.keys), (1, 1));
    assert!(summary.taken_ms.is_some_and(|taken| taken <= now_ms() && taken + 60_000 > now_ms()));
}

#[test]
fn damage_anywhere_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path());
    let whole = fs::read(&path).unwrap();
    let wrong = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        verify(&path).unwrap_err().to_string()
    };
    // The state's own tests change every byte.
    for place in (0..whole.len()).step_by(97) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        let why = wrong(&bytes);
        assert!(why.contains("saved.snap: "), "{why}");
    }
    assert!(wrong(&whole[..whole.len() - 1]).contains("is cut short in block"));
    assert!(wrong(&[&whole[..], b"more"].concat()).contains("4 bytes stand behind the end"));
}

#[tokio::test]
async fn a_group_begins_anew_in_an_empty_folder_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path());
    let occupied = restore(&path, folder.path()).await.unwrap_err();
    assert!(matches!(occupied, SavedError::Occupied { .. }), "{occupied}");

    let data = folder.path().join("data");
    let (_, founded) = restore(&path, &data).await.unwrap();
    let machine = Machine::restore(&data.join(founding::SNAPSHOT_FOLDER)).unwrap();
    let (meta, state) = (machine.meta().clone(), machine.view().state());
    assert_eq!(meta.members.voters, [[founded.node].into()]);
    assert_eq!(
        meta.applied.map(|position| (position.term, position.leader, position.index)),
        Some((4, founded.node, 10))
    );
    assert_eq!(state.kv_get("a").map(|entry| entry.revision), Some(1));
    let log = Log::open(&data.join(founding::LOG_FOLDER)).unwrap();
    assert_eq!(log.ends(), (meta.applied, meta.applied));
    assert_eq!(log.ballot().map(|ballot| (ballot.term, ballot.node)), Some((4, founded.node)));
    log.close();

    let remains = inspect(&data).unwrap();
    assert_eq!((remains.node, remains.last_term, remains.last_index), (founded.node, 4, 10));
    let (_, again) = recover(&data).await.unwrap();
    assert_ne!(again.node, founded.node);
    assert!(again.kept.is_some_and(|kept| kept.join(founding::LOG_FOLDER).exists()));
    assert!(matches!(inspect(folder.path()), Err(RecoverError::NoNode { .. })));
}
