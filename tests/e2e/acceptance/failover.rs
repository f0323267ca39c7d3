//! What is left when leaders die, pause, and all nodes go down at once.

use super::fleet::Fleet;
use super::{http, limit, scaled, seconds, within};
use crate::linear::{Dice, Door, Load, NONE, Plan, check, runtime};
use crate::process::{Cli, wait_for};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Writers of A12 and A16.
const WRITERS: usize = 4;
/// Bytes of their values: enough that half of one would show.
const VALUE: usize = 1000;

/// Members as (name, id, short id, generation, role, alive), and the leader, as a node sees them.
fn view(fleet: &Fleet, index: usize) -> Result<Value, String> {
    let status = fleet.get(index, "/v1/cluster")?;
    let member = |member: &Value| {
        let fields = ["name", "id", "short_id", "generation", "role", "alive"].map(|field| member[field].clone());
        Value::from(fields.to_vec())
    };
    let mut members: Vec<Value> = status["members"].as_array().ok_or("no members")?.iter().map(member).collect();
    members.sort_by_key(|member| member[0].to_string());
    Ok(serde_json::json!({"leader": status["leader_name"], "members": members}))
}

/// The leader, when all of `nodes` name the same one and it is not `former`.
fn agreed(fleet: &Fleet, nodes: &[usize], former: Option<usize>) -> Result<usize, String> {
    let leaders: Vec<usize> = nodes.iter().map(|node| fleet.leader(*node)).collect::<Result<_, _>>()?;
    let same = leaders.windows(2).all(|pair| pair[0] == pair[1]) && Some(leaders[0]) != former;
    if same { Ok(leaders[0]) } else { Err(format!("they name {leaders:?}")) }
}

fn others(fleet: &Fleet, without: &[usize]) -> Vec<usize> {
    (0..fleet.nodes.len()).filter(|index| !without.contains(index)).collect()
}

/// Kills the leader and brings it back.
fn fail_over(fleet: &mut Fleet, round: usize) {
    let all = others(fleet, &[]);
    let leader = wait_for("a leader", || agreed(fleet, &all, None));
    let rest = others(fleet, &[leader]);
    fleet.nodes[leader].kill();
    within(seconds(5), format!("round {round}: another leader"), || agreed(fleet, &rest, Some(leader)));
    fleet.nodes[leader].start(&[]);
    within(seconds(10), format!("round {round}: keys through every node"), || {
        for index in &all {
            let (key, value) = (format!("/v1/kv/a11/{round}/{index}"), format!("{round} {index}"));
            fleet.call(*index, "PUT", &key, value.as_bytes())?.good()?;
            let read = fleet.call((index + 1) % all.len(), "GET", &key, b"")?;
            if (read.status, &*read.body) != (200, value.as_bytes()) {
                return Err(format!("{key} is {read:?}"));
            }
        }
        Ok(())
    });
    within(seconds(10), format!("round {round}: the same view at every node"), || {
        let views: Vec<Value> = all.iter().map(|index| view(fleet, *index)).collect::<Result<_, _>>()?;
        let alive = views[0]["members"].as_array().is_some_and(|members| members.iter().all(|it| it[5] == true));
        let same = views.iter().all(|view| *view == views[0]);
        if alive && same { Ok(()) } else { Err(format!("{views:#?}")) }
    });
}

#[test]
fn a11_repeated_failover() {
    let mut fleet = Fleet::start(5, "");
    for round in 1..=scaled(2, 10) {
        fail_over(&mut fleet, round);
    }
}

/// Threads that write a key after the other through random nodes, each key once.
struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<BTreeMap<String, bool>>>,
}

