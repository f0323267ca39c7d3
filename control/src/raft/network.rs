//! Raft's messages over the sessions that exist anyway. Opens none.

use super::confirm::Told;
use super::convert;
use super::linger::{self, LINGER};
use super::message::{self, Append, Appended, Installed, SnapshotHead, Succeed, Succeeded, VoteAsked, Voted};
use super::pin::Pin;
use super::transfer;
use super::types::{Snapshot, Types, Vote};
use crate::machine::{SnapshotFile, Snapshots};
use crate::peers::Peers;
use futures_util::stream::Stream;
use longshore_wire::peer::{CHUNKS_VERSION, OpenPeer, PeerRequest, RaftRpc, SUCCESSION_VERSION};
use longshore_wire::{Code, Failure, NodeId};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, OptionalSend};
use serde::{Serialize, de::DeserializeOwned};
use std::iter;
use std::time::Duration;
use tokio::time::sleep;

/// Pause before a message to a node that was not reached: finding that there is no session costs nothing.
const PAUSE: Duration = Duration::from_millis(200);

/// Hands out messengers; all share the peers' sessions.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) peers: Peers,
    pub(super) pin: Pin,
    pub(super) snapshots: Snapshots,
    pub(super) told: Told,
}

/// Carries messages to one node.
#[derive(Debug)]
pub(super) struct Messenger {
    peers: Peers,
    pin: Pin,
    snapshots: Snapshots,
    told: Told,
    target: NodeId,
}

/// Pause before a snapshot is offered again to a node without room for it.
const NO_ROOM: Duration = Duration::from_secs(2);

/// Time for entries to travel and be stored, instead of the engine's heartbeat interval: given up too early they would be
/// sent anew for ever on a narrow or long line. A line that is dead ends its session, and so the wait.
const APPEND: Duration = Duration::from_secs(10);

type RpcError = RPCError<Types>;

impl RaftNetworkFactory<Types> for Network {
    type Network = Messenger;

    async fn new_client(&mut self, target: NodeId, _node: &EmptyNode) -> Messenger {
        let Self { peers, pin, snapshots, told } = self.clone();
        Messenger { peers, pin, snapshots, told, target }
    }
}

impl Messenger {
    async fn send<M: Serialize, A: DeserializeOwned>(
        &self,
        rpc: RaftRpc,
        message: &M,
        timeout: Duration,
    ) -> Result<A, Failure> {
        let request = PeerRequest::Raft { rpc, body: message::pack(message) };
        let reply = self.peers.request(self.target, &request, timeout).await?;
        message::unpack(&reply)
    }

    /// Whether the peer knows pre-votes and the hand-over of leadership; `None` without a session.
    fn knows_succession(&self) -> Option<bool> {
        self.version().map(|version| version >= SUCCESSION_VERSION)
    }

    /// The protocol version that both speak; `None` without a session.
    fn version(&self) -> Option<u16> {
        self.peers.session(self.target).map(|session| session.peer().version)
    }

    /// Whether a snapshot that was found damaged elsewhere is damaged here.
    async fn is_damaged(&self, file: &SnapshotFile) -> bool {
        let (snapshots, file) = (self.snapshots.clone(), file.clone());
        tokio::task::spawn_blocking(move || snapshots.examine(&file)).await.unwrap_or(false)
    }

    async fn ask_vote(
        &self,
        rpc: RaftRpc,
        asked: &VoteRequest<Types>,
        option: &RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        let message = VoteAsked {
            candidate: convert::ballot(&asked.vote),
            last: asked.last_log_id.as_ref().map(convert::position),
            succession: asked.leadership_transfer,
        };
        let answer: Voted = self.send(rpc, &message, option.hard_ttl()).await.map_err(|error| rpc_error(&error))?;
        let last = answer.last.map(convert::log_id);
        Ok(VoteResponse::new(convert::vote(answer.ballot), last, answer.granted))
    }
}

/// After a timeout openraft may try again at once; without session, or refused, it shall wait a moment.
fn rpc_error(failure: &Failure) -> RpcError {
    match failure.code {
        Code::Timeout => RPCError::Network(NetworkError::new(failure)),
        _ => RPCError::Unreachable(Unreachable::new(failure)),
    }
}

