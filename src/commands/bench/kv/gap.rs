//! How long no write is acknowledged after the leader was killed.

use super::store::{Kind, Store};
use super::{NODES, What};
use crate::args::bench::Kv;
use crate::commands::bench::figures::{Case, Figures};
use crate::output::Progress;
use anyhow::Context as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Clients on each node that survives.
const CLIENTS: usize = 2;
/// A client gives up an answer, and its connection, after this, and tries again.
const ATTEMPT: Duration = Duration::from_millis(100);
/// Pause before that.
const PAUSE: Duration = Duration::from_millis(5);
/// Acknowledgements that may wait to be looked at.
const WAITING: usize = 1024;
/// Acknowledged writes before the leader is killed.
const BEFORE: usize = 100;
/// Acknowledged writes behind a pause, to know that it is over.
const AFTER: usize = 200;
/// No write takes so long while there is a leader, but every change of leaders does.
const STALL: Duration = Duration::from_millis(200);
/// Time for one change of leaders.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn gaps(args: &Kv, kills: u32, mut stores: Vec<Store>) -> anyhow::Result<Vec<Case>> {
    let names: Vec<&'static str> = stores.iter().skip(1).map(Store::name).collect();
    let mut case = Case::new("leader killed", "ms without an acknowledged write", &names);
    let kills = if args.pace.is_quick() { 1 } else { kills };
    let mut progress = Progress::new("killing leaders", u64::from(kills) * stores.len() as u64);
    for _ in 0..kills {
        let mut gaps = Vec::new();
        for store in &mut stores {
            let gap = gap(store).await.with_context(|| store.name())?;
            gaps.push(Figures::rate(gap.as_secs_f64() * 1e3));
            progress.add(1);
        }
        let ours = gaps.remove(0);
        case.add(ours, gaps);
    }
    Ok(vec![case])
}

/// Kills the leader, and brings it back.
async fn gap(store: &mut Store) -> anyhow::Result<Duration> {
    let leader = store.leader().await?;
    let (acknowledged, mut acknowledgements) = mpsc::channel(WAITING);
    let mut writers = JoinSet::new();
    for node in (0..NODES).filter(|node| *node != leader) {
        let (kind, address) = (store.kind()?, store.address(node)?);
        for _ in 0..CLIENTS {
            writers.spawn(write(kind.clone(), address, acknowledged.clone()));
        }
    }
    let watching = async {
        for _ in 0..BEFORE {
            acknowledgements.recv().await;
        }
        store.kill(leader).await?;
        let mut last = Instant::now();
        let (mut longest, mut after) = (Duration::ZERO, 0);
        while longest < STALL || after < AFTER {
            let at = acknowledgements.recv().await.context("the writers run until they are stopped")?;
            let pause = at.saturating_duration_since(last);
            after = if pause > longest { 0 } else { after + 1 };
            longest = longest.max(pause);
            last = at.max(last);
        }
        Ok::<_, anyhow::Error>(longest)
    };
    let gap = tokio::time::timeout(PATIENCE, watching).await.context("no other leader came")??;
    writers.shutdown().await;
    store.restart(leader)?;
    store.until_up().await?;
    Ok(gap)
}

/// Writes over and over, and says when a write was acknowledged.
async fn write(kind: Kind, address: SocketAddr, acknowledged: mpsc::Sender<Instant>) {
    let mut client = None;
    loop {
        let attempt = async {
            let mut writing = match client.take() {
                Some(client) => client,
                None => kind.connect(address).await?,
            };
            writing.run(What::Put, 0).await?;
            client = Some(writing);
            Ok::<_, anyhow::Error>(())
        };
        match tokio::time::timeout(ATTEMPT, attempt).await {
            Ok(Ok(())) => {
                if acknowledged.send(Instant::now()).await.is_err() {
                    return;
                }
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}
