//! Keeps every control node supplied: spreads a new archive to a majority, fetches what the state names and the disk
//! lacks. Compares wishes with the disk; remembers nothing.

use super::{Blobs, copy_file, push_file};
use crate::peers::Peers;
use crate::raft::Group;
use longshore_transport::Stream;
use longshore_wire::edge::StreamResult;
use longshore_wire::peer::OpenPeer;
use longshore_wire::{Code, Digest, Failure, NodeId, encode};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The comparison is made at least so often.
const EVERY: Duration = Duration::from_secs(5);
/// One archive of the largest size over a slow line.
const TRANSFER: Duration = Duration::from_secs(600);
/// The last word on a stream must leave within this.
const LAST_WORD: Duration = Duration::from_secs(10);

/// Moves archives among control nodes.
#[derive(Debug)]
pub(crate) struct Supply {
    me: NodeId,
    blobs: Blobs,
    group: Group,
    peers: Peers,
    wanted: Notify,
}

impl Supply {
    pub(crate) fn new(me: NodeId, blobs: Blobs, group: Group, peers: Peers) -> Self {
        Self { me, blobs, group, peers, wanted: Notify::new() }
    }

    /// Somebody waits for an archive that is not here.
    pub(crate) fn hurry(&self) {
        self.wanted.notify_one();
    }

    /// Copies an archive to other control nodes until a majority of the voters hold it, this node included.
    ///
    /// # Errors
    /// [`Code::NoQuorum`] when too few take it.
    pub(crate) async fn spread(&self, digest: Digest, size: u64) -> Result<(), Failure> {
        let voters = self.group.status().voters;
        let needed = voters.len() / 2 + 1;
        let mut holders = usize::from(voters.contains(&self.me));
        let mut sending = JoinSet::new();
        for peer in voters.into_iter().filter(|voter| *voter != self.me) {
            sending.spawn(self.clone_sender(peer).put(digest, size));
        }
        let mut last = None;
        while holders < needed {
            match sending.join_next().await {
                Some(Ok(Ok(()))) => holders += 1,
                Some(Ok(Err(failure))) => last = Some(failure.message),
                Some(Err(_)) => last = Some("a transfer panicked".to_owned()),
                None => return Err(too_few(holders, needed, last)),
            }
        }
        Ok(())
    }

    fn clone_sender(&self, peer: NodeId) -> Sender {
        Sender { peer, blobs: self.blobs.clone(), peers: self.peers.clone() }
    }

    /// Answers [`OpenPeer::PutBlob`].
    pub(crate) async fn serve_put(&self, mut stream: Stream, digest: Digest) {
        let result = match self.blobs.keep(&digest) {
            true => StreamResult::Ok,
            false => match self.blobs.store(&mut stream, Some(digest)).await {
                Ok(_) => StreamResult::Ok,
                Err(failure) => StreamResult::Failed(failure),
            },
        };
        let last_word = async {
            stream.write_all(&encode(&result)).await?;
            stream.shutdown().await
        };
        if !matches!(tokio::time::timeout(LAST_WORD, last_word).await, Ok(Ok(()))) {
            tracing::debug!(%digest, "the sender of an archive left before the answer");
        }
    }

    /// Answers [`OpenPeer::GetBlob`].
    pub(crate) async fn serve_get(&self, mut stream: Stream, digest: Digest) {
        if !self.blobs.has(&digest) {
            return stream.reset(Failure::new(Code::NotFound, format!("archive {digest} is not on this node")));
        }
        if let Err(failure) = copy_file(&self.blobs.path(&digest), &mut stream).await {
            tracing::debug!(%digest, %failure, "an archive was not sent");
            stream.reset(failure);
        }
    }

    /// Fetches what is missing, for as long as the node runs.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.wanted.notified() => (),
                () = tokio::time::sleep(EVERY) => (),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.round() => (),
            }
        }
    }

    async fn round(&self) {
        let named: HashSet<Digest> = self.group.state().blobs().into_keys().collect();
        for digest in named.iter().filter(|digest| !self.blobs.has(digest)) {
            self.fetch(*digest).await;
        }
        let blobs = self.blobs.clone();
        match tokio::task::spawn_blocking(move || blobs.tidy(&named)).await {
            Ok(Ok(())) => (),
            Ok(Err(error)) => tracing::warn!(%error, "the folder of archives cannot be tidied"),
            Err(error) => tracing::error!(%error, "tidying the archives panicked"),
        }
    }

    async fn fetch(&self, digest: Digest) {
        for peer in self.peers.connected() {
            match tokio::time::timeout(TRANSFER, self.fetch_from(peer, digest)).await {
                Ok(Ok(())) => return tracing::info!(%digest, %peer, "archive fetched"),
                Ok(Err(failure)) => tracing::debug!(%digest, %peer, %failure, "archive not fetched"),
                Err(_) => tracing::warn!(%digest, %peer, "archive not fetched in time"),
            }
        }
    }

    async fn fetch_from(&self, peer: NodeId, digest: Digest) -> Result<(), Failure> {
        let stream = open(&self.peers, peer, &OpenPeer::GetBlob { digest }).await?;
        self.blobs.store(stream, Some(digest)).await.map(|_| ())
    }
}

/// Opens a stream to another control node.
async fn open(peers: &Peers, peer: NodeId, head: &OpenPeer) -> Result<Stream, Failure> {
    let away = || Failure::new(Code::Unavailable, format!("no session with control node {peer}"));
    peers.session(peer).ok_or_else(away)?.open(encode(head)).await
}

/// Sends one archive to one node.
struct Sender {
    peer: NodeId,
    blobs: Blobs,
    peers: Peers,
}

impl Sender {
    async fn put(self, digest: Digest, size: u64) -> Result<(), Failure> {
        let transfer = async {
            let stream = open(&self.peers, self.peer, &OpenPeer::PutBlob { digest, size }).await?;
            push_file(&self.blobs.path(&digest), stream).await
        };
        let late =
            |_| Err(Failure::new(Code::Timeout, format!("control node {} takes the archive too slowly", self.peer)));
        tokio::time::timeout(TRANSFER, transfer).await.unwrap_or_else(late)
    }
}

fn too_few(holders: usize, needed: usize, last: Option<String>) -> Failure {
    let reason = last.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let message = format!("the archive is on {holders} of the {needed} control nodes that must hold it{reason}");
    Failure::new(Code::NoQuorum, message)
}
