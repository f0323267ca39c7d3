//! Control nodes whose disks are full. Each has a small file system of its own, in memory; mounting needs root.

use crate::acceptance::http::{Answer, call};
use crate::cluster::{Cluster, Reach};
use crate::process::{PATIENCE, Process, wait_for};
use crate::small_disk::SmallDisk;
use serde_json::Value;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Size of a node's disk, and what the configuration calls low.
const SIZE: &str = "128m";
const LOW_MIB: &str = "16";

/// Three control nodes, each on a disk of its own.
struct Town {
    cluster: Cluster,
    // Behind the processes: they go first.
    disks: Vec<SmallDisk>,
}

impl Town {
    fn start(test: &str) -> Option<Self> {
        let mut cluster = Cluster::prepare(0, Reach::All);
        let folders = (1..=3).map(|number| cluster.dir.path().join(format!("control-{number}")));
        let disks: Result<Vec<SmallDisk>, String> = folders.map(|folder| SmallDisk::at(&folder, SIZE)).collect();
        let disks = match disks {
            Ok(disks) => disks,
            Err(why) => {
                // Past the capture of a test's output: a skip must be seen.
                drop(writeln!(io::stderr(), "\n!!! SKIPPED: {test} did not run and shows nothing: {why}\n"));
                return None;
            }
        };
        let low = |process: Process| process.with("LONGSHORE_LIMITS_DISK_LOW_MIB", LOW_MIB);
        cluster.controls = std::mem::take(&mut cluster.controls).into_iter().map(low).collect();
        cluster.start_controls();
        Some(Self { cluster, disks })
    }

    fn api(&self, index: usize) -> SocketAddr {
        SocketAddr::new(self.cluster.subnet.host(u8::try_from(index).unwrap() + 1), 8138)
    }

    fn get(&self, index: usize, path: &str) -> Result<Answer, String> {
        call(self.api(index), "GET", path, &[])
    }

    fn put(&self, index: usize, key: &str) -> Result<Answer, String> {
        call(self.api(index), "PUT", &format!("/v1/kv/{key}"), b"value")
    }

    fn is_ready(&self, index: usize) -> Result<(), String> {
        let answer = self.get(index, "/readyz?verbose")?;
        if answer.status == 200 { Ok(()) } else { Err(text(&answer)) }
    }

