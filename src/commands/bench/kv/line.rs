//! A TCP connection as light load generators use it: whole messages out, and what has come in until a message is complete.

use anyhow::Context as _;
use bytes::{Buf as _, BytesMut};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Room for what arrives at once.
const BUFFER: usize = 4096;

/// One connection.
pub(super) struct Line {
    stream: TcpStream,
    arrived: BytesMut,
}

impl Line {
    pub(super) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("nobody answers at {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, arrived: BytesMut::with_capacity(BUFFER) })
    }

    /// Sends all of it.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// What has arrived and was not taken yet.
    pub(super) fn arrived(&self) -> &[u8] {
        &self.arrived
    }

    /// Waits for more.
    pub(super) async fn more(&mut self) -> anyhow::Result<()> {
        self.arrived.reserve(BUFFER);
        anyhow::ensure!(self.stream.read_buf(&mut self.arrived).await? > 0, "the server ended the connection");
        Ok(())
    }

    /// Waits until so many bytes are there.
    pub(super) async fn at_least(&mut self, length: usize) -> anyhow::Result<&[u8]> {
        while self.arrived.len() < length {
            self.more().await?;
        }
        Ok(self.arrived.get(..length).unwrap_or_default())
    }

    /// Drops so many bytes from the front.
    pub(super) fn taken(&mut self, length: usize) {
        self.arrived.advance(length);
    }
}
