//! `bench rpc`: client session → control node → worker and back, beside a bare relay and a bare echo.

use super::bare::{self, Bare, MESSAGE};
use super::children::{CLUSTER, Children};
use super::figures::{Case, Main, Round};
use super::load::{AsyncOperation, closed_loop};
use crate::RELEASE;
use crate::args::bench::Rpc;
use crate::output::Progress;
use anyhow::Context as _;
use longshore_transport::{Identity, Inbound, Keyring, Session, SessionOptions, dial, prove};
use longshore_wire::client::FromClient;
use longshore_wire::edge::ClassRequest;
use longshore_wire::{NodeId, Role, Transport, encode};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

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
    body: Vec<u8>,
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
        let node = NodeId::from_u128(ulid::Ulid::generate().into());
        let identity = Identity::new(node, Role::Client, CLUSTER, RELEASE);
        let keyring = Keyring::new(children.secret(Role::Client)?, Role::Client.name().to_owned());
        let link = dial(&bare::endpoint(transport, address), &bare::dial_options()?).await?;
        let proven = prove(link, &identity, &keyring, Role::Control).await?;
        let (session, inbound) = Session::start(proven, SessionOptions::default());
        let request = ClassRequest { class: "echo".to_owned(), body: Value::String("x".repeat(MESSAGE)) };
        let body = encode(&FromClient::Request { node: worker, request });
        Ok(Self { session, body, _inbound: inbound })
    }

    /// Keeps `in_flight` requests under way for `time`.
    pub(super) async fn round(&self, in_flight: u32, time: Duration) -> anyhow::Result<Round> {
        let clients = (0..in_flight).map(|_| self.session.clone()).collect();
        let (round, _) = closed_loop(clients, time, Ask(self.body.clone())).await?;
        Ok(round)
    }
}

/// One round trip.
#[derive(Clone)]
struct Ask(Vec<u8>);

impl AsyncOperation<Session> for Ask {
    async fn run(&self, session: Session) -> anyhow::Result<Session> {
        session.request(self.0.clone(), DEADLINE).await?;
        Ok(session)
    }
}
