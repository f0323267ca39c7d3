//! Linearizability: what clients were told while the cluster was broken in every way, checked by a library; and watches over
//! the same faults.
//!
//! A client writes down when it asked (`invoked`) and when it was told (`returned`), and what. An operation whose outcome
//! nobody knows has no end: it may take effect at any time, or never. Values are written once each, so every read says which
//! write it saw.

mod audit;
mod door;
mod faults;
mod ground;
mod history;
mod load;
mod observers;

pub(crate) use door::Door;
pub(crate) use history::check;
pub(crate) use load::{Dice, Load, NONE, Plan};

use crate::acceptance::{full, scaled};
use crate::process::{PATIENCE, wait_for};
use audit::audit;
use faults::{Fault, Nemesis};
use ground::Ground;
use history::{Answer, Wish};
use load::{Book, Client, PREFIX};
use observers::{Listed, Observer, list};
use rustix::process::Signal;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

/// One with two threads, for clients and observers.
pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Plan of eight clients on four keys at a time.
const PLAN: Plan =
    Plan { clients: 8, keys: 4, per_key: 150, unknown_per_key: 5, pause: Duration::from_millis(20), seed: 1 };

#[test]
fn a_history_under_faults_is_linearizable_and_watches_tell_all_of_it() {
    if full() {
        let round = [
            Fault::Kill,
            Fault::Cut,
            Fault::Stop,
            Fault::Mute,
            Fault::Voters(3),
            Fault::Deaf,
            Fault::Kill,
            Fault::Voters(5),
            Fault::Split,
            Fault::Bridge,
            Fault::Replace,
            Fault::KillAll,
        ];
        let mut faults = round.repeat(3);
        faults.push(Fault::FullDisk);
        run(5, &faults, 100, 20_000);
    } else {
        run(3, &[Fault::Kill, Fault::Stop, Fault::Mute, Fault::Cut], 50, 2_000);
    }
}

/// Eight clients, three observers, some faults; then everything is compared with everything.
fn run(controls: u8, faults: &[Fault], progress: usize, operations: usize) {
    let start = Instant::now();
    let mut ground = Ground::start("a_history_under_faults_is_linearizable", controls);
    let (runtime, sockets) = (runtime(), ground.sockets());
    let observers: Vec<Observer> =
        (0..3).map(|number| Observer::start(&runtime, &sockets, number % sockets.len(), 0)).collect();
    let load = Load::start(&runtime, PLAN, &sockets);
    load.book.wait_more(progress);
    let apart = ground.net().is_some();
    let mut nemesis = Nemesis {
        ground: &mut ground,
        book: &load.book,
        voters: usize::from(controls),
        progress,
        dice: Dice(PLAN.seed),
    };
    for fault in faults.iter().filter(|fault| apart || !fault.needs_root()) {
        nemesis.carry_out(*fault);
    }
    while load.book.done() < operations {
        load.book.wait_more(progress);
    }
    let book = load.stop(&runtime);
    let (last, end) = settle(&runtime, &sockets);
    let seen: Vec<_> = observers.into_iter().map(|observer| observer.stop(end)).collect();
    let records = book.records();
    let account = audit(&records, &seen, &last);
    let verdict = check(&records).unwrap_or_else(|why| panic!("{why}"));
    println!("{} operations in {:.1?}: {verdict}; {account}", records.len(), start.elapsed());
    assert!(verdict.checked >= operations, "{verdict}");
}

/// Writes a last key, and lists what there is; with the revision of that last change.
fn settle(runtime: &Runtime, sockets: &[PathBuf]) -> (Listed, u64) {
    let mut door = Door::new(&sockets[0]);
    let patience = Duration::from_secs(5);
    let mut number = 0;
    let end = wait_for("the last write", || {
        number += 1;
        let line = ("PUT", &*format!("/v1/kv/{PREFIX}end"));
        let reply = runtime.block_on(door.ask(patience, line, NONE, format!("end {number}")));
        reply.ok().filter(|reply| reply.status < 300).and_then(|reply| reply.revision).ok_or_else(String::new)
    });
    let listed = wait_for("a last listing", || {
        runtime.block_on(list(&mut door, patience)).ok_or_else(|| "no answer".to_owned())
    });
    (listed, end)
}

