//! `bench push --link`: round trips to a worker while an archive is pushed to it over a narrow line.
//!
//! How long a packet waits in the line's own queue is nobody's choice here: a full queue of 20 ms costs 20 ms, whatever
//! the session does. So the queue stands in the case's name.

use super::super::children::{Children, Place};
use super::super::figures::{Case, Figures, Main};
use super::super::rpc::{Asker, worker};
use super::line::{CONTROL, CONTROL_AT_LINE, Line, at};
use super::whole::{self, Seen};
use crate::args::bench::Push;
use crate::output::say;
use longshore_wire::{NodeId, Transport};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// What the worker dials, and what this process dials.
const PORTS: (u16, u16) = (8139, 8140);
/// Bytes a second that the line carries at most.
const LINE: f64 = 12.5e6;
/// Queues of the line, and the sender's congestion control.
const LINES: &[(&str, &str)] = &[("20ms", "cubic"), ("50ms", "cubic"), ("20ms", "bbr")];
/// Time for the push to begin.
const PATIENCE: Duration = Duration::from_secs(60);
/// Part of the line's rate that the push must at least use for the figures to mean something.
const BUSY: f64 = 0.5;

pub(super) async fn link(args: &Push) -> anyhow::Result<Vec<Case>> {
    if let Some(obstacle) = Line::obstacle() {
        say(&format!("skipped: {obstacle}"));
        return Ok(Vec::new());
    }
    let known = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control")?;
    let mut cases = Vec::new();
    for transport in &args.transport {
        for (queue, congestion) in LINES {
            if !known.split_whitespace().any(|name| name == *congestion) {
                say(&format!("skipped: this kernel has no congestion control '{congestion}' loaded"));
                continue;
            }
            cases.push(one(args, *transport, queue, congestion).await?);
        }
    }
    Ok(cases)
}

async fn one(args: &Push, transport: Transport, queue: &str, congestion: &str) -> anyhow::Result<Case> {
    let line = Line::new(queue, congestion)?;
    let mut children = Children::new(None)?;
    children.control_at(&Place {
        netns: Some(line.control.clone()),
        api: at(CONTROL, 8138),
        listen: vec![(transport, at(CONTROL_AT_LINE, PORTS.0)), (Transport::Tcp, at(CONTROL, PORTS.1))],
    })?;
    children.wait("/v1/nodes", |nodes| !nodes.is_empty()).await?;
    let name = "worker-1";
    children.worker_named(name, Some(&line.worker), transport)?;
    let ready = |nodes: &[Value]| nodes.iter().any(|node| node["name"] == name && node["state"] == "ready");
    let nodes = children.wait("/v1/nodes", ready).await?;
    let asker = open(&children, worker(&nodes, name)?).await?;

    let name = format!("round trip during a push over {transport}, 100 Mbit/s, queue {queue}, {congestion}");
    let mut case = Case::new(name.clone(), "requests/s", &["idle"]).about(Main::P99);
    let idle = asker.round(1, args.time).await?.figures();
    let size = (LINE * (args.time.as_secs_f64() * 1.2 + 1.0)) as u64;
    whole::wish(&children, size).await?;
    let cache = whole::cache(&children, "worker-1");
    let before = begun(&cache).await?;
    let busy = asker.round(1, args.time).await?;
    let moved = match whole::look(&cache) {
        Seen::Coming(bytes) => bytes.saturating_sub(before),
        _ => size - before,
    };
    let used = moved as f64 / busy.elapsed.as_secs_f64() / LINE;
    say(&format!("{name}: the push used {:.0} % of the line", used * 100.0));
    let figures = busy.figures();
    if used < BUSY {
        say(&format!("{name}: the line was not busy; the figures say little"));
    }
    let over = |figures: Figures| figures.p99_us.unwrap_or(f64::NAN) / 1e3;
    say(&format!("{name}: p99 {:.1} ms over idle", over(figures) - over(idle)));
    case.add(figures, [idle]);
    Ok(case)
}

async fn open(children: &Children, worker: NodeId) -> anyhow::Result<Asker> {
    Asker::open(children, Transport::Tcp, at(CONTROL, PORTS.1), worker).await
}

/// Waits for the first bytes; how many have come by then.
async fn begun(cache: &Path) -> anyhow::Result<u64> {
    let start = Instant::now();
    loop {
        match whole::look(cache) {
            Seen::Coming(bytes) if bytes > 0 => return Ok(bytes),
            Seen::Ready => anyhow::bail!("the push was over before it could be watched"),
            _ => anyhow::ensure!(start.elapsed() < PATIENCE, "the push did not begin within {PATIENCE:?}"),
        }
        sleep(Duration::from_millis(5)).await;
    }
}
