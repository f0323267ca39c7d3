//! Nodes come, go, die and are halted, and no number is ever held by two.

use super::fleet::Fleet;
use super::http::Connection;
use super::{full, scaled, seconds, within};
use crate::process::{PATIENCE, wait_for};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks at all nodes.
const EVERY: Duration = Duration::from_millis(200);
/// How many nodes live at least and at most.
const FEWEST: usize = 4;
const MOST: usize = 6;

/// Looks at every live node again and again, and notes each number that two hold.
struct Sampler {
    live: Arc<Mutex<Vec<SocketAddr>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<(usize, Vec<String>)>>,
}

impl Sampler {
    fn start() -> Self {
        let (live, stop) = (Arc::<Mutex<Vec<SocketAddr>>>::default(), Arc::<AtomicBool>::default());
        let (shared, ends) = (Arc::clone(&live), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let (mut looks, mut repeats) = (0, Vec::new());
            while !ends.load(Ordering::Relaxed) {
                let now = shared.lock().unwrap().clone();
                repeats.extend(repeated(&now));
                looks += now.len();
                std::thread::sleep(EVERY);
            }
            (looks, repeats)
        });
        Self { live, stop, thread: Some(thread) }
    }

    fn set(&self, fleet: &Fleet, live: &[usize]) {
        *self.live.lock().unwrap() = live.iter().map(|index| fleet.api(*index)).collect();
    }

    /// How often a node was looked at.
    fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let (looks, repeats) = self.thread.take().unwrap().join().unwrap();
        assert!(repeats.is_empty(), "{repeats:#?}");
        looks
    }
}

/// Numbers that two nodes hold in somebody's list, or two live nodes in their own eyes.
fn repeated(live: &[SocketAddr]) -> Vec<String> {
    let (mut repeats, mut own) = (Vec::new(), BTreeMap::<u64, String>::new());
    for api in live {
        // Whoever has just been killed or halted says nothing.
        let Ok((me, nodes)) = look(*api) else { continue };
        let mut listed = BTreeMap::<u64, String>::new();
        for node in nodes.as_array().into_iter().flatten() {
            let (Some(number), Some(id)) = (node["short_id"].as_u64(), node["id"].as_str()) else { continue };
            if let Some(other) = listed.insert(number, id.to_owned()) {
                repeats.push(format!("{api} lists {number} for {other} and {id}"));
            }
            if id == me
                && let Some(other) = own.insert(number, id.to_owned())
                && other != id
            {
                repeats.push(format!("{number} is held by {other} and {id}"));
            }
        }
    }
    repeats
}

/// Who a node is, and whom it knows of.
fn look(api: SocketAddr) -> Result<(String, Value), String> {
    let mut api = Connection::patient(api, Duration::from_secs(1))?;
    let nodes = api.call("GET", "/v1/nodes?consistency=local", &[], b"")?.good()?;
    let me = api.call("GET", "/v1/cluster", &["connection: close"], b"")?.good()?;
    Ok((me["node"].as_str().unwrap_or_default().to_owned(), nodes))
}

/// A generator of the same numbers for the same seed (Knuth's MMIX).
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % count
    }
}

/// Waits until all of `live`, and nobody else, are live members in the eyes of the leader; gives the leader.
fn settled(fleet: &Fleet, live: &[usize]) -> usize {
    wait_for("the nodes to be settled", || {
        let leader = fleet.leader(live[0])?;
        for index in live {
            fleet.itself(*index, leader)?;
            fleet.leader(*index)?;
        }
        let wanted = live.len().min(3);
        let members = fleet.members(leader)?;
        let vote = |member: &&Value| member["role"] == "voter" && member["alive"] == true;
        if members.iter().filter(vote).count() >= wanted { Ok(leader) } else { Err(format!("{members:#?}")) }
    })
}

#[test]
fn a4_no_number_is_held_by_two() {
    let mut fleet = Fleet::start(5, "[control]\non_stop = \"leave\"\n");
    let sampler = Sampler::start();
    let mut live: Vec<usize> = (0..5).collect();
    sampler.set(&fleet, &live);
    halt_and_join(&mut fleet, &mut live, &sampler);

    let mut dice = Dice(20);
    let steps = scaled(8, 200);
    let mut counts = [0; 5];
    let begun = Instant::now();
    for step in 0..steps {
        let leader = settled(&fleet, &live);
        let victim = live[dice.below(live.len())];
        let kind = match dice.below(5) {
            0 if live.len() >= MOST => 1,
            1 if live.len() <= FEWEST => 0,
            kind => kind,
        };
        counts[kind] += 1;
        println!(
            "step {step} at {:.1} s: {}",
            begun.elapsed().as_secs_f64(),
            ["join", "leave", "kill", "halt", "kill the leader"][kind]
        );
        match kind {
            0 => join(&mut fleet, &mut live),
            1 => {
                live.retain(|index| *index != victim);
                sampler.set(&fleet, &live);
                assert!(fleet.nodes[victim].terminate().success(), "{}", fleet.nodes[victim].log());
            }
            3 => {
                let others: Vec<usize> = live.iter().copied().filter(|index| *index != victim).collect();
                sampler.set(&fleet, &others);
                fleet.nodes[victim].halt();
                wait_for("the others to go on", || fleet.call(others[0], "PUT", "/v1/kv/a", b"1")?.good());
                fleet.nodes[victim].signal(Signal::CONT);
            }
            _ => {
                let victim = if kind == 4 { leader } else { victim };
                fleet.nodes[victim].kill();
                fleet.nodes[victim].start(&[]);
            }
        }
        sampler.set(&fleet, &live);
    }
    settled(&fleet, &live);
    println!("{steps} steps (joins, leaves, kills, halts, leaders killed: {counts:?}), {} looks", sampler.end());
}

fn join(fleet: &mut Fleet, live: &mut Vec<usize>) {
    let seeds: Vec<u8> = live.iter().map(|index| u8::try_from(*index).unwrap()).collect();
    let joiner = fleet.add(&seeds);
    fleet.nodes[joiner].start(&[]);
    live.push(joiner);
}

/// A member is halted for long, another one joins meanwhile, and the halted one comes back.
fn halt_and_join(fleet: &mut Fleet, live: &mut Vec<usize>, sampler: &Sampler) {
    let leader = settled(fleet, live);
    let halted = *live.iter().find(|index| **index != leader).unwrap();
    let before = fleet.itself(halted, leader).unwrap();
    fleet.nodes[halted].halt();
    let begun = Instant::now();
    let others: Vec<usize> = live.iter().copied().filter(|index| *index != halted).collect();
    sampler.set(fleet, &others);
    if full() {
        let gone = || match fleet.itself(halted, leader) {
            Ok(_) => Err("it counts as alive".to_owned()),
            Err(_) if begun.elapsed() < seconds(20) => Err(format!("{:?}", begun.elapsed())),
            Err(_) => Ok(()),
        };
        within(PATIENCE, "it is away for 20 s", gone);
    }
    join(fleet, live);
    let joiner = *live.last().unwrap();
    let joined = wait_for("the joiner", || fleet.itself(joiner, leader));
    assert_ne!(joined["short_id"], before["short_id"]);
    fleet.nodes[halted].signal(Signal::CONT);
    sampler.set(fleet, live);
    let back = fleet.joined(halted, leader, seconds(10));
    assert_eq!((&back["id"], &back["short_id"]), (&before["id"], &before["short_id"]), "it keeps its number");
}