impl Writers {
    fn start(apis: &[SocketAddr]) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let threads = (0..WRITERS).map(|writer| {
            let (apis, stop, acknowledged) = (apis.to_vec(), Arc::clone(&stop), Arc::clone(&acknowledged));
            std::thread::spawn(move || write(writer, &apis, &stop, &acknowledged))
        });
        Self { threads: threads.collect(), stop, acknowledged }
    }

    /// Waits until so many writes are acknowledged; each next one must come in time.
    fn wait(&self, wanted: usize) {
        for count in 1..=wanted {
            wait_for("another acknowledged write", || {
                let acknowledged = self.acknowledged.load(Ordering::SeqCst);
                if acknowledged >= count { Ok(()) } else { Err(format!("{acknowledged} of {wanted} so far")) }
            });
        }
    }

    /// Ends them; their keys, and whether the write was acknowledged.
    fn end(self) -> BTreeMap<String, bool> {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

fn write(writer: usize, apis: &[SocketAddr], stop: &AtomicBool, acknowledged: &AtomicUsize) -> BTreeMap<String, bool> {
    let (mut dice, mut keys) = (Dice(writer as u64), BTreeMap::new());
    while !stop.load(Ordering::SeqCst) {
        let key = format!("w{writer}/{}", keys.len());
        let path = format!("/v1/kv/{key}");
        let answer = http::call(apis[dice.below(apis.len())], "PUT", &path, value(&key).as_bytes());
        let good = answer.is_ok_and(|answer| answer.good().is_ok());
        acknowledged.fetch_add(usize::from(good), Ordering::SeqCst);
        keys.insert(key, good);
        std::thread::sleep(Duration::from_millis(5));
    }
    keys
}

fn value(key: &str) -> String {
    format!("{key}.").repeat(VALUE / (key.len() + 1))
}

/// Reads every key, through all nodes in turn.
fn assert_kept(fleet: &Fleet, keys: &BTreeMap<String, bool>) {
    let mut lost = Vec::new();
    let mut unacknowledged = (0, 0);
    for (number, (key, acknowledged)) in keys.iter().enumerate() {
        let path = format!("/v1/kv/{key}");
        let read = wait_for("an answer", || {
            let read = fleet.call(number % fleet.nodes.len(), "GET", &path, b"")?;
            if [200, 404].contains(&read.status) { Ok(read) } else { Err(format!("{read:?}")) }
        });
        match (read.status, acknowledged) {
            (200, _) if read.body != value(key).as_bytes() => lost.push(format!("{key} holds something else")),
            (404, true) => lost.push(format!("{key} is gone")),
            (status, false) => {
                unacknowledged.0 += 1;
                unacknowledged.1 += usize::from(status == 200);
            }
            _ => (),
        }
    }
    let (count, there) = unacknowledged;
    println!(
        "{} acknowledged writes, {} of them lost; {count} others, {there} of which were done",
        keys.len() - count,
        lost.len()
    );
    assert!(lost.is_empty(), "{lost:#?}");
}

fn apis(fleet: &Fleet) -> Vec<SocketAddr> {
    (0..fleet.nodes.len()).map(|index| fleet.api(index)).collect()
}

#[test]
fn a12_nothing_acknowledged_is_lost() {
    let mut fleet = Fleet::start(5, "");
    let writers = Writers::start(&apis(&fleet));
    for round in 1..=scaled(2, 10) {
        fail_over(&mut fleet, round);
    }
    writers.wait(scaled(100, 2000));
    assert_kept(&fleet, &writers.end());
}

#[test]
fn a14_reads_are_consistent() {
    let fleet = Fleet::start(3, "");
    let runtime = runtime();
    let sockets: Vec<PathBuf> = (0..3).map(|index| fleet.data(index).join("api.sock")).collect();
    let plan = Plan {
        clients: 8,
        keys: 5,
        per_key: usize::MAX,
        unknown_per_key: usize::MAX,
        pause: Duration::from_millis(10),
        seed: 14,
    };
    let load = Load::start(&runtime, plan, &sockets);
    load.book.wait_more(scaled(100, 1000));
    let leader = wait_for("a leader", || agreed(&fleet, &[0, 1, 2], None));
    let rest = others(&fleet, &[leader]);
    fleet.call(leader, "PUT", "/v1/kv/probe", b"old").unwrap().good().unwrap();
    let paused = Instant::now();
    fleet.nodes[leader].halt();
    within(seconds(5), "another leader", || agreed(&fleet, &rest, Some(leader)));
    fleet.call(rest[0], "PUT", "/v1/kv/probe", b"new").unwrap().good().unwrap();
    // These wait at its door: the first thing that it sees when it goes on, still thinking that it leads.
    let reads: Vec<_> = (0..20)
        .map(|_| {
            let mut door = Door::new(&sockets[leader]);
            runtime.spawn(async move { door.ask(seconds(30), ("GET", "/v1/kv/probe"), NONE, "").await })
        })
        .collect();
    load.book.wait_more(scaled(50, 500));
    std::thread::sleep(seconds(scaled(3, 10)).saturating_sub(paused.elapsed()));
    fleet.nodes[leader].signal(Signal::CONT);
    let replies = reads.into_iter().filter_map(|read| runtime.block_on(read).unwrap().ok());
    let good: Vec<_> = replies.filter(|reply| reply.status < 500).map(|reply| (reply.status, reply.body)).collect();
    println!("{} of 20 reads at the former leader were answered", good.len());
    assert!(good.iter().all(|(status, body)| *status == 200 && &**body == b"new"), "{good:?}");
    within(seconds(10), "a read at the former leader", || {
        let read = fleet.call(leader, "GET", "/v1/kv/probe", b"")?;
        if read.body == b"new" { Ok(()) } else { Err(format!("{read:?}")) }
    });

    let wanted = scaled(1_000, 5_000);
    while load.book.done() < wanted {
        load.book.wait_more(50);
    }
    let records = load.stop(&runtime).records();
    let verdict = check(&records).unwrap_or_else(|why| panic!("{why}"));
    println!("{verdict}");
    assert!(verdict.checked >= wanted && verdict.keys == 5, "{verdict}");

    let mut door = Door::new(&sockets[leader]);
    let mut stale = |path: &str| runtime.block_on(door.ask(seconds(10), ("GET", path), NONE, "")).unwrap().stale;
    for path in ["/v1/kv/probe?", "/v1/kv/absent?", "/v1/kv?prefix=probe&"] {
        assert!(!stale(path) && stale(&format!("{path}consistency=local")), "{path}");
    }
}

#[test]
fn a16_a_restart_of_all_nodes_at_once() {
    for count in [1, 5] {
        let mut fleet = Fleet::start(count, "");
        let all = others(&fleet, &[]);
        let writers = Writers::start(&apis(&fleet));
        writers.wait(scaled(100, 1000));
        let ids = |fleet: &Fleet| -> Result<Vec<Value>, String> {
            let view = view(fleet, 0)?;
            let members = view["members"].as_array().ok_or("no members")?.iter();
            Ok(members.map(|member| serde_json::json!([member[0], member[1], member[2]])).collect())
        };
        let before = ids(&fleet).unwrap();
        fleet.nodes.iter_mut().for_each(|node| node.kill());
        let keys = writers.end();
        fleet.nodes.iter_mut().for_each(|node| node.start(&[]));
        within(seconds(10), format!("{count} nodes: a leader"), || agreed(&fleet, &all, None));
        assert_eq!(wait_for("the members", || ids(&fleet)), before, "the same nodes with the same ids");
        assert_kept(&fleet, &keys);
    }
}

/// The events that a node tells behind one of them.
fn events(fleet: &Fleet, index: usize, after: Option<&str>) -> Result<Vec<Value>, String> {
    let cli = Cli::new(&format!("http://{}", fleet.api(index)));
    let after: Vec<&str> = after.map_or(vec![], |after| vec!["--after", after]);
    let output = cli.run(&[&["cluster", "events", "--no-follow", "-o", "json"], &after[..]].concat());
    let text = String::from_utf8(output.stdout).map_err(|error| error.to_string())?;
    text.lines().map(|line| serde_json::from_str(line).map_err(|error| error.to_string())).collect()
}

#[test]
fn a17_no_change_is_missed_during_an_election() {
    let mut fleet = Fleet::start(5, "");
    let all = others(&fleet, &[]);
    let is = |member: &Value, name: &str, role: &str| member[0] == name && member[4] == role;
    let (leader, learner) = wait_for("three voters and two learners", || {
        let (leader, view) = (agreed(&fleet, &all, None)?, view(&fleet, 0)?);
        let members = view["members"].as_array().ok_or("no members")?;
        let learners = all
            .iter()
            .copied()
            .filter(|index| members.iter().any(|member| is(member, &fleet.nodes[*index].name, "learner")));
        let learners: Vec<usize> = learners.collect();
        if learners.len() == 2 { Ok((leader, learners[0])) } else { Err(view.to_string()) }
    });
    let rest = others(&fleet, &[leader, learner]);
    let before = events(&fleet, rest[0], None).unwrap();
    let after = before.last().unwrap()["id"].as_str().unwrap().to_owned();
    let seeds: Vec<u8> = rest.iter().map(|index| u8::try_from(*index).unwrap()).collect();
    let joiner = fleet.add(&seeds);

    let start = Instant::now();
    fleet.nodes[leader].signal(Signal::KILL);
    fleet.nodes[learner].signal(Signal::KILL);
    fleet.nodes[joiner].start(&[]);
    assert!(start.elapsed() < limit(Duration::from_millis(100)), "{:?}", start.elapsed());
    let name = |index: usize| fleet.nodes[index].name.clone();
    let (dead, new) = ([name(leader), name(learner)], name(joiner));
    within(seconds(15), "the joiner in, the dead out", || {
        for index in rest.iter().copied().chain([joiner]) {
            agreed(&fleet, &[index], Some(leader))?;
            let view = view(&fleet, index)?;
            let members = view["members"].as_array().ok_or("no members")?;
            let joined = members.iter().any(|member| member[0] == *new && member[4].is_string() && member[5] == true);
            let stays = members.iter().any(|member| {
                dead.iter().any(|name| member[0] == **name) && (member[4].is_string() || member[5] == true)
            });
            if !joined || stays {
                return Err(view.to_string());
            }
        }
        // Whoever follows the events has been told of all of that, wherever it asks.
        for index in &rest {
            let told = events(&fleet, *index, Some(&after))?;
            let tells = |name: &str, fits: &dyn Fn(&Value) -> bool| {
                told.iter().any(|event| event["node"]["name"] == name && fits(event))
            };
            let gone = |event: &Value| event["event"] == "left" || event["node"]["state"] == "not_connected";
            let all_told =
                tells(&new, &|event| event["event"] == "joined") && dead.iter().all(|name| tells(name, &gone));
            if !all_told || told[0]["event"] != "resumed" {
                return Err(format!("{told:#?}"));
            }
        }
        Ok(())
    });
}
