//! Snapshots on their way: broken off, damaged, and while others write.

use super::cluster::{Node, PATIENCE, anywhere, bootstrap, control, uri};
use crate::log::Ballot;
use crate::machine::{PartialId, SnapshotFile};
use crate::raft::Limits;
use crate::raft::message::{self, Installed, SnapshotHead};
use longshore_state::Command;
use longshore_transport::Stream;
use longshore_wire::peer::{Join, OpenPeer};
use longshore_wire::{Code, NodeId, RequestId};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const CHUNK: usize = 100_000;

/// Takes a snapshot of all that is applied.
async fn snapshot(node: &Node) -> SnapshotFile {
    let applied = node.group.status().applied.unwrap();
    node.group.engine().0.raft.trigger().snapshot().await.unwrap();
    node.until("a snapshot is taken", |group| group.status().snapshot >= Some(applied)).await;
    node.group.engine().0.snapshots.newest().unwrap()
}

async fn fill(node: &Node, values: usize) {
    for number in 0..values {
        node.put(&format!("large/{number}"), &number.to_string().repeat(600_000)).await.unwrap();
    }
}

/// Opens a transfer by hand; how much the receiver has.
async fn open(from: &Node, to: NodeId, file: &SnapshotFile, stamp: u64) -> (Stream, usize) {
    let head = SnapshotHead { leader: Ballot { term: 1, node: from.id, committed: true }, meta: file.meta.clone() };
    let open = OpenPeer::SnapshotChunks { head: message::pack(&head), size: file.size, stamp };
    let mut stream = from.peers.open(to, &open).await.unwrap();
    let mut have = [0; 8];
    timeout(PATIENCE, stream.read_exact(&mut have)).await.unwrap().unwrap();
    (stream, usize::try_from(u64::from_be_bytes(have)).unwrap())
}

async fn send(stream: &mut Stream, chunk: &[u8]) {
    let length = u32::try_from(chunk.len()).unwrap();
    stream.write_all(&length.to_be_bytes()).await.unwrap();
    stream.write_all(&crc32fast::hash(chunk).to_be_bytes()).await.unwrap();
    stream.write_all(chunk).await.unwrap();
}

async fn answer(mut stream: Stream) -> Installed {
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    message::unpack(&answer).unwrap()
}

fn parts(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder.join("snapshots")).unwrap().flatten();
    names.map(|item| item.file_name().to_string_lossy().into_owned()).filter(|name| name.ends_with(".part")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_goes_on_where_it_broke_off() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sender = Node::start(folder.path(), 1, anywhere(), vec![], bootstrap()).await.unwrap();
    // It belongs to no group yet, and finds nobody to take it in.
    let nowhere = uri("127.0.0.1:1".parse().unwrap());
    let receiver = Node::start(other.path(), 2, anywhere(), vec![nowhere], None).await.unwrap();
    let join = Join {
        node: receiver.id,
        name: "late".to_owned(),
        boot: RequestId::from_u128(1),
        addresses: vec![uri(receiver.address)],
        release: "0".to_owned(),
    };
    sender.group.propose_one(Command::RegisterControl(control(join))).await.unwrap();
    fill(&sender, 1).await;
    sender.until("a session", |_| sender.peers.session(receiver.id).is_some()).await;
    let file = snapshot(&sender).await;
    let bytes = file.read_at(0, usize::try_from(file.size).unwrap()).unwrap();

    let (mut stream, have) = open(&sender, receiver.id, &file, 1).await;
    assert_eq!(have, 0);
    send(&mut stream, &bytes[..CHUNK]).await;
    send(&mut stream, &bytes[CHUNK..2 * CHUNK]).await;
    let gate = &receiver.group.engine().0.gate;
    receiver.until("two chunks arrive", |_| gate.received() == 2 * CHUNK as u64).await;
    drop(stream);

    let (mut stream, have) = open(&sender, receiver.id, &file, 1).await;
    assert_eq!(have, 2 * CHUNK, "it goes on");
    stream.write_all(&(CHUNK as u32).to_be_bytes()).await.unwrap();
    stream.write_all(&[0; 4]).await.unwrap();
    stream.write_all(&bytes[have..have + CHUNK]).await.unwrap();
    let refused = answer(stream).await.unwrap_err();
    assert_eq!(refused.code, Code::Corrupt, "{refused}");

    let (mut stream, have) = open(&sender, receiver.id, &file, 1).await;
    assert_eq!(have, 2 * CHUNK, "what was damaged on its way is not kept");
    send(&mut stream, &bytes[have..]).await;
    answer(stream).await.unwrap();
    receiver.until("the state is there", |group| group.state().kv_get("large/0").is_some()).await;
    assert_eq!(parts(other.path()), [""; 0], "nothing is left of it");

    // Whole, but not what a snapshot is: thrown away, and nothing breaks by it.
    fill(&sender, 2).await;
    let file = snapshot(&sender).await;
    let mut bytes = file.read_at(0, usize::try_from(file.size).unwrap()).unwrap();
    bytes[CHUNK] ^= 1;
    let (mut stream, _) = open(&sender, receiver.id, &file, 2).await;
    for chunk in bytes.chunks(CHUNK) {
        send(&mut stream, chunk).await;
    }
    let refused = answer(stream).await.unwrap_err();
    assert_eq!(refused.code, Code::Corrupt, "{refused}");
    assert_eq!(parts(other.path()), [""; 0]);
    assert!(receiver.group.state().kv_get("large/1").is_none());

    // A part of one, then another one: the first is gone.
    let (mut stream, _) = open(&sender, receiver.id, &file, 3).await;
    send(&mut stream, &bytes[..CHUNK]).await;
    receiver.until("a chunk is kept", |_| parts(other.path()).len() == 1).await;
    let before = parts(other.path());
    let (_stream, have) = open(&sender, receiver.id, &file, 4).await;
    let after = parts(other.path());
    assert!(have == 0 && after.len() == 1 && before != after, "{before:?} {after:?}");
    receiver.stop().await;
    sender.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_sends_only_what_a_late_node_lacks() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let leader = Node::start(folder.path(), 1, anywhere(), vec![], bootstrap()).await.unwrap();
    fill(&leader, 2).await;
    let file = snapshot(&leader).await;
    let applied = leader.group.status().applied.unwrap();
    leader.group.engine().0.raft.trigger().purge_log(applied).await.unwrap();
    leader.until("the log behind it is purged", |group| group.status().purged >= Some(applied)).await;

    // What a broken transfer has left behind: half of this snapshot, and more of an older one that is of no use.
    let folder = other.path().join("snapshots");
    fs::create_dir_all(&folder).unwrap();
    let half = usize::try_from(file.size / 2).unwrap();
    let id = PartialId { sender: leader.id, applied: file.meta.applied, size: file.size, stamp: file.stamp() };
    fs::write(folder.join(id.name()), file.read_at(0, half).unwrap()).unwrap();

    let late = Node::start(other.path(), 2, anywhere(), vec![uri(leader.address)], None).await.unwrap();
    late.until("it catches up", |group| group.state().kv_get("large/1").is_some()).await;
    late.until("that was by a snapshot", |group| group.storage().installs == 1).await;
    assert_eq!(late.group.storage().received, file.size - half as u64);
    late.stop().await;
    leader.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_was_damaged_on_disk_is_written_anew() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let leader = Node::start(folder.path(), 1, anywhere(), vec![], bootstrap()).await.unwrap();
    fill(&leader, 1).await;
    snapshot(&leader).await;
    let applied = leader.group.status().applied.unwrap();
    leader.group.engine().0.raft.trigger().purge_log(applied).await.unwrap();
    leader.until("the log behind it is purged", |group| group.status().purged >= Some(applied)).await;
    let names = || fs::read_dir(folder.path().join("snapshots")).unwrap().flatten().map(|item| item.path());
    let stored = names().next().unwrap();
    let mut bytes = fs::read(&stored).unwrap();
    bytes[CHUNK] ^= 1;
    // In place: the node has it open.
    fs::File::options().write(true).open(&stored).unwrap().write_all_at(&bytes, 0).unwrap();

    let late = Node::start(other.path(), 2, anywhere(), vec![uri(leader.address)], None).await.unwrap();
    late.until("it catches up", |group| group.state().kv_get("large/0").is_some()).await;
    let damaged = stored.with_extension("snap-damaged");
    assert_eq!(fs::read(damaged).unwrap(), bytes, "what was damaged is kept");
    assert!(leader.put("after", "1").await.is_ok() && !leader.group.is_damaged());
    late.stop().await;
    leader.stop().await;
}

