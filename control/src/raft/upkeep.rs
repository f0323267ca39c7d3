//! Bounds the log in bytes. openraft counts entries only, and ours hold up to a thousand proposals each.

use super::engine::Engine;
use std::time::Duration;
use tokio::time::sleep;

/// How often the size is looked at.
const PAUSE: Duration = Duration::from_secs(1);
/// A snapshot is taken when so many bytes stand behind the last one: about what a restart replays in a second or two.
const SNAPSHOT_BYTES: usize = 64 * 1024 * 1024;
/// The log is purged, up to the snapshot, when it has grown beyond so many bytes …
const LARGE: usize = 256 * 1024 * 1024;
/// … and so many are left for followers that are a little late.
const KEPT: usize = 128 * 1024 * 1024;

/// Runs until the group stops.
pub(super) async fn run(engine: Engine) {
    let look = async {
        loop {
            sleep(PAUSE).await;
            if let Err(fatal) = tend(&engine).await {
                tracing::debug!(%fatal, "the log is not tended any more");
                return;
            }
        }
    };
    tokio::select! {
        biased;
        () = engine.0.stop.cancelled() => (),
        () = look => (),
    }
}

async fn tend(engine: &Engine) -> Result<(), openraft::errors::Fatal<super::types::Types>> {
    let snapshot = engine.0.snapshots.newest().and_then(|file| file.meta.applied).map(|position| position.index);
    let log = &engine.0.log;
    if log.bytes_behind(snapshot) > SNAPSHOT_BYTES {
        engine.0.raft.trigger().snapshot().await?;
    }
    if log.bytes_behind(None) > LARGE
        && let (Some(excess), Some(snapshot)) = (log.excess(KEPT), snapshot)
    {
        engine.0.raft.trigger().purge_log(excess.min(snapshot)).await?;
    }
    Ok(())
}
