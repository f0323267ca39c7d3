//! `bench rpc`: client session → control node → worker and back, beside a bare relay and a bare echo.

use super::bare::{self, Bare, MESSAGE};
use super::children::{CLUSTER, Children};
use super::figures::{Case, Main, Round};
use super::load::in_a_task;
use crate::RELEASE;
use crate::args::bench::Rpc;
use crate::output::Progress;
use anyhow::Context as _;
use futures_util::stream::{FuturesUnordered, TryStreamExt as _};
use longshore_transport::{Identity, Inbound, Keyring, Session, SessionOptions, dial, prove};
use longshore_wire::relay::RelayView;
use longshore_wire::{NodeId, RequestId, Role, Transport};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use ulid::Ulid;

/// The floors; what has to be compared with is the relay, which makes as many hops.
const FLOORS: &[&str] = &["bare relay", "bare echo"];
/// Deadline of one request.
const DEADLINE: Duration = Duration::from_secs(30);

pub(super) async fn rpc(args: &Rpc) -> anyhow::Result<Vec<Case>> {
    let pace = args.pace.wanted();
    let mut children = Children::new(None)?;
    let mut transports = args.transports.clone();
    transports.dedup();
    children.control(&transports)?;
    children.wait("/v1/nodes", |nodes| !nodes.is_empty()).await?;
    let names = transports.iter().map(|transport| children.worker(*transport)).collect::<Result<Vec<_>, _>>()?;
    let ready = |nodes: &[Value]| {
        let ready = |name: &&String| nodes.iter().any(|node| node["name"] == **name && node["state"] == "ready");
        names.iter().filter(ready).count() == names.len()
    };
    let nodes = children.wait("/v1/nodes", ready).await?;
    let mut lanes = Vec::new();
    for (transport, name) in transports.iter().zip(&names) {
        lanes.push(Lane::open(&children, *transport, worker(&nodes, name)?).await?);
    }
    let mut cases: Vec<(usize, u32, Case)> = Vec::new();
    for (number, lane) in lanes.iter().enumerate() {
        for in_flight in &args.in_flight {
            let name = format!("rpc over {}, {in_flight} in flight", lane.transport);
            let main = if *in_flight == 1 { Main::P50 } else { Main::Rate };
            cases.push((number, *in_flight, Case::new(name, "requests/s", FLOORS).about(main)));
        }
    }
    let mut progress = Progress::new("measuring", u64::from(pace.rounds) * cases.len() as u64);
    for _ in 0..pace.rounds {
        for (lane, in_flight, case) in &mut cases {
            let lane = lanes.get_mut(*lane).context("a lane for each transport")?;
            let ours = lane.asker.round(*in_flight, pace.time).await?;
            let relay = lane.relay.round(*in_flight, pace.time).await?;
            let echo = lane.echo.round(*in_flight, pace.time).await?;
            case.add(ours.figures(), [relay.figures(), echo.figures()]);
            progress.add(1);
        }
    }
    Ok(cases.into_iter().map(|(_, _, case)| case).collect())
}

/// The id of a worker in a list of nodes.
pub(super) fn worker(nodes: &Value, name: &str) -> anyhow::Result<NodeId> {
    let node = super::super::items(nodes).iter().find(|node| node["name"] == name);
    let id = node.and_then(|node| node["id"].as_str()).context("the worker is not listed")?;
    Ok(id.parse()?)
}

/// One transport: a session to a worker that is connected over it too, and its floors.
struct Lane {
    transport: Transport,
    asker: Asker,
    relay: Bare,
    echo: Bare,
}

impl Lane {
    async fn open(children: &Children, transport: Transport, worker: NodeId) -> anyhow::Result<Self> {
        let asker = Asker::open(children, transport, children.listening(transport)?, worker).await?;
        Ok(Self { transport, asker, relay: Bare::relay(transport).await?, echo: Bare::echo(transport).await? })
    }
}

/// A client session that asks one worker.
pub(super) struct Asker {
    session: Session,
    worker: NodeId,
    /// Nothing comes in; dropping it would end the session.
    _inbound: Inbound,
}

impl Asker {
    /// Opens a session with the control node at this address.
    pub(super) async fn open(
        children: &Children,
        transport: Transport,
        address: SocketAddr,
        worker: NodeId,
    ) -> anyhow::Result<Self> {
        let node = NodeId::from_u128(Ulid::generate().into());
        let identity = Identity::new(node, Role::Client, CLUSTER, RELEASE);
        let keyring = Keyring::new(children.secret(Role::Client)?, Role::Client.name().to_owned());
        let link = dial(&bare::endpoint(transport, address), &bare::dial_options()?).await?;
        let proven = prove(link, &identity, &keyring, Role::Control).await?;
        let (session, inbound) = Session::start(proven, SessionOptions::default());
        Ok(Self { session, worker, _inbound: inbound })
    }

    /// Keeps `in_flight` requests under way for `time`.
    pub(super) async fn round(&self, in_flight: u32, time: Duration) -> anyhow::Result<Round> {
        let (session, worker) = (self.session.clone(), self.worker);
        in_a_task(async move {
            let start = Instant::now();
            // No two requests of all rounds have the same id: a repeat would get the first one's outcome.
            let first = u128::from(Ulid::generate());
            let asking: FuturesUnordered<_> = (0..in_flight)
                .map(|number| ask_on(&session, worker, first ^ u128::from(number) << 32, (start, time)))
                .collect();
            let latencies: Vec<Vec<Duration>> = asking.try_collect().await?;
            Ok(Round { latencies: latencies.concat(), elapsed: start.elapsed() })
        })
        .await
    }
}

/// Asks again and again; says how long each answer took.
async fn ask_on(
    session: &Session,
    worker: NodeId,
    mut id: u128,
    (start, time): (Instant, Duration),
) -> anyhow::Result<Vec<Duration>> {
    let body = [b'x'; MESSAGE];
    let mut latencies = Vec::new();
    let mut begin = Instant::now();
    while begin - start < time {
        id += 1;
        let relay = RelayView { id: RequestId::from_u128(id), node: None, class: "echo", body: &body };
        let answer = session.request(relay.for_peer(worker), DEADLINE).await?;
        anyhow::ensure!(*answer == body, "the echo answered something else");
        let end = Instant::now();
        latencies.push(end - begin);
        begin = end;
    }
    Ok(latencies)
}