    /// Waits until the node says that it is full, and checks that it lives on.
    fn wait_full(&self, index: usize) {
        wait_for("a node that is not ready", || {
            let answer = self.get(index, "/readyz?verbose")?;
            let said = text(&answer);
            let told = answer.status == 503 && said.contains("[-] disk: ") && said.contains("make room there");
            if told { Ok(()) } else { Err(said) }
        });
        assert_eq!(self.get(index, "/livez").unwrap().status, 200);
        let metrics = text(&self.get(index, "/metrics").unwrap());
        assert!(metrics.contains("longshore_disk_short 1"), "{metrics}");
    }
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

#[test]
fn a_leader_with_a_full_disk_hands_over_and_comes_back() {
    let Some(town) = Town::start("a_leader_with_a_full_disk_hands_over_and_comes_back") else { return };
    let full = wait_for("a leader", || town.cluster.leader_seen_by(0));
    let (other, third) = ((full + 1) % 3, (full + 2) % 3);
    assert_eq!(town.put(full, "before").unwrap().status, 200);
    let writer = Writer::start(town.api(other), "during");
    writer.wait(20);

    town.disks[full].fill_but(0);
    town.wait_full(full);
    let now = wait_for("another leader", || match town.cluster.leader_seen_by(other)? {
        leader if leader == full => Err("the full one leads".to_owned()),
        leader => Ok(leader),
    });
    assert!([other, third].contains(&now));
    writer.wait(40);
    let local = town.get(full, "/v1/kv/before?consistency=local").unwrap();
    assert_eq!((local.status, &*local.body), (200, &b"value"[..]), "local reads are answered");
    let status: Value = wait_for("a status that tells", || {
        let status = town.cluster.cli(other).try_json(&["cluster", "status"])?;
        let name = &town.cluster.controls[full].name;
        let member = status["members"].as_array().unwrap().iter().find(|member| member["name"] == **name);
        let member = member.ok_or_else(|| status.to_string())?.clone();
        if member["disk_short"] == true { Ok(member) } else { Err(status.to_string()) }
    });
    assert_eq!(status["role"], "voter", "it stays what it is: {status}");

    town.disks[full].empty();
    wait_for("the node to be ready again", || town.is_ready(full));
    let (count, gap) = writer.end();
    println!("{count} writes; the longest pause between two, while the leader's disk filled up: {gap:?}");
    wait_for("everything on it", || {
        let last = town.get(full, &format!("/v1/kv/during/{}?consistency=local", count - 1))?;
        if last.status == 200 { Ok(()) } else { Err(text(&last)) }
    });
    for number in 0..count {
        assert_eq!(town.get(full, &format!("/v1/kv/during/{number}?consistency=local")).unwrap().status, 200);
    }
    let log = town.cluster.controls[full].log();
    assert_eq!(log.matches("the disk is nearly full").count(), 1, "it says so once");
    assert!(log.contains("there is room on the disk again"));
}

#[test]
fn three_full_disks_refuse_writes_and_lose_nothing() {
    let Some(mut town) = Town::start("three_full_disks_refuse_writes_and_lose_nothing") else { return };
    let writer = Writer::start(town.api(0), "kept");
    writer.wait(20);
    town.disks.iter().for_each(|disk| disk.fill_but(0));
    // Each attempt has a key of its own: the first ones may still be taken.
    let mut attempts = 0;
    let refused = wait_for("a refusal", || {
        attempts += 1;
        match town.put(1, &format!("refused/{attempts}"))? {
            answer if answer.status == 507 => Ok(answer),
            answer => Err(text(&answer)),
        }
    });
    let problem = refused.json().unwrap();
    assert_eq!((&problem["code"], &problem["outcome"]), (&"no_space".into(), &"not_done".into()), "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("control-") && detail.contains("make room there"), "{detail}");
    (0..3).for_each(|index| town.wait_full(index));
    let (count, _) = writer.end();
    assert_eq!(town.get(2, "/v1/kv/kept/0").unwrap().status, 200, "linearizable reads go on");

    // One that starts with a full disk lives, too.
    town.cluster.controls[2].kill();
    town.cluster.controls[2].start(&[]);
    wait_for("it to live", || town.get(2, "/livez").map(drop));
    town.wait_full(2);

    town.disks.iter().for_each(SmallDisk::empty);
    (0..3).for_each(|index| wait_for("the node to be ready again", || town.is_ready(index)));
    wait_for("writes", || match town.put(1, "after")? {
        answer if answer.status == 200 => Ok(()),
        answer => Err(text(&answer)),
    });
    println!("{count} writes were acknowledged before the disks were full");
    for number in 0..count {
        assert_eq!(town.get(1, &format!("/v1/kv/kept/{number}")).unwrap().status, 200, "acknowledged: {number}");
    }
    assert_eq!(town.get(1, &format!("/v1/kv/refused/{attempts}")).unwrap().status, 404, "refused is refused");
    town.cluster.wait_voters();
}

/// A thread that writes keys, each when the former one is acknowledged; what is not, it writes again.
struct Writer {
    count: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Writer {
    fn start(api: SocketAddr, name: &'static str) -> Self {
        let (count, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, stopped) = (Arc::clone(&count), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let (mut last, mut gap) = (Instant::now(), Duration::ZERO);
            while !stopped.load(Ordering::SeqCst) {
                let path = format!("/v1/kv/{name}/{}", counted.load(Ordering::SeqCst));
                if call(api, "PUT", &path, b"value").is_ok_and(|answer| answer.status == 200) {
                    gap = gap.max(last.elapsed());
                    last = Instant::now();
                    counted.fetch_add(1, Ordering::SeqCst);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            gap
        });
        Self { count, stop, thread }
    }

    /// Waits for so many more.
    fn wait(&self, more: usize) {
        let wanted = self.count.load(Ordering::SeqCst) + more;
        wait_for("writes", || match self.count.load(Ordering::SeqCst) {
            count if count >= wanted => Ok(()),
            count => Err(format!("{count} of {wanted}")),
        });
    }

    /// How many were acknowledged, and the longest time between two of them.
    fn end(self) -> (usize, Duration) {
        self.stop.store(true, Ordering::SeqCst);
        let gap = self.thread.join().unwrap();
        assert!(gap < PATIENCE);
        (self.count.load(Ordering::SeqCst), gap)
    }
}
