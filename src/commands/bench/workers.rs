//! `bench workers`: many idle workers on one control node, and how they come back after it was killed.
//!
//! ```text
//! this process: N × (dial ─▶ prove ─▶ session ─▶ attach, report) ═════▶ control node, a process of its own
//! ```
//!
//! The workers are real up to their tasks: discovery, supervisor and folders are left out. The control node is whole.

mod crowd;
mod handshakes;

use super::children::Children;
use super::figures::{Case, Figures};
use super::process;
use crate::args::bench::Workers;
use crate::output::{self, Progress};
use crate::run::raise_descriptors;
use anyhow::Context as _;
use crowd::Crowd;
use longshore_wire::Role;
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Name of the control node.
const CONTROL: &str = "control-1";
/// Time for all workers to be driven.
const PATIENCE: Duration = Duration::from_secs(180);
/// Time in which every worker should have had a ping answered.
const FIRST_PINGS: Duration = Duration::from_secs(15);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Files that a process needs besides its workers' sockets.
const OTHER_FILES: u64 = 300;
/// What the control node logs: only here it says when a ping is not answered.
const LOG: &str = "warn,longshore_transport::session::watchdog=debug";
/// A line of that.
const UNANSWERED: &str = "a ping is not answered";

pub(super) async fn workers(args: &Workers) -> anyhow::Result<Vec<Case>> {
    let needed = u64::from(args.count) + OTHER_FILES;
    if let Some(limit) = raise_descriptors().filter(|limit| *limit < needed) {
        anyhow::bail!(
            "{} workers need {needed} open files in each process; the hard limit is {limit} (ulimit -Hn)",
            args.count
        );
    }
    let alone = handshakes::measure(args.transport, args.count.min(handshakes::MOST)).await?;
    let mut children = Children::new(None)?;
    children.log(LOG);
    children.control(&[args.transport])?;
    children.wait("/v1/nodes", |nodes| !nodes.is_empty()).await?;
    sleep(args.settle.min(Duration::from_secs(3))).await;
    let empty = process::resident(children.pid(CONTROL)?)?;
    let crowd = Crowd::new(args.transport, children.listening(args.transport)?, &children.secret(Role::Worker)?)?;
    let arriving = Instant::now();
    (0..args.count).try_for_each(|number| crowd.start(number))?;
    all_driven(&crowd, args.count, "arriving").await?;
    let arrived = arriving.elapsed();
    let idle = idle(&children, &crowd, args, empty).await?;
    let back = killed(&mut children, &crowd, args).await?;
    Ok(cases(args, arrived, &idle, &back, alone))
}

/// What was seen while nothing happened.
struct Idle {
    kib: f64,
    unanswered: usize,
    lost: u64,
    pinged: usize,
    /// Of one core, in percent.
    busy: f64,
}

async fn idle(children: &Children, crowd: &Crowd, args: &Workers, empty: f64) -> anyhow::Result<Idle> {
    let settled = Instant::now();
    while settled.elapsed() < args.settle || (crowd.pinged() < args.count as usize && settled.elapsed() < FIRST_PINGS) {
        sleep(LOOK).await;
    }
    let pid = children.pid(CONTROL)?;
    let (unanswered, lost) = (children.logged(CONTROL, UNANSWERED)?, crowd.lost());
    let (cpu, start) = (process::cpu(pid)?, Instant::now());
    sleep(args.idle).await;
    if let Some(reason) = crowd.example().filter(|_| crowd.lost() > lost) {
        output::say(&format!("{} sessions were lost while idle, the last one: {reason}", crowd.lost() - lost));
    }
    let busy = (process::cpu(pid)? - cpu).as_secs_f64() / start.elapsed().as_secs_f64();
    Ok(Idle {
        kib: (process::resident(pid)? - empty) / f64::from(args.count),
        unanswered: children.logged(CONTROL, UNANSWERED)? - unanswered,
        lost: crowd.lost() - lost,
        pinged: crowd.pinged(),
        busy: busy * 100.0,
    })
}

