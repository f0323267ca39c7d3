//! Sends an archive over a stream, and hears what became of it. Never reads more into memory than one buffer.

use longshore_transport::{Stream, failure_of};
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
/// Bytes sent at a time.
const CHUNK: usize = 64 * 1024;
/// Longest [`StreamResult`], in bytes.
const MAX_RESULT: u64 = 64 * 1024;

/// Sends a file; the receiver may answer before it has all of it.
///
/// # Errors
/// The receiver's failure, or that of the way to it.
pub(crate) async fn push_file(path: &Path, stream: Stream) -> Result<(), Failure> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let answer = read_result(&mut reader);
    tokio::pin!(answer);
    let sent = tokio::select! {
        biased;
        result = &mut answer => return result,
        sent = copy_file(path, &mut writer) => sent,
    };
    // A transfer that broke has its reason on the reading side, when the receiver gave one.
    let patience = if sent.is_ok() { RESULT } else { REASON };
    match (tokio::time::timeout(patience, answer).await, sent) {
        (Ok(result), _) => result,
        (Err(_), Err(failure)) => Err(failure),
        (Err(_), Ok(())) => Err(Failure::unknown(Code::Timeout, "the receiver of the archive does not confirm it")),
    }
}

/// Sends a file and finishes; no answer is expected.
///
/// # Errors
/// When the file cannot be read, or the receiver takes nothing.
pub(crate) async fn copy_file(path: &Path, writer: &mut (impl AsyncWriteExt + Unpin)) -> Result<(), Failure> {
    let unreadable = |error: io::Error| Failure::new(Code::Internal, format!("{}: {error}", path.display()));
    let mut file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = file.read(&mut buffer).await.map_err(unreadable)?;
        if count == 0 {
            break;
        }
        in_time(writer.write_all(&buffer[..count])).await?;
    }
    in_time(writer.shutdown()).await
}

async fn in_time(write: impl Future<Output = io::Result<()>>) -> Result<(), Failure> {
    match tokio::time::timeout(IDLE, write).await {
        Ok(result) => result.map_err(|error| broken(&error)),
        Err(_) => Err(Failure::new(Code::Timeout, "the receiver of the archive takes no more bytes")),
    }
}

async fn read_result(reader: &mut (impl AsyncReadExt + Unpin)) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    reader.take(MAX_RESULT).read_to_end(&mut bytes).await.map_err(|error| broken(&error))?;
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
