//! Sends an archive over a stream, and hears what became of it. Never reads more into memory than one buffer.

use super::blocks::Blocks;
use bytes::Bytes;
use longshore_transport::{Heard, Stream, failure_of};
use longshore_wire::edge::StreamResult;
use longshore_wire::{Code, Failure, decode};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A receiver that takes nothing for so long has gone.
const IDLE: Duration = Duration::from_secs(30);
/// The receiver's last word comes after it has unpacked and synced the archive.
const RESULT: Duration = Duration::from_secs(60);
/// The reason of a reset arrives together with it, or not at all.
const REASON: Duration = Duration::from_secs(1);
/// Longest [`StreamResult`], in bytes.
const MAX_RESULT: u64 = 64 * 1024;

/// Sends a file; the receiver may answer before it has all of it.
///
/// # Errors
/// The receiver's failure, or that of the way to it.
pub(crate) async fn push_file(path: &Path, mut stream: Stream) -> Result<(), Failure> {
    let sent = send_file(path, &mut stream).await;
    // A transfer that broke has its reason on the reading side, when the receiver gave one.
    let (said, patience) = match &sent {
        Ok(said) => (said.clone(), RESULT),
        Err(_) => (None, REASON),
    };
    match (tokio::time::timeout(patience, read_result(&mut stream, said)).await, sent) {
        (Ok(result), _) => result,
        (Err(_), Err(failure)) => Err(failure),
        (Err(_), Ok(_)) => Err(Failure::unknown(Code::Timeout, "the receiver of the archive does not confirm it")),
    }
}

/// Sends a file and finishes; what the receiver says before that ends it.
async fn send_file(path: &Path, stream: &mut Stream) -> Result<Option<Bytes>, Failure> {
    let mut blocks = open(path).await?;
    while let Some(mut piece) = blocks.piece().await.map_err(|error| unreadable(path, &error))? {
        match in_time(stream.send_listening(&mut piece)).await? {
            None => {}
            Some(Heard::Bytes(bytes)) => return Ok(Some(bytes)),
            Some(Heard::End) => return Ok(None),
        }
    }
    in_time(stream.shutdown()).await?;
    Ok(None)
}

/// Sends a file and finishes; no answer is expected.
///
/// # Errors
/// When the file cannot be read, or the receiver takes nothing.
pub(crate) async fn copy_file(path: &Path, stream: &mut Stream) -> Result<(), Failure> {
    let mut blocks = open(path).await?;
    while let Some(piece) = blocks.piece().await.map_err(|error| unreadable(path, &error))? {
        in_time(stream.send(piece)).await?;
    }
    in_time(stream.shutdown()).await
}

async fn open(path: &Path) -> Result<Blocks, Failure> {
    Blocks::open(path).await.map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::Internal, format!("{}: {error}", path.display()))
}

async fn in_time<T>(write: impl Future<Output = io::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(IDLE, write).await {
        Ok(result) => result.map_err(|error| broken(&error)),
        Err(_) => Err(Failure::new(Code::Timeout, "the receiver of the archive takes no more bytes")),
    }
}

/// Reads the rest of the receiver's word.
async fn read_result(stream: &mut Stream, said: Option<Bytes>) -> Result<(), Failure> {
    let mut bytes = said.map(Vec::from).unwrap_or_default();
    stream.take(MAX_RESULT).read_to_end(&mut bytes).await.map_err(|error| broken(&error))?;
    let garbled =
        |error| Failure::unknown(Code::Internal, format!("the receiver of the archive answers wrongly: {error}"));
    match decode(&bytes).map_err(garbled)? {
        StreamResult::Ok => Ok(()),
        StreamResult::Failed(failure) => Err(failure),
    }
}

fn broken(error: &io::Error) -> Failure {
    let lost = || Failure::unknown(Code::Unavailable, format!("the archive's transfer broke off: {error}"));
    failure_of(error).cloned().unwrap_or_else(lost)
}
