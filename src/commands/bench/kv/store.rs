//! A running store of three nodes, ours or a peer's, and its clients.

use super::node::Node;
use super::{ANSWER, NODES, What, etcd, http, session, zookeeper};
use crate::args::bench::{Over, Peer};
use crate::client::Call;
use crate::commands::bench::children::Children;
use anyhow::Context as _;
use longshore_wire::Transport;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::time::timeout;

/// Time for a store to come up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(20);
/// Time for one request while a store comes up.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Three nodes. Killed when dropped.
pub(super) enum Store {
    Ours(Box<Children>, Over),
    Peer {
        peer: Peer,
        // Dropped before their folder goes.
        nodes: Vec<Node>,
        _folder: TempDir,
    },
}

impl Store {
    /// Starts ours.
    pub(super) async fn ours(place: Option<&Path>, over: Over) -> anyhow::Result<Self> {
        let mut children = Children::new(place)?;
        for _ in 0..NODES {
            // The peers' nodes speak plain TCP with each other as well.
            children.control(&[Transport::Tcp])?;
        }
        let voters = |members: &[Value]| members.iter().filter(|member| member["role"] == "voter").count() == NODES;
        children.wait("/v1/cluster", voters).await?;
        Ok(Self::Ours(Box::new(children), over))
    }

    /// Starts a peer's.
    pub(super) async fn peer(peer: Peer, place: Option<&Path>) -> anyhow::Result<Self> {
        let folder = super::super::children::folder(place)?;
        let mut nodes = match peer {
            Peer::Etcd => etcd::nodes(folder.path())?,
            Peer::Zookeeper => zookeeper::nodes(folder.path())?,
        };
        nodes.iter_mut().try_for_each(Node::start)?;
        let mut store = Self::Peer { peer, nodes, _folder: folder };
        store.until_up().await?;
        Ok(store)
    }

    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Ours(..) => "longshore",
            Self::Peer { peer, .. } => peer.name(),
        }
    }

    /// Where a node serves clients.
    pub(super) fn address(&self, node: usize) -> anyhow::Result<SocketAddr> {
        match self {
            Self::Ours(children, Over::Http) => children.api_address(node),
            Self::Ours(children, Over::Session) => children.listening_at(node),
            Self::Peer { nodes, .. } => Ok(nodes.get(node).context("there is no such node")?.address),
        }
    }

    /// What clients speak at these addresses.
    pub(super) fn kind(&self) -> anyhow::Result<Kind> {
        Ok(match self {
            Self::Ours(_, Over::Http) => Kind::Http,
            Self::Ours(children, Over::Session) => Kind::Session(session::Dialler::new(children)?),
            Self::Peer { peer, .. } => Kind::Peer(*peer),
        })
    }

    /// The same store through its HTTP API, for the floor of reads.
    pub(super) fn http_address(&self, node: usize) -> anyhow::Result<SocketAddr> {
        match self {
            Self::Ours(children, _) => children.api_address(node),
            Self::Peer { .. } => anyhow::bail!("only ours is asked for that"),
        }
    }

    /// The node that leads.
    pub(super) async fn leader(&self) -> anyhow::Result<usize> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            for node in 0..NODES {
                if timeout(ATTEMPT, self.leads(node)).await.is_ok_and(|leads| leads.unwrap_or(false)) {
                    return Ok(node);
                }
            }
            tokio::time::sleep(POLL).await;
        }
        anyhow::bail!("{} has no leader", self.name())
    }

    async fn leads(&self, node: usize) -> anyhow::Result<bool> {
        match self {
            Self::Ours(children, _) => {
                let cluster = children.api(node)?.json(Call::get("/v1/cluster")).await?;
                Ok(!cluster["node"].is_null() && cluster["leader"] == cluster["node"])
            }
            Self::Peer { peer: Peer::Etcd, .. } => etcd::Client::connect(self.address(node)?).await?.leads().await,
            Self::Peer { peer: Peer::Zookeeper, .. } => zookeeper::leads(self.address(node)?).await,
        }
    }

    /// Cuts a node with SIGKILL.
    pub(super) async fn kill(&mut self, node: usize) -> anyhow::Result<()> {
        match self {
            Self::Ours(children, _) => children.kill(&control(node)).await,
            Self::Peer { nodes, .. } => nodes.get_mut(node).context("there is no such node")?.kill().await,
        }
    }

    /// Starts a node again.
    pub(super) fn restart(&mut self, node: usize) -> anyhow::Result<()> {
        match self {
            Self::Ours(children, _) => children.restart(&control(node)),
            Self::Peer { nodes, .. } => nodes.get_mut(node).context("there is no such node")?.start(),
        }
    }

    /// A node's process id.
    pub(super) fn pid(&self, node: usize) -> anyhow::Result<u32> {
        match self {
            Self::Ours(children, _) => children.pid(&control(node)),
            Self::Peer { nodes, .. } => nodes.get(node).context("there is no such node")?.pid(),
        }
    }

    /// Waits until every node has carried out a write.
    pub(super) async fn until_up(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        for node in 0..NODES {
            let (kind, address) = (self.kind()?, self.address(node)?);
            let writes = || async { kind.connect(address).await?.run(What::Put, 0).await };
            while let Err(error) = timeout(ATTEMPT, writes()).await.unwrap_or_else(|late| Err(late.into())) {
                if let Self::Peer { nodes, .. } = self {
                    nodes.iter_mut().try_for_each(Node::check)?;
                }
                if start.elapsed() > PATIENCE {
                    return Err(error.context(format!("{} did not come up within {PATIENCE:?}", self.name())));
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }
}

fn control(node: usize) -> String {
    format!("control-{}", node + 1)
}

/// What a client speaks.
#[derive(Clone)]
pub(super) enum Kind {
    Http,
    Session(session::Dialler),
    Peer(Peer),
}

impl Kind {
    /// Connects.
    pub(super) async fn connect(&self, address: SocketAddr) -> anyhow::Result<Client> {
        Ok(match self {
            Self::Http => Client::Http(http::Client::connect(address).await?),
            Self::Session(dialler) => Client::Session(dialler.connect(address).await?),
            Self::Peer(Peer::Etcd) => Client::Etcd(etcd::Client::connect(address).await?),
            Self::Peer(Peer::Zookeeper) => Client::ZooKeeper(zookeeper::Client::connect(address).await?),
        })
    }
}

/// One client with its own connection.
pub(super) enum Client {
    Http(http::Client),
    Session(session::Client),
    Etcd(etcd::Client),
    ZooKeeper(zookeeper::Client),
}

impl Client {
    /// One operation on the key of this number.
    pub(super) async fn run(&mut self, what: What, number: u32) -> anyhow::Result<()> {
        let answer = async {
            match self {
                Self::Http(client) => client.run(what, number).await,
                Self::Session(client) => client.run(what, number).await,
                Self::Etcd(client) => client.run(what, number).await,
                Self::ZooKeeper(client) => client.run(what, number).await,
            }
        };
        timeout(ANSWER, answer).await.with_context(|| format!("no answer within {ANSWER:?}"))?
    }
}
