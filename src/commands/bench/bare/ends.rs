//! What the processes at the other end of a bare connection do, until it ends.
//!
//! As little as possible: a message is looked at only as far as its length says where it ends.

use super::{BUFFER, LENGTH, take};
use bytes::{BufMut as _, BytesMut};
use longshore_transport::Io;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Sends every message back.
pub(super) async fn echo(io: Box<dyn Io>) -> io::Result<()> {
    let (reader, writer) = tokio::io::split(io);
    forward(reader, writer).await
}

/// Passes every message on, and every answer back, each direction by itself.
pub(super) async fn relay(client: Box<dyn Io>, onward: Box<dyn Io>) -> io::Result<()> {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_echo, to_echo) = tokio::io::split(onward);
    tokio::select! {
        ended = forward(from_client, to_echo) => ended,
        ended = forward(from_echo, to_client) => ended,
    }
}

/// Passes on message by message; what has arrived together leaves together.
async fn forward(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut input = BytesMut::with_capacity(BUFFER);
    let mut output = BytesMut::with_capacity(BUFFER + LENGTH);
    while from.read_buf(&mut input).await? > 0 {
        while let Some(message) = take(&mut input) {
            output.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
            output.extend_from_slice(&message);
        }
        to.write_all(&output).await?;
        to.flush().await?;
        output.clear();
    }
    Ok(())
}
