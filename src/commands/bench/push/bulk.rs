//! Bulk between two processes, over a bare connection and over a session's stream. What arrives is thrown away.

use super::super::bare::{self, Other};
use super::super::children::CLUSTER;
use crate::RELEASE;
use crate::args::bench::Kind;
use anyhow::Context as _;
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
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Bytes written at a time: what an archive is sent in.
const CHUNK: usize = 64 * 1024;
/// Bytes read at a time: what an archive is received in.
const TAKE: usize = 256 * 1024;

/// What the other end does with what comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sink {
    /// Nothing.
    Drop,
    /// Makes its digest.
    Digest,
}

/// A bare connection for bulk.
pub(super) struct Copying {
    io: Box<dyn Io>,
    _other: Other,
}

impl Copying {
    pub(super) async fn start(transport: Transport) -> anyhow::Result<Self> {
        let other = Other::start(Kind::Copy, transport, &[]).await?;
        Ok(Self { io: bare::connect(transport, other.address).await?, _other: other })
    }

    /// Sends so many bytes; the time until all have been taken.
    pub(super) async fn copy(&mut self, size: u64) -> anyhow::Result<Duration> {
        let start = Instant::now();
        self.io.write_u64(size).await?;
        send(&mut self.io, size).await?;
        self.io.flush().await?;
        anyhow::ensure!(self.io.read_u64().await? == size, "the other end took another number of bytes");
        Ok(start.elapsed())
    }
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

    /// Sends so many bytes over a stream; the time until all have been taken.
    pub(super) async fn send(&self, size: u64, sink: Sink) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let mut stream = self.session.open(vec![u8::from(sink == Sink::Digest)]).await?;
        send(&mut stream, size).await?;
        stream.shutdown().await?;
        anyhow::ensure!(stream.read_u64().await? == size, "the other end took another number of bytes");
        Ok(start.elapsed())
    }
}

async fn send(to: &mut (impl AsyncWrite + Unpin), size: u64) -> std::io::Result<()> {
    let chunk = vec![b'x'; CHUNK];
    let mut left = size;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        to.write_all(&chunk[..part]).await?;
        left -= part as u64;
    }
    Ok(())
}

/// The other end of [`Copying`].
pub(in super::super) async fn take_copies(mut io: Box<dyn Io>) -> anyhow::Result<()> {
    loop {
        let Ok(size) = io.read_u64().await else { return Ok(()) };
        let taken = take(&mut (&mut io).take(size), Sink::Drop).await?;
        io.write_u64(taken).await?;
        io.flush().await?;
    }
}

/// The other end of [`Streaming`].
pub(in super::super) async fn take_streams(link: Link, secret: &Path) -> anyhow::Result<()> {
    let secret = Secret::from_file(secret)?;
    let verifier = make_verifier(&secret, Role::Client.name(), Role::Client, MIN_ITERATIONS);
    let verifiers = |name: &str| (name == verifier.credential).then(|| verifier.clone());
    let me = Identity::new(NodeId::from_u128(1), Role::Control, CLUSTER, RELEASE);
    let proven = verify(link, &me, &verifiers).await?;
    let (_session, mut inbound) = Session::start(proven, SessionOptions::default());
    while let Some(incoming) = inbound.next().await {
        if let Incoming::Open { head, stream } = incoming {
            take_stream(stream, if head.first() == Some(&1) { Sink::Digest } else { Sink::Drop }).await?;
        }
    }
    Ok(())
}

async fn take_stream(mut stream: Stream, sink: Sink) -> anyhow::Result<()> {
    let taken = take(&mut stream, sink).await?;
    stream.write_u64(taken).await?;
    stream.shutdown().await.context("the answer is not taken")
}

async fn take(from: &mut (impl AsyncRead + Unpin), sink: Sink) -> std::io::Result<u64> {
    let mut digest = (sink == Sink::Digest).then(|| ring::digest::Context::new(&ring::digest::SHA256));
    let mut buffer = vec![0; TAKE];
    let mut taken = 0;
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(taken);
        }
        if let Some(digest) = &mut digest {
            digest.update(&buffer[..count]);
        }
        taken += count as u64;
    }
}
