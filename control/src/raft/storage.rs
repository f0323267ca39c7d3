//! How the group's log and snapshots stand, for operators.

use super::Group;
use crate::histogram::Histogram;
use crate::log::{Log, LogError};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Log and snapshots of this node.
pub(crate) struct Storage {
    log: Log,
    /// The newest snapshot.
    pub(crate) snapshot: Option<Snapshot>,
    /// Snapshots taken over from other nodes since the start.
    pub(crate) installs: u64,
    /// Bytes of snapshots that have arrived since the start.
    pub(crate) received: u64,
}

/// A snapshot on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Snapshot {
    /// Last log index within it.
    pub(crate) index: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// Time since it was written here; `None` when the file system does not say.
    pub(crate) age: Option<Duration>,
}

impl Group {
    /// How log and snapshots stand.
    pub(crate) fn storage(&self) -> Storage {
        let parts = &self.engine().0;
        let snapshot = parts.snapshots.newest().map(|file| Snapshot {
            index: file.meta.applied.map_or(0, |position| position.index),
            size: file.size,
            age: file.made().and_then(|made| made.elapsed().ok()),
        });
        Storage {
            log: parts.log.clone(),
            snapshot,
            installs: parts.installs.load(Ordering::Relaxed),
            received: parts.gate.received(),
        }
    }
}

impl Group {
    /// Whether the group has ended on this node since something stored is damaged.
    pub(crate) fn is_damaged(&self) -> bool {
        matches!(self.engine().0.log.fault(), Some(LogError::Damaged { .. }))
    }
}

impl Storage {
    /// Bytes of the log's entries.
    pub(crate) fn log_bytes(&self) -> u64 {
        u64::try_from(self.log.bytes_behind(None)).unwrap_or(u64::MAX)
    }

    /// Why the log cannot be written any more, or not for long.
    pub(crate) fn fault(&self) -> Option<String> {
        let fault = self.log.fault().or_else(|| self.log.space().borrow().clone());
        fault.map(|fault| fault.to_string())
    }

    /// How long the log's syncs take.
    pub(crate) fn syncs(&self) -> &Histogram {
        self.log.syncs()
    }
}
