//! One handshake message on a link: a 4-byte big-endian length and a MessagePack body.
//!
//! It reads exactly one message and never a byte behind it: those belong to the session.

use super::HandshakeError;
use crate::link::Io;
use longshore_wire::handshake::MAX_MESSAGE;
use serde::Serialize;
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Sends a message; returns its raw body for the transcript.
pub(super) async fn send<T: Serialize>(
    io: &mut dyn Io,
    message: &T,
    stage: &'static str,
) -> Result<Vec<u8>, HandshakeError> {
    let body = longshore_wire::encode(message);
    let length = match u32::try_from(body.len()) {
        Ok(length) if body.len() <= MAX_MESSAGE => length,
        _ => return Err(HandshakeError::TooLong { length: body.len() }),
    };
    let framed = [&length.to_be_bytes(), body.as_slice()].concat();
    let sent = async {
        io.write_all(&framed).await?;
        io.flush().await
    };
    sent.await.map_err(|source| HandshakeError::Io { stage, source })?;
    Ok(body)
}

/// Receives a message's raw body. The length is checked before anything is allocated.
pub(super) async fn receive(io: &mut dyn Io, stage: &'static str) -> Result<Vec<u8>, HandshakeError> {
    let failed = |source: std::io::Error| match source.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            HandshakeError::Closed { stage }
        }
        _ => HandshakeError::Io { stage, source },
    };
    let mut length = [0; 4];
    io.read_exact(&mut length).await.map_err(failed)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_MESSAGE {
        return Err(HandshakeError::TooLong { length });
    }
    let mut body = vec![0; length];
    io.read_exact(&mut body).await.map_err(failed)?;
    Ok(body)
}