/// What was seen after the control node was killed.
struct Back {
    /// From the start of the new process until it had founded its state again and the first worker was driven.
    first: Duration,
    /// Until the last worker was.
    all: Duration,
    /// Until the state of the cluster says so of all.
    listed: Duration,
    /// Processor time of the control node until then.
    cpu: Duration,
    /// Attempts of the workers that came to nothing meanwhile.
    failed: u64,
    example: Option<String>,
}

async fn killed(children: &mut Children, crowd: &Crowd, args: &Workers) -> anyhow::Result<Back> {
    let failed = crowd.failed();
    children.kill(CONTROL).await?;
    crowd.forget();
    let start = Instant::now();
    children.restart(CONTROL)?;
    let first = all_driven(crowd, 1, "coming back").await? - start;
    let all = all_driven(crowd, args.count, "coming back").await? - start;
    let cpu = process::cpu(children.pid(CONTROL)?)?;
    let ready = |nodes: &[Value]| nodes.iter().filter(|node| node["state"] == "ready").count() >= args.count as usize;
    children.wait("/v1/nodes", ready).await?;
    let listed = start.elapsed();
    Ok(Back { first, all, listed, cpu, failed: crowd.failed() - failed, example: crowd.example() })
}

/// Waits until so many workers are driven; says when that was.
async fn all_driven(crowd: &Crowd, count: u32, what: &str) -> anyhow::Result<Instant> {
    let start = Instant::now();
    let mut progress = Progress::new(what, u64::from(count));
    let mut shown = 0;
    loop {
        let driven = u64::from(crowd.driven());
        progress.add(driven.saturating_sub(shown));
        shown = shown.max(driven);
        if driven >= u64::from(count) {
            return crowd.last().context("a worker is driven since some time");
        }
        if start.elapsed() > PATIENCE {
            let example = crowd.example().unwrap_or_default();
            anyhow::bail!(
                "{driven} of {count} workers are driven after {PATIENCE:?}; one of the others says: {example}"
            );
        }
        sleep(LOOK).await;
    }
}

fn cases(args: &Workers, arrived: Duration, idle: &Idle, back: &Back, alone: Duration) -> Vec<Case> {
    let Workers { count, transport, .. } = args;
    let one = |name: String, unit, value: f64| {
        let mut case = Case::new(name, unit, &[]);
        case.add(Figures::rate(value), []);
        case
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let handshakes = alone.as_secs_f64() * f64::from(*count);
    let mut again = Case::new(
        format!("killed and started again: until all {count} are driven"),
        "s",
        &["the handshakes alone, on all cores"],
    );
    again.add(Figures::rate(back.all.as_secs_f64()), [Figures::rate(handshakes / cores as f64)]);
    if let Some(example) = back.example.as_ref().filter(|_| back.failed > 0) {
        output::say(&format!("{} attempts failed before all were back, the last one: {example}", back.failed));
    }
    vec![
        one(format!("memory of the control node per idle worker over {transport}"), "KiB", idle.kib),
        one(format!("sessions lost in {:?}", args.idle), "sessions", idle.lost as f64),
        one(format!("pings not answered in time in {:?}", args.idle), "pings", idle.unanswered as f64),
        one("workers whose pings were answered".to_owned(), "workers", idle.pinged as f64),
        one("control node while they are idle".to_owned(), "% of a core", idle.busy),
        one("first arrival: until all are driven".to_owned(), "s", arrived.as_secs_f64()),
        again,
        one("until the first one is driven".to_owned(), "s", back.first.as_secs_f64()),
        one("until the cluster's state says ready of all".to_owned(), "s", back.listed.as_secs_f64()),
        one("attempts that failed meanwhile".to_owned(), "attempts", back.failed as f64),
        one("the control node's processor time until all are driven".to_owned(), "s", back.cpu.as_secs_f64()),
        one("processor time of a handshake alone, both sides".to_owned(), "ms", alone.as_secs_f64() * 1e3),
    ]
}
