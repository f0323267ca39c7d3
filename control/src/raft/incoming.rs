//! What the group answers to other control nodes.

use super::batcher;
use super::confirm;
use super::convert;
use super::group::Group;
use super::leader_link::not_leader;
use super::message::{self, Append, Appended, Installed, SnapshotHead, Succeed, Succeeded, VoteAsked, Voted};
use super::transfer::{self, Shipment};
use super::types::{Snapshot, Types};
use crate::log::{Entry, Payload};
use crate::machine::SnapshotFile;
use crate::peers::{Answer, Serve};
use longshore_transport::{Peer, Request, Stream};
use longshore_wire::peer::{Confirm, Confirmed, OpenPeer, PeerRequest, RaftRpc, ReadIndex};
use longshore_wire::{Code, Failure, NodeId, encode};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest, VoteRequest,
};
use std::fmt;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

impl Serve for Group {
    fn request(&self, from: Peer, request: PeerRequest) -> Answer<Result<Vec<u8>, Failure>> {
        let group = self.clone();
        Box::pin(async move { group.handle(from.node, request).await })
    }

    /// What comes with every write and read is begun on the session's reader.
    fn relay(&self, request: Request) -> Option<Request> {
        match PeerRequest::read_vital(&request.body) {
            Some(PeerRequest::Confirm(asked)) => request.answer(self.confirmed(asked)),
            Some(PeerRequest::Propose { body }) => self.take_proposals(&body, |taken| request.reply(taken)),
            Some(PeerRequest::Raft { rpc, body }) => {
                let (group, stop) = (self.clone(), self.engine().0.stop.clone());
                // A full disk may hold an append up for ever; dropped at the stop, the request is answered as unknown.
                let hearing = async move { request.reply(group.hear(rpc, &body).await) };
                self.spawn(async move {
                    stop.run_until_cancelled_owned(hearing).await;
                });
            }
            _ => return Some(request),
        }
        None
    }

    fn open(&self, from: Peer, head: OpenPeer, stream: Stream) -> Answer<()> {
        let group = self.clone();
        Box::pin(async move { group.handle_stream(from.node, head, stream).await })
    }
}

fn fault(error: impl fmt::Display) -> Failure {
    Failure::unknown(Code::Internal, error.to_string())
}

impl Group {
    /// Answers what a peer asks the group. Sessions that show nothing to [`Serve::relay`] bring all of it here.
    async fn handle(&self, from: NodeId, request: PeerRequest) -> Result<Vec<u8>, Failure> {
        match request {
            PeerRequest::ReadIndex => self.lead_read().await,
            PeerRequest::Raft { rpc, body } => self.hear(rpc, &body).await,
            PeerRequest::Confirm(asked) => Ok(self.confirmed(asked)),
            PeerRequest::Propose { body } => {
                let (told, taken) = oneshot::channel();
                self.take_proposals(&body, |outcomes| drop(told.send(outcomes)));
                taken
                    .await
                    .unwrap_or_else(|_| Err(Failure::unknown(Code::Unavailable, "this control node is stopping")))
            }
            PeerRequest::Join(_)
            | PeerRequest::Worker { .. }
            | PeerRequest::CredentialUse { .. }
            | PeerRequest::Vitals
            | PeerRequest::Leaving
            | PeerRequest::Superseded
            | PeerRequest::Relay(_)
            | PeerRequest::Outcome(_) => {
                Err(Failure::new(Code::Unsupported, format!("not for the Raft group (from {from})")))
            }
        }
    }

    /// Answers a Raft message.
    async fn hear(&self, rpc: RaftRpc, body: &[u8]) -> Result<Vec<u8>, Failure> {
        match rpc {
            RaftRpc::Append => self.append(message::unpack(body)?).await,
            RaftRpc::Vote | RaftRpc::PreVote => self.vote(rpc, &message::unpack(body)?).await,
            RaftRpc::Succeed => self.succeed(&message::unpack(body)?).await,
        }
    }

    async fn append(&self, append: Append) -> Result<Vec<u8>, Failure> {
        // A leader's own entries and the group's changes are small, and a disk that is full must not keep them off.
        let proposals = append.entries.iter().filter(|entry| matches!(entry.payload, Payload::Proposals(_)));
        self.engine().0.room.take(proposals.map(Entry::size).sum())?;
        let request = AppendEntriesRequest::<Types> {
            vote: convert::vote(append.leader),
            prev_log_id: append.previous.map(convert::log_id),
            entries: append.entries.into_iter().map(convert::raft_entry).collect(),
            leader_commit: append.committed.map(convert::log_id),
        };
        let answer = match self.engine().0.raft.append_entries(request).await.map_err(fault)? {
            AppendEntriesResponse::Success => {
                self.engine().hear();
                Appended::All
            }
            AppendEntriesResponse::PartialSuccess(id) => Appended::UpTo(id.as_ref().map(convert::position)),
            AppendEntriesResponse::Conflict => Appended::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Appended::Outvoted(convert::ballot(&vote)),
        };
        Ok(message::pack(&answer))
    }

