//! Bounds log and snapshots. openraft counts entries only, and ours hold up to a thousand proposals each; and it does not
//! ask whether the log is still wanted behind a snapshot that is being sent.

use super::engine::Engine;
use std::time::Duration;
use tokio::time::sleep;

/// How large log and snapshots grow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How often they are looked at.
    pub(crate) pause: Duration,
    /// Entries after which a snapshot is taken, and entries that stay behind it for followers that are a little late.
    pub(crate) entries: u64,
    /// A snapshot is taken when so many bytes stand behind the last one.
    pub(crate) snapshot_bytes: usize,
    /// The log is purged, up to the snapshot, when it has grown beyond so many bytes …
    pub(crate) large: usize,
    /// … and so many are left for followers that are a little late.
    pub(crate) kept: usize,
    /// So many are held for whoever is being sent a snapshot.
    pub(crate) held: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            pause: Duration::from_secs(1),
            entries: 10_000,
            // About what a restart replays in a second or two.
            snapshot_bytes: 64 * MIB,
            large: 256 * MIB,
            kept: 128 * MIB,
            held: 1024 * MIB,
        }
    }
}

/// Runs until the group stops.
pub(super) async fn run(engine: Engine) {
    let look = async {
        loop {
            sleep(engine.0.limits.pause).await;
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
    let (log, limits) = (&engine.0.log, engine.0.limits);
    let snapshot = engine.0.snapshots.newest().and_then(|file| file.meta.applied).map(|position| position.index);
    if log.bytes_behind(snapshot) > limits.snapshot_bytes {
        engine.0.raft.trigger().snapshot().await?;
    }
    let Some(upto) = snapshot.and_then(|snapshot| superfluous(engine, snapshot)) else { return Ok(()) };
    engine.0.pin.purge(upto);
    engine.0.raft.trigger().purge_log(upto).await
}

/// Up to where the log is not wanted any more.
fn superfluous(engine: &Engine, snapshot: u64) -> Option<u64> {
    let (log, limits) = (&engine.0.log, engine.0.limits);
    let bytes = log.bytes_behind(None);
    let excess = if bytes > limits.large { log.excess(limits.kept) } else { None };
    let wanted = excess.max(snapshot.checked_sub(limits.entries))?.min(snapshot);
    let upto = if bytes > limits.held { wanted } else { engine.0.pin.limit(wanted) };
    let (purged, _) = log.ends();
    let step = limits.entries / 10;
    purged.is_none_or(|purged| purged.index + step < upto).then_some(upto)
}