/// Carries connections to `target` at about a megabyte a second.
async fn slow(listener: TcpListener, target: SocketAddr) {
    let mut links = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let Ok(far) = TcpStream::connect(target).await else { continue };
        let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
        links.spawn(carry(from_near, to_far));
        links.spawn(carry(from_far, to_near));
    }
}

async fn carry(mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        sleep(Duration::from_micros(count as u64)).await;
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_node_catches_up_while_others_write() {
    /// While the snapshot travels, more than these are written many times over.
    const ENTRIES: u64 = 50;
    let limits = Limits { pause: Duration::from_millis(20), entries: ENTRIES, ..Limits::default() };
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let leader = Node::start_within(folder.path(), 1, anywhere(), vec![], bootstrap(), limits).await.unwrap();
    fill(&leader, 5).await;
    let group = leader.group.clone();
    let mut writing = JoinSet::new();
    writing.spawn(async move {
        for number in 0.. {
            let key = format!("small/{}", number % 10);
            group.propose_one(Command::Kv(super::cluster::put(&key, &number.to_string()))).await.unwrap();
            // Less than the line carries.
            sleep(Duration::from_millis(5)).await;
        }
    });
    leader.until("the log is purged", |group| group.status().purged > Some(ENTRIES)).await;
    let listener = TcpListener::bind(anywhere()).await.unwrap();
    let through = uri(listener.local_addr().unwrap());
    writing.spawn(slow(listener, leader.address));
    let begun = leader.group.status().last;

    let late = Node::start_hidden(other.path(), 2, vec![through], limits).await.unwrap();
    late.until("it catches up", |group| group.status().applied.is_some() && group.status().applied >= begun).await;
    late.until("that was by a snapshot", |group| group.storage().installs == 1).await;
    let installs = late.group.storage().installs;
    let written = leader.group.status().last.unwrap() - begun.unwrap();
    assert!(written > 2 * ENTRIES, "{written} entries only were written meanwhile: that shows nothing");
    // It goes on by log: with every batch of entries the snapshot would have to come anew otherwise.
    let now = leader.group.status().last.unwrap();
    late.until("it goes on", |group| group.status().applied >= Some(now + 2 * ENTRIES)).await;
    assert_eq!((installs, late.group.storage().installs), (1, 1), "snapshots until it follows by log, and behind that");
    // An entry that is longer on its way than heartbeats are apart.
    leader.put("long", &"x".repeat(512 * 1024)).await.unwrap();
    late.until("the long entry", |group| group.state().kv_get("long").is_some()).await;
    leader
        .until("the log is bounded again", |group| {
            let status = group.status();
            status.last.unwrap() - status.purged.unwrap() < 100 * ENTRIES
        })
        .await;
    writing.shutdown().await;
    late.stop().await;
    leader.stop().await;
}