    async fn vote(&self, rpc: RaftRpc, asked: &VoteAsked) -> Result<Vec<u8>, Failure> {
        let mut request = VoteRequest::new(convert::vote(asked.candidate), asked.last.map(convert::log_id));
        request.leadership_transfer = asked.succession;
        let raft = &self.engine().0.raft;
        let answer = match rpc {
            RaftRpc::PreVote => raft.pre_vote(request).await,
            _ => raft.vote(request).await,
        };
        let answer = answer.map_err(fault)?;
        let last = answer.last_log_id.as_ref().map(convert::position);
        Ok(message::pack(&Voted { ballot: convert::ballot(&answer.vote), granted: answer.vote_granted, last }))
    }

    async fn succeed(&self, asked: &Succeed) -> Result<Vec<u8>, Failure> {
        let leader = convert::vote(asked.leader);
        let request = TransferLeaderRequest::new(leader, asked.successor, asked.last.map(convert::log_id));
        let answer = match self.engine().0.raft.handle_transfer_leader(request).await.map_err(fault)? {
            Ok(()) => Succeeded::Yes,
            Err(TransferLeaderError::VoteChanged { actual, .. }) => Succeeded::Outvoted(convert::ballot(&actual)),
            Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
                Succeeded::Behind(actual.as_ref().map(convert::position))
            }
        };
        Ok(message::pack(&answer))
    }

    /// Only as leader: a chain of nodes that each take the next one for it must end somewhere.
    fn take_proposals(&self, body: &[u8], done: impl FnOnce(Result<Vec<u8>, Failure>) + Send + 'static) {
        if !self.is_leader() {
            return done(Err(not_leader()));
        }
        match batcher::unpack(body) {
            Ok((count, proposals)) => {
                self.begin_all(count, proposals, |outcomes| done(outcomes.map(|outcomes| message::pack(&outcomes))));
            }
            Err(refusal) => done(Err(refusal)),
        }
    }

    async fn lead_read(&self) -> Result<Vec<u8>, Failure> {
        if !self.is_leader() {
            return Err(not_leader());
        }
        let index = self.ask_read_index().await?;
        // The asker waits until it has applied as much.
        self.engine().0.told.hurry();
        Ok(encode(&ReadIndex { index }))
    }

    /// Tells a leader whether it still has this node's vote.
    fn confirmed(&self, asked: Confirm) -> Vec<u8> {
        encode(&Confirmed { holds: confirm::holds(self.engine(), asked) })
    }

    /// Takes a snapshot stream.
    pub(crate) async fn handle_stream(&self, from: NodeId, head: OpenPeer, mut stream: Stream) {
        let shipment = match head {
            OpenPeer::Snapshot { head, size } => Shipment::new(from, &head, size, None),
            OpenPeer::SnapshotChunks { head, size, stamp } => Shipment::new(from, &head, size, Some(stamp)),
            _ => Err(Failure::new(Code::Unsupported, "not for the Raft group")),
        };
        let installed: Installed = match shipment {
            Ok(shipment) => self.take_snapshot(&shipment, &mut stream).await,
            Err(failure) => Err(failure),
        };
        transfer::conclude(from, stream, &installed).await;
    }

    async fn take_snapshot(&self, shipment: &Shipment, stream: &mut Stream) -> Installed {
        let parts = &self.engine().0;
        // It is there twice for a while: as it came, and as it is kept.
        if !parts.room.fits(shipment.id.size.saturating_mul(2)) {
            return Err(parts.room.refusal());
        }
        let turn = parts.gate.enter().await?;
        let file = turn.receive(&parts.snapshots, shipment, stream).await?;
        self.install(&shipment.head, file).await
    }

    async fn install(&self, head: &SnapshotHead, file: SnapshotFile) -> Installed {
        let snapshot = Snapshot { meta: convert::snapshot_meta(&head.meta), snapshot: file };
        let raft = &self.engine().0.raft;
        let response = raft.install_full_snapshot(convert::vote(head.leader), snapshot).await.map_err(fault)?;
        self.engine().0.installs.fetch_add(1, Ordering::Relaxed);
        Ok(convert::ballot(&response.vote))
    }
}
