//! A task's output on its way to an operator.

use crate::tasklog::{Chunk, TaskLog};
use longshore_transport::{Stream, failure_of};
use longshore_wire::edge::LogRequest;
use longshore_wire::task::TaskStatus;
use longshore_wire::{Code, Failure, TaskId};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// How often a followed output is looked at.
const POLL: Duration = Duration::from_millis(150);

/// Sends what was asked for, then finishes the stream.
pub(crate) async fn serve(
    request: LogRequest,
    log: Option<Arc<TaskLog>>,
    statuses: watch::Receiver<Vec<TaskStatus>>,
    mut stream: Stream,
) {
    let Some(log) = log else {
        return stream.reset(Failure::new(Code::NotFound, format!("task '{}' is not on this worker", request.task)));
    };
    match send(&request, &log, &statuses, &mut stream).await {
        Ok(()) => {
            // A reader that has gone needs no end mark.
            let _ = stream.shutdown().await;
        }
        Err(error) if failure_of(&error).is_some() => tracing::debug!(%error, "a reader of an output has gone"),
        Err(error) => stream.reset(Failure::new(Code::Internal, format!("the output cannot be read: {error}"))),
    }
}

async fn send(
    request: &LogRequest,
    log: &Arc<TaskLog>,
    statuses: &watch::Receiver<Vec<TaskStatus>>,
    stream: &mut Stream,
) -> io::Result<()> {
    let lines = request.tail;
    let (mut at, end) = blocking(log, move |log| Ok((log.tail(lines)?, log.end()))).await?;
    loop {
        // Asked before the read: what the task wrote before it ended is then surely in it.
        let live = request.follow && is_live(statuses, &request.task);
        let Chunk { at: found, mut bytes } = blocking(log, move |log| log.read(at)).await?;
        if !request.follow {
            bytes.truncate(usize::try_from(end.saturating_sub(found)).unwrap_or(usize::MAX));
        }
        if bytes.is_empty() {
            if !live {
                return Ok(());
            }
            idle(stream).await?;
            continue;
        }
        at = found + bytes.len() as u64;
        stream.write_all(&bytes).await?;
        stream.flush().await?;
    }
}

/// Waits before the next look. A reader says nothing, so what its side shows is that it has gone: by a reset, or with the
/// session.
async fn idle(stream: &mut Stream) -> io::Result<()> {
    let pause = tokio::time::sleep(POLL);
    tokio::pin!(pause);
    let mut byte = [0];
    tokio::select! {
        biased;
        () = &mut pause => return Ok(()),
        read = stream.read(&mut byte) => read?,
    };
    // It has finished its own direction, which ends nothing.
    pause.await;
    Ok(())
}

/// Whether the task may still write.
fn is_live(statuses: &watch::Receiver<Vec<TaskStatus>>, task: &TaskId) -> bool {
    statuses.borrow().iter().any(|status| status.task == *task && !status.state.is_final())
}

async fn blocking<T: Send + 'static>(
    log: &Arc<TaskLog>,
    work: impl FnOnce(&TaskLog) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let log = Arc::clone(log);
    tokio::task::spawn_blocking(move || work(&log)).await.map_err(io::Error::other)?
}