impl RaftNetworkV2<Types> for Messenger {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RpcError> {
        if let Some(committed) = &rpc.leader_commit {
            self.told.note(committed.index);
        }
        let time = if rpc.entries.is_empty() { option.hard_ttl() } else { APPEND };
        let append = Append {
            leader: convert::ballot(&rpc.vote),
            previous: rpc.prev_log_id.as_ref().map(convert::position),
            entries: rpc.entries.into_iter().map(convert::entry).collect(),
            committed: rpc.leader_commit.as_ref().map(convert::position),
        };
        let answer = self.send(RaftRpc::Append, &append, time).await.map_err(|error| rpc_error(&error))?;
        Ok(match answer {
            Appended::All => AppendEntriesResponse::Success,
            Appended::UpTo(position) => AppendEntriesResponse::PartialSuccess(position.map(convert::log_id)),
            Appended::Conflict => AppendEntriesResponse::Conflict,
            Appended::Outvoted(ballot) => AppendEntriesResponse::HigherVote(convert::vote(ballot)),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let told = self.told.clone();
        stream_append_sequential(self, linger::fewer(input, told, LINGER), option)
    }

    async fn vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, RpcError> {
        self.ask_vote(RaftRpc::Vote, &rpc, &option).await
    }

    /// A peer that does not know the question is taken to agree: it is asked for its vote next.
    async fn pre_vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, RpcError> {
        match self.knows_succession() {
            Some(false) => Ok(VoteResponse::new(rpc.vote, None, true)),
            Some(true) | None => self.ask_vote(RaftRpc::PreVote, &rpc, &option).await,
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RpcError> {
        if self.knows_succession() == Some(false) {
            let older = Failure::new(Code::Unsupported, "an older release cannot take over the leadership on request");
            return Err(rpc_error(&older));
        }
        let succeed = Succeed {
            leader: convert::ballot(rpc.from_leader()),
            successor: *rpc.to_node_id(),
            last: rpc.last_log_id().map(convert::position),
        };
        let answer =
            self.send(RaftRpc::Succeed, &succeed, option.hard_ttl()).await.map_err(|error| rpc_error(&error))?;
        Ok(match answer {
            Succeeded::Yes => Ok(()),
            Succeeded::Outvoted(now) => {
                Err(TransferLeaderError::VoteChanged { expected: *rpc.from_leader(), actual: convert::vote(now) })
            }
            Succeeded::Behind(last) => Err(TransferLeaderError::LogNotFlushed {
                expected: rpc.last_log_id().copied(),
                actual: last.map(convert::log_id),
            }),
        })
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let head = SnapshotHead { leader: convert::ballot(&vote), meta: convert::meta(&snapshot.meta) };
        let unreachable = |failure: &Failure| StreamingError::Unreachable(Unreachable::new(failure));
        let (head, file) = (message::pack(&head), &snapshot.snapshot);
        let chunks = self.version() >= Some(CHUNKS_VERSION);
        let open = match chunks {
            true => OpenPeer::SnapshotChunks { head, size: file.size, stamp: file.stamp() },
            false => OpenPeer::Snapshot { head, size: file.size },
        };
        let sending = self.pin.send(file);
        if let Some(applied) = file.meta.applied {
            self.told.note(applied.index);
        }
        let mut stream = self.peers.open(self.target, &open).await.map_err(|failure| unreachable(&failure))?;
        tracing::info!(peer = %self.target, size = file.size, "sending a snapshot");
        let carrying = async {
            match chunks {
                true => transfer::send_rest(&mut stream, &snapshot).await,
                false => transfer::send_whole(&mut stream, &snapshot).await,
            }
        };
        let sent = tokio::select! {
            sent = carrying => sent,
            closed = cancel => {
                stream.reset(Failure::new(Code::Unavailable, "the leader has stopped sending"));
                return Err(closed.into());
            }
        };
        let answer = sent.map_err(|error| StreamingError::Network(NetworkError::new(&error)))?;
        let installed = message::unpack::<Installed>(&answer).and_then(|installed| installed);
        if installed.as_ref().is_err_and(|failure| failure.code == Code::NoSpace) {
            sleep(NO_ROOM).await;
        }
        if installed.as_ref().is_err_and(|failure| failure.code == Code::Corrupt) && self.is_damaged(file).await {
            sending.give_up();
        }
        let ballot = installed.map_err(|failure| unreachable(&failure))?;
        Ok(SnapshotResponse { vote: convert::vote(ballot) })
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(iter::repeat(PAUSE)))
    }
}
