//! Bulk between two processes, over a bare connection and over a session's stream. What arrives is thrown away.
//!
//! The other end listens and sends, this one has dialled and takes: so it is between a control node and a worker, and over
//! WebSocket only what the dialler sends is masked. Both take in a task, as a worker does: the first future of a runtime is woken
//! from another thread.

use super::super::bare::{self, Other};
use super::super::children::CLUSTER;
use super::super::load::in_a_task;
use crate::RELEASE;
use crate::args::bench::Kind;
use anyhow::Context as _;
use bytes::Bytes;
use longshore_transport::{
    Identity, Inbound, Incoming, Io, Keyring, Link, Secret, Session, SessionOptions, Stream, dial, make_verifier,
    prove, verify,
};
use longshore_wire::credential::MIN_ITERATIONS;
use longshore_wire::{NodeId, Role, Transport};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Bytes written at a time: what an archive is sent in.
const CHUNK: usize = 64 * 1024;
/// Bytes of a bare copy read at a time.
const TAKE: usize = 256 * 1024;

/// What is done with what comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sink {
    /// Nothing.
    Drop,
    /// Makes its BLAKE3 as it comes, as a worker does.
    Digest,
}

/// A bare connection for bulk.
pub(super) struct Copying {
    /// Absent while a copy runs, and after one has failed.
    io: Option<Box<dyn Io>>,
    _other: Other,
}

impl Copying {
    pub(super) async fn start(transport: Transport) -> anyhow::Result<Self> {
        let other = Other::start(Kind::Copy, transport, &[]).await?;
        Ok(Self { io: Some(bare::connect(transport, other.address).await?), _other: other })
    }

    /// Has so many bytes sent; the time until all have been taken.
    pub(super) async fn copy(&mut self, size: u64) -> anyhow::Result<Duration> {
        let mut io = self.io.take().context("the connection was lost in a former round")?;
        let (time, io) = in_a_task(async move { Ok((take_copy(&mut *io, size).await?, io)) }).await?;
        self.io = Some(io);
        Ok(time)
    }
}

async fn take_copy(io: &mut dyn Io, size: u64) -> anyhow::Result<Duration> {
    let start = Instant::now();
    io.write_u64(size).await?;
    io.flush().await?;
    let mut buffer = vec![0; TAKE];
    let mut left = size;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(TAKE).min(TAKE);
        let taken = io.read(&mut buffer[..most]).await?;
        anyhow::ensure!(taken > 0, "the other end has sent {left} bytes too few");
        left -= taken as u64;
    }
    Ok(start.elapsed())
}

/// A session for bulk.
pub(super) struct Streaming {
    session: Session,
    _inbound: Inbound,
    _other: Other,
    _secret: NamedTempFile,
}

impl Streaming {
    pub(super) async fn start(transport: Transport) -> anyhow::Result<Self> {
        let secret = Secret::generate()?;
        let mut file = NamedTempFile::new()?;
        file.write_all(secret.text().as_bytes())?;
        let more = ["--secret".to_owned(), file.path().display().to_string()];
        let other = Other::start(Kind::Stream, transport, &more).await?;
        let link = dial(&bare::endpoint(transport, other.address), &bare::dial_options()?).await?;
        let me = Identity::new(NodeId::from_u128(2), Role::Client, CLUSTER, RELEASE);
        let keyring = Keyring::new(secret, Role::Client.name().to_owned());
        let proven = prove(link, &me, &keyring, Role::Control).await?;
        let (session, inbound) = Session::start(proven, SessionOptions::default());
        Ok(Self { session, _inbound: inbound, _other: other, _secret: file })
    }

    /// Has so many bytes sent over a stream; the time until all have been taken.
    pub(super) async fn send(&self, size: u64, sink: Sink) -> anyhow::Result<Duration> {
        let session = self.session.clone();
        in_a_task(async move {
            let start = Instant::now();
            let mut stream = session.open(size.to_be_bytes().to_vec()).await?;
            stream.shutdown().await?;
            let taken = match sink {
                Sink::Drop => take(&mut stream).await?,
                Sink::Digest => digest(&mut stream).await?,
            };
            anyhow::ensure!(taken == size, "the other end has sent {taken} of {size} bytes");
            Ok(start.elapsed())
        })
        .await
    }
}

async fn take(stream: &mut Stream) -> std::io::Result<u64> {
    let mut taken = 0;
    while let Some(piece) = stream.chunk().await? {
        taken += piece.len() as u64;
    }
    Ok(taken)
}

async fn digest(stream: &mut Stream) -> std::io::Result<u64> {
    let mut hash = blake3::Hasher::new();
    while let Some(piece) = stream.chunk().await? {
        hash.update(&piece);
    }
    std::hint::black_box(hash.finalize());
    Ok(hash.count())
}

/// The other end of [`Copying`].
pub(in super::super) async fn give_copies(mut io: Box<dyn Io>) -> anyhow::Result<()> {
    let chunk = vec![b'x'; CHUNK];
    loop {
        let Ok(mut left) = io.read_u64().await else { return Ok(()) };
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            io.write_all(&chunk[..part]).await?;
            left -= part as u64;
        }
        io.flush().await?;
    }
}

/// The other end of [`Streaming`].
pub(in super::super) async fn give_streams(link: Link, secret: &Path) -> anyhow::Result<()> {
    let secret = Secret::from_file(secret)?;
    let verifier = make_verifier(&secret, Role::Client.name(), Role::Client, MIN_ITERATIONS);
    let verifiers = |name: &str| (name == verifier.credential).then(|| verifier.clone());
    let me = Identity::new(NodeId::from_u128(1), Role::Control, CLUSTER, RELEASE);
    let proven = verify(link, &me, &verifiers).await?;
    let (_session, mut inbound) = Session::start(proven, SessionOptions::default());
    while let Some(incoming) = inbound.next().await {
        if let Incoming::Open { head, stream } = incoming {
            let size = head.first_chunk().context("the head says how much")?;
            give_stream(stream, u64::from_be_bytes(*size)).await?;
        }
    }
    Ok(())
}

async fn give_stream(mut stream: Stream, mut left: u64) -> anyhow::Result<()> {
    let chunk = Bytes::from(vec![b'x'; CHUNK]);
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        stream.send(chunk.slice(..part)).await?;
        left -= part as u64;
    }
    stream.shutdown().await.context("the bytes are not taken")
}
