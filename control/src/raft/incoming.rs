//! What the group answers to other control nodes.

use super::batcher;
use super::convert;
use super::group::Group;
use super::leader_link::not_leader;
use super::message::{self, Append, Appended, Installed, SnapshotHead, Succeed, Succeeded, VoteAsked, Voted};
use super::types::{Snapshot, Types};
use crate::machine::SnapshotFile;
use crate::peers::{Answer, Serve};
use longshore_transport::{Peer, Stream};
use longshore_wire::peer::{OpenPeer, PeerRequest, RaftRpc, ReadIndex};
use longshore_wire::{Code, Failure, NodeId, encode};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest, VoteRequest,
};
use std::fmt;
use std::io::Write as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Bytes of a snapshot received and written at a time.
const CHUNK: usize = 256 * 1024;

impl Serve for Group {
    fn request(&self, from: Peer, request: PeerRequest) -> Answer<Result<Vec<u8>, Failure>> {
        let group = self.clone();
        Box::pin(async move { group.handle(from.node, request).await })
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
    /// Answers a peer's Raft message, proposal or question for a read index.
    pub(crate) async fn handle(&self, from: NodeId, request: PeerRequest) -> Result<Vec<u8>, Failure> {
        match request {
            PeerRequest::Raft { rpc: RaftRpc::Append, body } => self.append(message::unpack(&body)?).await,
            PeerRequest::Raft { rpc: rpc @ (RaftRpc::Vote | RaftRpc::PreVote), body } => {
                self.vote(rpc, &message::unpack(&body)?).await
            }
            PeerRequest::Raft { rpc: RaftRpc::Succeed, body } => self.succeed(&message::unpack(&body)?).await,
            PeerRequest::Propose { body } => self.take_proposals(&body).await,
            PeerRequest::ReadIndex => self.lead_read().await,
            PeerRequest::Join(_)
            | PeerRequest::Worker { .. }
            | PeerRequest::CredentialUse { .. }
            | PeerRequest::Vitals
            | PeerRequest::Leaving
            | PeerRequest::Relay(_)
            | PeerRequest::Outcome(_) => {
                Err(Failure::new(Code::Unsupported, format!("not for the Raft group (from {from})")))
            }
        }
    }

    async fn append(&self, append: Append) -> Result<Vec<u8>, Failure> {
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
    async fn take_proposals(&self, body: &[u8]) -> Result<Vec<u8>, Failure> {
        if !self.leadership().borrow().is_leader {
            return Err(not_leader());
        }
        let (count, proposals) = batcher::unpack(body)?;
        let outcomes = self.submit(count, proposals).await?;
        Ok(message::pack(&outcomes))
    }

    async fn lead_read(&self) -> Result<Vec<u8>, Failure> {
        if !self.leadership().borrow().is_leader {
            return Err(not_leader());
        }
        Ok(encode(&ReadIndex { index: self.ask_read_index().await? }))
    }

    /// Takes a snapshot stream.
    pub(crate) async fn handle_stream(&self, from: NodeId, head: OpenPeer, mut stream: Stream) {
        let installed: Installed = match head {
            OpenPeer::Snapshot { head, size } => {
                let received = self.receive(&head, size, &mut stream).await;
                match received {
                    Ok((head, file)) => self.install(&head, file).await,
                    Err(failure) => Err(failure),
                }
            }
            _ => Err(Failure::new(Code::Unsupported, "not for the Raft group")),
        };
        if let Err(failure) = &installed {
            tracing::warn!(peer = %from, %failure, "a snapshot was not installed");
        }
        let answer = message::pack(&installed);
        if stream.write_all(&answer).await.is_err() || stream.shutdown().await.is_err() {
            tracing::debug!(peer = %from, "the sender of a snapshot has gone");
        }
    }

    /// Writes the stream to a file and checks it. The name goes away here; the open file stays until it is installed.
    async fn receive(
        &self,
        head: &[u8],
        size: u64,
        stream: &mut Stream,
    ) -> Result<(SnapshotHead, SnapshotFile), Failure> {
        let head: SnapshotHead = message::unpack(head)?;
        let engine = self.engine();
        let incoming = engine.0.snapshots.incoming(engine.next_received());
        let mut file = incoming.create().map_err(fault)?;
        let mut left = size;
        let mut chunk = vec![0; CHUNK];
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let count = stream.read(&mut chunk[..wanted]).await.map_err(fault)?;
            if count == 0 {
                return Err(Failure::new(Code::Corrupt, format!("the snapshot ends {left} bytes early")));
            }
            left -= u64::try_from(count).unwrap_or(left);
            // Page cache only; the install syncs what it keeps.
            file.write_all(&chunk[..count]).map_err(fault)?;
        }
        let meta = head.meta.clone();
        let file = incoming.finish(meta).map_err(fault)?;
        Ok((head, file))
    }

    async fn install(&self, head: &SnapshotHead, file: SnapshotFile) -> Installed {
        let snapshot = Snapshot { meta: convert::snapshot_meta(&head.meta), snapshot: file };
        let raft = &self.engine().0.raft;
        let response = raft.install_full_snapshot(convert::vote(head.leader), snapshot).await.map_err(fault)?;
        Ok(convert::ballot(&response.vote))
    }
}