/// The same clients, books and check, with a read path that is broken on purpose: the check must see it.
#[test]
fn a_stale_read_that_is_passed_off_as_fresh_is_caught() {
    let mut ground = Ground::together(3);
    let (runtime, sockets) = (runtime(), ground.sockets());
    let book = Book::new(PLAN);
    let mut client = Client::new(book.clone(), 0, &sockets);
    let leader = ground.leader(&[0, 1, 2], None);
    let (behind, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let mut must = |node: usize, wish: Wish| {
        wait_for("an answer", || match runtime.block_on(client.act(node, 0, wish)) {
            answer @ (Answer::NotDone | Answer::Unknown) => Err(format!("{answer:?}")),
            answer => Ok(answer),
        })
    };
    let old = book.value();
    must(leader, Wish::Put(old));
    assert_eq!(must(behind, Wish::Get), Answer::Read(Some(old)));
    // One node misses a write, and comes back while nobody can tell it.
    ground.controls()[behind].kill();
    let new = book.value();
    must(leader, Wish::Put(new));
    ground.controls()[leader].halt();
    ground.controls()[third].halt();
    ground.controls()[behind].start(&[]);
    let mut broken = Client::new(book.clone(), 1, &sockets);
    let stale = wait_for("a stale read", || match runtime.block_on(broken.read_stale(behind, 0)) {
        Answer::Read(seen) => Ok(seen),
        answer => Err(format!("{answer:?}")),
    });
    assert_ne!(stale, Some(new), "nobody can have told it");
    // The true read path gives no answer then, and the newest value afterwards.
    let mut honest = Client::new(book.clone(), 2, &sockets);
    assert!(matches!(runtime.block_on(honest.act(behind, 0, Wish::Get)), Answer::NotDone | Answer::Unknown));
    for node in [leader, third] {
        ground.controls()[node].signal(Signal::CONT);
    }
    let fresh = wait_for("a fresh read", || match runtime.block_on(honest.act(behind, 0, Wish::Get)) {
        Answer::Read(seen) => Ok(seen),
        answer => Err(format!("{answer:?}")),
    });
    assert_eq!(fresh, Some(new));

    let records = book.records();
    let told = check(&records).expect_err("a stale read is in it");
    println!("{told}");
    assert!(told.contains("not linearizable") && told.contains(&format!("{:?}", Answer::Read(stale))), "{told}");
    let honest: Vec<_> = records.into_iter().filter(|record| record.client != 1).collect();
    check(&honest).unwrap_or_else(|why| panic!("{why}"));
}

/// A leader that is back before anybody misses it does not know what it had committed, and must not read before it does.
#[test]
fn a_leader_that_comes_back_at_once_reads_nothing_old() {
    let mut ground = Ground::together(3);
    let (runtime, sockets) = (runtime(), ground.sockets());
    let put = |node: usize, value: usize| {
        let mut door = Door::new(&sockets[node]);
        let line = ("PUT", "/v1/kv/newest");
        let reply = runtime.block_on(door.ask(PATIENCE, line, NONE, value.to_string())).unwrap();
        assert!(reply.status < 300, "{reply:?}");
    };
    for round in 0..scaled(3, 20) {
        let leader = ground.leader(&[0, 1, 2], None);
        let newest = round * 100 + 49;
        (round * 100..=newest).for_each(|value| put(leader, value));
        ground.controls().iter_mut().for_each(|control| control.kill());
        // Reads wait at the first node that is there again for a second one, which makes a majority.
        let second = (leader + 1) % 3;
        ground.controls()[leader].start(&[]);
        let read = |node: usize| {
            let mut door = Door::new(&sockets[node]);
            runtime.spawn(async move {
                loop {
                    match door.ask(PATIENCE, ("GET", "/v1/kv/newest"), NONE, "").await {
                        Ok(reply) if reply.status < 500 => return reply,
                        // It has not begun to listen, or knows no leader.
                        _ => tokio::time::sleep(Duration::from_millis(2)).await,
                    }
                }
            })
        };
        let reads: Vec<_> = (0..16).map(|number| read([leader, second][number % 2])).collect();
        let mut door = Door::new(&sockets[leader]);
        wait_for("the first node to be there", || {
            let reply = runtime.block_on(door.ask(PATIENCE, ("GET", "/livez"), NONE, ""));
            reply.map(drop).map_err(|lost| format!("{lost:?}"))
        });
        ground.controls()[second].start(&[]);
        for read in reads {
            let reply = runtime.block_on(async { tokio::time::timeout(PATIENCE, read).await });
            let reply = reply.expect("an answer in time").unwrap();
            assert_eq!((reply.status, &*reply.body), (200, newest.to_string().as_bytes()), "round {round}");
        }
        ground.controls()[3 - leader - second].start(&[]);
        ground.settle(3);
    }
}
