//! `bench kv`: writes and reads on three control nodes, beside the installed etcd or ZooKeeper, and beside the floor. Floor of a
//! write: a synced append of 256 bytes on the same disk, one after the other. Floor of a read: the same number of connections
//! asking for `/livez`.
//!
//! Every store's clients are equally light, and spread over its nodes in the same way: the first one is at the leader.

mod etcd;
mod gap;
mod http;
mod http2;
mod keys;
mod line;
mod node;
mod session;
mod store;
mod zookeeper;

use super::figures::{Case, Figures, Round};
use super::load::{AsyncOperation, closed_loop};
use crate::args::bench::{self, Kv};
use crate::output::Progress;
use anyhow::Context as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use store::{Client, Kind, Store};
use tokio::time::timeout;

/// Nodes of every store.
const NODES: usize = 3;
/// Bytes of a value, and of an append of the floor.
const VALUE: usize = 256;

/// Time for one answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How often a new client is tried.
const ATTEMPTS: u32 = 3;

/// What a case does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Put,
    Get,
    GetLocal,
    Livez,
}

impl What {
    const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get linearizable",
            Self::GetLocal => "get local",
            Self::Livez => "livez",
        }
    }

    const fn floor(self) -> &'static str {
        match self {
            Self::Put => "fdatasync of 256 bytes, one after the other",
            _ => "livez",
        }
    }
}

impl From<bench::Operation> for What {
    fn from(operation: bench::Operation) -> Self {
        match operation {
            bench::Operation::Put => Self::Put,
            bench::Operation::Get => Self::Get,
            bench::Operation::GetLocal => Self::GetLocal,
        }
    }
}

/// The key of this number.
fn key(number: u32) -> String {
    format!("bench/{number:06}")
}

pub(super) async fn kv(args: &Kv) -> anyhow::Result<Vec<Case>> {
    let place = args.data.as_deref();
    // A peer that is missing is noticed first.
    let mut stores = Vec::new();
    for peer in &args.peer {
        stores.push(Store::peer(*peer, place).await?);
    }
    stores.insert(0, Store::ours(place, args.over).await?);
    match (args.keys, args.kills) {
        (Some(count), _) => keys::keys(count, stores).await,
        (None, Some(kills)) => gap::gaps(args, kills, stores).await,
        (None, None) => rates(args, stores).await,
    }
}

async fn rates(args: &Kv, stores: Vec<Store>) -> anyhow::Result<Vec<Case>> {
    let pace = args.pace.wanted();
    let peers: Vec<&'static str> = stores.iter().skip(1).map(Store::name).collect();
    let mut cases: Vec<(What, usize, Case)> = Vec::new();
    for what in args.operations.iter().copied().map(What::from) {
        for clients in &args.clients {
            let name = format!("{}, {clients} client{}", what.name(), if *clients == 1 { "" } else { "s" });
            let floors: Vec<&'static str> = peers.iter().copied().chain([what.floor()]).collect();
            cases.push((what, *clients as usize, Case::new(name, "operations/s", &floors)));
        }
    }
    let most = args.clients.iter().max().copied().unwrap_or(1);
    let mut sides = Vec::new();
    for store in &stores {
        let kind = store.kind()?;
        sides.push(Side::open(store, &kind, |node| store.address(node), most).await?);
    }
    let ours = stores.first().context("ours is always there")?;
    let mut livez = Side::open(ours, &Kind::Http, |node| ours.http_address(node), most).await?;
    let folder = super::children::folder(args.data.as_deref())?;
    let mut progress = Progress::new("measuring", u64::from(pace.rounds) * cases.len() as u64);
    for _ in 0..pace.rounds {
        for (what, count, case) in &mut cases {
            let mut figures = Vec::new();
            for side in &mut sides {
                figures.push(side.round(*what, *count, pace.time).await?);
            }
            figures.push(match what {
                What::Put => sync_floor(folder.path(), pace.time).await?.figures(),
                _ => livez.round(What::Livez, *count, pace.time).await?,
            });
            let ours = figures.remove(0);
            case.add(ours, figures);
            progress.add(1);
        }
    }
    Ok(cases.into_iter().map(|(_, _, case)| case).collect())
}

/// The clients of one store.
struct Side {
    name: &'static str,
    pool: Vec<OneClient>,
}

/// One client with its own connection and key.
struct OneClient {
    number: u32,
    client: Client,
}

impl Side {
    /// Connects; every client's key is written once, so that it is there before it is read.
    async fn open(
        store: &Store,
        kind: &Kind,
        address: impl Fn(usize) -> anyhow::Result<SocketAddr>,
        count: u32,
    ) -> anyhow::Result<Self> {
        let leader = store.leader().await?;
        let mut pool = Vec::new();
        for number in 0..count {
            let address = address((leader + number as usize) % NODES)?;
            let client = ready(kind, address, number).await.with_context(|| store.name())?;
            pool.push(OneClient { number, client });
        }
        Ok(Self { name: store.name(), pool })
    }

    async fn round(&mut self, what: What, count: usize, time: Duration) -> anyhow::Result<Figures> {
        let rest = self.pool.split_off(count);
        let busy = std::mem::take(&mut self.pool);
        let (round, busy) = closed_loop(busy, time, Operation(what)).await.context(self.name)?;
        self.pool = busy;
        self.pool.extend(rest);
        // Clients come back in the order in which they ended; the nodes shall be used evenly by the few as well.
        self.pool.sort_by_key(|client| client.number);
        Ok(round.figures())
    }
}

/// A client whose key is written. Tried again: a store may drop what comes first (ZooKeeper 3.8 leaves a new session without
/// an answer now and then, until somebody else comes).
async fn ready(kind: &Kind, address: SocketAddr, number: u32) -> anyhow::Result<Client> {
    for _ in 0..ATTEMPTS {
        if let Ok(client) = timeout(ANSWER, kind.connect(address)).await {
            let mut client = client?;
            client.run(What::Put, number).await?;
            return Ok(client);
        }
    }
    anyhow::bail!("{address} has not answered a new client within {ANSWER:?}, {ATTEMPTS} times")
}

/// One operation of one client.
#[derive(Clone, Copy)]
struct Operation(What);

impl AsyncOperation<OneClient> for Operation {
    async fn run(&self, mut client: OneClient) -> anyhow::Result<OneClient> {
        client.client.run(self.0, client.number).await.with_context(|| format!("client {}", client.number))?;
        Ok(client)
    }
}

/// What the disk can do.
async fn sync_floor(folder: &Path, time: Duration) -> anyhow::Result<Round> {
    let path = folder.join("floor");
    let measuring = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::create(&path)?;
        let start = Instant::now();
        let mut latencies = Vec::new();
        while start.elapsed() < time {
            let begin = Instant::now();
            file.write_all(&[b'x'; VALUE])?;
            file.sync_data()?;
            latencies.push(begin.elapsed());
        }
        Ok::<_, std::io::Error>(Round { latencies, elapsed: start.elapsed() })
    });
    measuring.await?.context("cannot measure the disk")
}
