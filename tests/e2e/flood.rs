//! Ten thousand strangers who connect and say nothing: what they cost, and whom they hold up.

use crate::process::{PATIENCE, wait_for};
use crate::single::{Claim, Single, TCP_PORT};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpSocket;

/// Strangers.
const MANY: usize = 10_000;
/// Addresses that they come from; each has 500, far more than its share.
const ADDRESSES: u8 = 20;
/// What the node may grow by, in KiB: 10 KiB for each stranger, in a debug build.
const MAY_GROW: u64 = 100 * 1024;
/// A silent connection is closed after 5 s; the rest is for a machine that does other things, too.
const CLOSED_BY: Duration = Duration::from_secs(20);
/// "Within seconds". Behind the strangers, each of whom keeps a place for 5 s, it would take most of a minute.
const HONEST_WITHIN: Duration = Duration::from_secs(25);

/// A kilobyte count of /proc/PID/status.
fn memory(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_matches(|letter: char| !letter.is_ascii_digit()).parse().unwrap()
}

/// Open file descriptors: what the node holds of the strangers. A client also takes a connection for made that the system
/// has dropped on the other side, so its own count says less.
fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[derive(Default)]
struct Flood {
    closed: AtomicUsize,
    oldest_ms: AtomicU64,
    enough: AtomicBool,
}

/// Connects, says nothing, and comes back when it is thrown out, until it is enough.
async fn stranger(flood: Arc<Flood>, from: IpAddr, to: SocketAddr) {
    while !flood.enough.load(Relaxed) {
        let socket = TcpSocket::new_v4().unwrap();
        // Without it each connection would keep a port of the range for a minute.
        socket.set_zero_linger().unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        let Ok(mut stream) = socket.connect(to).await else { continue };
        let start = Instant::now();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        flood.closed.fetch_add(1, Relaxed);
        let age = u64::try_from(start.elapsed().as_millis()).unwrap();
        flood.oldest_ms.fetch_max(age, Relaxed);
        // Whoever is told to come back later does; a flood that does not would only measure this machine.
        if age < 1000 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Room for so many sockets; what the machine gives at most otherwise.
fn strangers() -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let most = limit.maximum.map_or(MANY, |maximum| usize::try_from(maximum).unwrap().saturating_sub(500));
    if most < MANY {
        println!("only {most} strangers: this machine gives a process no more file descriptors");
    }
    MANY.min(most)
}

#[test]
fn ten_thousand_silent_strangers_hold_up_nobody() {
    let many = strangers();
    let single = Single::start();
    let pid = single.control.pid();
    let to = SocketAddr::new(single.subnet.host(1), TCP_PORT);
    let (before, idle) = (memory(pid, "VmRSS:"), descriptors(pid));

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let flood = Arc::new(Flood::default());
    for number in 0..many {
        let from = single.subnet.host(100 + u8::try_from(number % usize::from(ADDRESSES)).unwrap());
        runtime.spawn(stranger(Arc::clone(&flood), from, to));
    }
    wait_for("all strangers", || {
        let held = descriptors(pid) - idle;
        if held * 10 >= many * 9 { Ok(()) } else { Err(format!("the node holds {held} of {many}")) }
    });

    let secret = single.dir.path().join("made/worker.secret");
    let claim = Claim { role: "worker", credential: "worker", secret: &secret, cluster: "test" };
    let start = Instant::now();
    let mut worker = single.peer("worker-1", claim, &format!("longshore://{to};transport=tcp"));
    worker.start(&[]);
    worker.wait_log(&["attached to the owner"]);
    let honest = start.elapsed();
    let open = descriptors(pid) - idle;
    let peak = memory(pid, "VmHWM:");

    flood.enough.store(true, Relaxed);
    wait_for("the strangers' end", || match descriptors(pid).saturating_sub(idle) {
        // The honest worker, and whoever looks at the API.
        0..20 => Ok(()),
        held => Err(format!("the node still holds {held}")),
    });
    let (closed, oldest) = (flood.closed.load(Relaxed), Duration::from_millis(flood.oldest_ms.load(Relaxed)));
    println!(
        "{many} silent strangers from {ADDRESSES} addresses ({open} held when an honest worker was in after {honest:?}): \
         control node {before} KiB before, {peak} KiB at its peak; {closed} closed, the oldest after {oldest:?}"
    );
    assert!(honest < HONEST_WITHIN, "an honest worker waits behind strangers: {honest:?}");
    assert!(peak - before < MAY_GROW, "{} KiB for {many} strangers", peak - before);
    assert!(oldest < CLOSED_BY.min(PATIENCE), "a silent connection lived {oldest:?}");
    assert!(single.known("worker-1"));
}

/// One address with everything that it can open: it is told so, and nobody else notices.
#[test]
fn one_address_cannot_take_all_places() {
    let single = Single::start();
    let to = SocketAddr::new(single.subnet.host(1), TCP_PORT);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let secret = single.dir.path().join("made/worker.secret");
    let claim = Claim { role: "worker", credential: "worker", secret: &secret, cluster: "test" };
    runtime.block_on(async {
        let mut crowd = Vec::new();
        for _ in 0..400 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_zero_linger().unwrap();
            socket.bind(SocketAddr::new(single.subnet.host(77), 0)).unwrap();
            crowd.push(socket.connect(to).await.unwrap());
        }
        let mut worker = single.peer("worker-1", claim, &format!("longshore://{to};transport=tcp"));
        worker.start(&[]);
        worker.wait_log(&["attached to the owner"]);
        // Those beyond the address's share waited for their turn in vain, and are told when to come back.
        let mut busy = 0;
        for mut one in crowd {
            let mut answer = Vec::new();
            let read = tokio::time::timeout(PATIENCE, one.read_to_end(&mut answer)).await;
            assert!(read.is_ok(), "a silent connection is not closed");
            if let Some(body) = answer.get(4..) {
                let text = String::from_utf8_lossy(body);
                assert!(text.contains("reject") && text.contains("retry_after_ms"), "{text}");
                busy += 1;
            }
        }
        println!("{busy} of 400 were told to come back later");
        assert!(busy > 200, "{busy} of 400");
    });
}
