//! What a store full of keys costs: memory of a node, and the time until a killed cluster answers again.

use super::store::{Kind, Store};
use super::{NODES, What};
use crate::commands::bench::figures::{Case, Figures};
use crate::commands::bench::process;
use crate::output::Progress;
use anyhow::Context as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Clients that write the keys.
const CLIENTS: u32 = 128;
/// Time after the last write before memory is looked at.
const SETTLE: Duration = Duration::from_secs(5);
/// Pause between two attempts to read.
const POLL: Duration = Duration::from_millis(10);
/// Time for one attempt.
const ATTEMPT: Duration = Duration::from_secs(1);
/// Time for a cluster to come back.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) async fn keys(count: u32, stores: Vec<Store>) -> anyhow::Result<Vec<Case>> {
    let names: Vec<&'static str> = stores.iter().skip(1).map(Store::name).collect();
    let mut memory = Vec::new();
    let mut restart = Vec::new();
    let mut progress = Progress::new("filling", u64::from(count) * stores.len() as u64);
    for mut store in stores {
        fill(&store, count, &mut progress).await.with_context(|| format!("cannot fill {}", store.name()))?;
        tokio::time::sleep(SETTLE).await;
        let all = (0..NODES).map(|node| process::resident(store.pid(node)?)).collect::<anyhow::Result<Vec<f64>>>()?;
        memory.push(Figures::rate(all.iter().sum::<f64>() / NODES as f64 / 1024.0));
        for node in 0..NODES {
            store.kill(node).await?;
        }
        let start = Instant::now();
        for node in 0..NODES {
            store.restart(node)?;
        }
        for node in 0..NODES {
            until_read(&store.kind()?, store.address(node)?, count - 1).await?;
        }
        restart.push(Figures::rate(start.elapsed().as_secs_f64()));
    }
    let case = |name: String, unit, mut figures: Vec<Figures>| {
        let mut case = Case::new(name, unit, &names);
        let ours = figures.remove(0);
        case.add(ours, figures);
        case
    };
    Ok(vec![
        case(format!("memory of a node, {count} keys"), "MiB resident", memory),
        case(format!("all killed and started again, {count} keys"), "s until every node reads", restart),
    ])
}

async fn fill(store: &Store, count: u32, progress: &mut Progress) -> anyhow::Result<()> {
    let mut writers = JoinSet::new();
    for first in 0..CLIENTS.min(count) {
        let (kind, address) = (store.kind()?, store.address(first as usize % NODES)?);
        writers.spawn(async move {
            let mut client = super::ready(&kind, address, first).await?;
            let mut written = 1;
            for number in (first..count).step_by(CLIENTS as usize).skip(1) {
                client.run(What::Put, number).await?;
                written += 1;
            }
            Ok::<_, anyhow::Error>(written)
        });
    }
    while let Some(written) = writers.join_next().await {
        progress.add(written??);
    }
    Ok(())
}

/// Waits until a linearizable read of this key succeeds.
async fn until_read(kind: &Kind, address: SocketAddr, number: u32) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let read = async { kind.connect(address).await?.run(What::Get, number).await };
        match tokio::time::timeout(ATTEMPT, read).await.unwrap_or_else(|late| Err(late.into())) {
            Ok(()) => return Ok(()),
            Err(error) if start.elapsed() > PATIENCE => return Err(error),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
