//! What this node does for other control nodes, beside Raft: requests to its workers, joiners, archives, tunnels, output.
//!
//! Nothing here is passed on to a third node.

use crate::accept::Reception;
use crate::blobs::Supply;
use crate::credentials::Reporter;
use crate::identity::random_ulid;
use crate::leader::Presence;
use crate::peers::{Answer, Serve};
use crate::raft::Group;
use crate::reach::{Hop, Reach};
use crate::relay::{Bounds, Relay, Relays, json_reply};
use crate::splice::splice;
use crate::vitals::Examiner;
use longshore_state::{Command, ControlNode};
use longshore_transport::{Peer, Request, Stream};
use longshore_wire::peer::{Join, OpenPeer, PeerRequest};
use longshore_wire::{Code, Failure, RequestId, encode};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Time for a worker to answer a request that came through another node. The asker gives up earlier if it wants.
const WORKER: Duration = Duration::from_secs(300);

/// Answers other control nodes.
pub(crate) struct PeerService {
    pub(crate) group: Group,
    pub(crate) reach: Reach,
    pub(crate) relays: Relays,
    pub(crate) supply: Arc<Supply>,
    pub(crate) reception: Arc<Reception>,
    pub(crate) credentials: Reporter,
    pub(crate) presence: Arc<Presence>,
    pub(crate) vitals: Examiner,
}

impl Serve for PeerService {
    fn request(&self, from: Peer, request: PeerRequest) -> Answer<Result<Vec<u8>, Failure>> {
        match request {
            PeerRequest::Worker { node, request } => {
                let relays = self.relays.clone();
                let relay = Relay::json((RequestId::from_u128(random_ulid()), node), request, here());
                Box::pin(async move {
                    let reply = relays.ask(&relay).await?;
                    json_reply(&reply).map(|reply| encode(&reply))
                })
            }
            // Only those that are written in a rare form come here.
            PeerRequest::Relay(asked) => {
                let (relays, relay) = (self.relays.clone(), Relay::new(asked, here()));
                Box::pin(async move { relays.ask(&relay).await.map(Vec::from) })
            }
            PeerRequest::Outcome(of) => {
                let relays = self.relays.clone();
                Box::pin(async move { Ok(encode(&relays.outcome(of, here()).await?)) })
            }
            PeerRequest::CredentialUse { nodes_of } => {
                let credentials = self.credentials.clone();
                Box::pin(async move { Ok(encode(&credentials.here(nodes_of.as_deref()).await)) })
            }
            PeerRequest::Vitals => {
                let vitals = self.vitals.here();
                Box::pin(async move { Ok(encode(&vitals)) })
            }
            PeerRequest::Leaving => {
                tracing::info!(node = %from.node, "a control node is leaving");
                self.presence.leave(from.node, Instant::now());
                Box::pin(async { Ok(Vec::new()) })
            }
            PeerRequest::Join(join) => Box::pin(register(self.group.clone(), from, join)),
            PeerRequest::Raft { .. }
            | PeerRequest::Propose { .. }
            | PeerRequest::ReadIndex
            | PeerRequest::Confirm(_)
            | PeerRequest::Superseded => {
                Box::pin(async { Err(Failure::new(Code::Internal, "the group's requests are not answered here")) })
            }
        }
    }

    fn relay(&self, request: Request) -> Option<Request> {
        self.relays.take(request, Hop::Never)
    }

    fn open(&self, _from: Peer, head: OpenPeer, stream: Stream) -> Answer<()> {
        let (reach, supply, reception) = (self.reach.clone(), Arc::clone(&self.supply), Arc::clone(&self.reception));
        Box::pin(async move {
            match head {
                OpenPeer::PutBlob { digest, .. } => supply.serve_put(stream, digest).await,
                OpenPeer::GetBlob { digest } => supply.serve_get(stream, digest).await,
                OpenPeer::Tunnel { worker } => reception.tunnelled(worker, stream).await,
                OpenPeer::Logs { node, request } => match reach.logs_here(node, request).await {
                    Ok(output) => splice(stream, output).await,
                    Err(failure) => stream.reset(failure),
                },
                OpenPeer::Snapshot { .. } | OpenPeer::SnapshotChunks { .. } => {
                    stream.reset(Failure::new(Code::Internal, "the group's streams are not answered here"));
                }
            }
        })
    }
}

/// Bounds of what another control node asks.
fn here() -> Bounds {
    Bounds { hop: Hop::Never, deadline: Instant::now() + WORKER }
}

/// Registers a control node. The leader's membership loop takes every registered node into the group.
async fn register(group: Group, from: Peer, join: Join) -> Result<Vec<u8>, Failure> {
    if join.node != from.node {
        return Err(Failure::new(
            Code::Forbidden,
            format!("{} asks for somebody else ({}) to join", from.node, join.node),
        ));
    }
    tracing::info!(node = %join.node, name = join.name, "a control node asks to join");
    group.propose_one(Command::RegisterControl(control_node(join))).await.map(|_| Vec::new())
}

/// A joiner as the state knows it.
pub(crate) fn control_node(join: Join) -> ControlNode {
    let Join { node, name, boot, addresses, release } = join;
    ControlNode { node, name, boot, addresses, release }
}
