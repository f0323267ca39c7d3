//! `bench kv`: writes and reads over HTTP on three control nodes. Floor of a write: a synced append of 256 bytes on the same
//! disk, one after the other. Floor of a read: the same connections asking for `/livez`.

use super::children::Children;
use super::figures::{Case, Round};
use super::load::{AsyncOperation, closed_loop};
use crate::args::bench::Kv;
use crate::client::{Call, Connection, bytes};
use crate::output::Progress;
use anyhow::Context as _;
use hyper::Method;
use longshore_wire::Transport;
use serde_json::Value;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Control nodes.
const NODES: usize = 3;
/// Bytes of a value.
const VALUE: usize = 64;
/// Bytes of an append of the floor.
const APPEND: usize = 256;

/// What a case does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Put,
    Get,
    GetLocal,
    Livez,
}

impl What {
    const CASES: [Self; 3] = [Self::Put, Self::Get, Self::GetLocal];

    const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get linearizable",
            Self::GetLocal => "get local",
            Self::Livez => "livez",
        }
    }

    const fn floor(self) -> &'static [&'static str] {
        match self {
            Self::Put => &["fdatasync of 256 bytes, one after the other"],
            _ => &["livez over the same connections"],
        }
    }
}

pub(super) async fn kv(args: &Kv) -> anyhow::Result<Vec<Case>> {
    let pace = args.pace.wanted();
    let mut children = Children::new(args.data.as_deref())?;
    for _ in 0..NODES {
        children.control(&[Transport::Tls])?;
    }
    let voters = |members: &[Value]| members.iter().filter(|member| member["role"] == "voter").count() == NODES;
    children.wait("/v1/cluster", voters).await?;
    let mut cases: Vec<(What, u32, Case)> = Vec::new();
    for what in What::CASES {
        for clients in &args.clients {
            let name = format!("{}, {clients} client{}", what.name(), if *clients == 1 { "" } else { "s" });
            cases.push((what, *clients, Case::new(name, "operations/s", what.floor())));
        }
    }
    let most = args.clients.iter().max().copied().unwrap_or(1);
    let mut pool = clients(&children, most).await?;
    // Every key is there before it is read.
    pool = once(pool, What::Put).await?;
    let mut progress = Progress::new("measuring", u64::from(pace.rounds) * cases.len() as u64);
    for _ in 0..pace.rounds {
        for (what, count, case) in &mut cases {
            let rest = pool.split_off(*count as usize);
            let (ours, busy) = closed_loop(pool, pace.time, Operation(*what)).await?;
            let (floor, busy) = match what {
                What::Put => (sync_floor(children.folder(), pace.time).await?, busy),
                _ => closed_loop(busy, pace.time, Operation(What::Livez)).await?,
            };
            pool = busy;
            pool.extend(rest);
            // Clients come back in the order in which they ended; the nodes shall be used evenly by the few as well.
            pool.sort_by_key(|client| client.number);
            case.add(ours.figures(), [floor.figures()]);
            progress.add(1);
        }
    }
    Ok(cases.into_iter().map(|(_, _, case)| case).collect())
}

/// One client with its own connection and key.
struct OneClient {
    number: u32,
    connection: Connection,
}

async fn clients(children: &Children, count: u32) -> anyhow::Result<Vec<OneClient>> {
    let mut all = Vec::new();
    for number in 0..count {
        let connection = children.api(number as usize % NODES)?.connect().await?;
        all.push(OneClient { number, connection });
    }
    Ok(all)
}

async fn once(clients: Vec<OneClient>, what: What) -> anyhow::Result<Vec<OneClient>> {
    let mut done = Vec::new();
    for client in clients {
        done.push(Operation(what).run(client).await?);
    }
    Ok(done)
}

/// One operation of one client.
#[derive(Clone, Copy)]
struct Operation(What);

impl AsyncOperation<OneClient> for Operation {
    async fn run(&self, mut client: OneClient) -> anyhow::Result<OneClient> {
        let key = format!("/v1/kv/bench/{}", client.number);
        let call = match self.0 {
            What::Put => Call::new(Method::PUT, key).body(bytes(vec![b'x'; VALUE])),
            What::Get => Call::get(key),
            What::GetLocal => Call::get(key + "?consistency=local"),
            What::Livez => Call::get("/livez"),
        };
        client.connection.bytes(call).await.with_context(|| format!("client {}", client.number))?;
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
            file.write_all(&[b'x'; APPEND])?;
            file.sync_data()?;
            latencies.push(begin.elapsed());
        }
        Ok::<_, std::io::Error>(Round { latencies, elapsed: start.elapsed() })
    });
    measuring.await?.context("cannot measure the disk")
}
