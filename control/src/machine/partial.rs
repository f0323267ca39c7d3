//! A snapshot that is being received: one file at a time, kept until it is installed or another one comes.
//!
//! Its name says which snapshot it is a part of, so a restart goes on where the receiver stopped. Must never be taken for a
//! snapshot: what is whole is read and checked before anybody installs it.

use super::{MachineError, Meta, SnapshotFile};
use crate::log::Position;
use longshore_wire::NodeId;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// How the names of parts end.
pub(super) const SUFFIX: &str = ".part";

/// Which snapshot a part belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartialId {
    /// Who sends it: the same state may have other bytes elsewhere.
    pub(crate) sender: NodeId,
    /// Up to where it reaches.
    pub(crate) applied: Option<Position>,
    /// Bytes of the whole.
    pub(crate) size: u64,
    /// Tells the sender's files apart.
    pub(crate) stamp: u64,
}

impl PartialId {
    pub(crate) fn name(&self) -> String {
        let (index, term) = self.applied.map_or((0, 0), |position| (position.index, position.term));
        format!("{index:020}-{term:020}-{}-{}-{}{SUFFIX}", self.sender, self.size, self.stamp)
    }
}

/// Up to where the snapshot of a part with this name reaches.
pub(super) fn index(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX)?.split('-').next()?.parse().ok()
}

/// What has arrived of a snapshot.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    file: File,
    have: u64,
}

impl Partial {
    pub(super) fn open(folder: &Path, id: &PartialId) -> Result<Self, MachineError> {
        let path = folder.join(id.name());
        let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = opened.map_err(MachineError::io(&path, "opening a part of a snapshot"))?;
        let have = file.metadata().map_err(MachineError::io(&path, "reading a part of a snapshot"))?.len();
        let mut part = Self { path, file, have };
        if have > id.size {
            part.clear()?;
        }
        Ok(part)
    }

    /// How many bytes are there.
    pub(crate) fn have(&self) -> u64 {
        self.have
    }

    /// Forgets them.
    pub(crate) fn clear(&mut self) -> Result<(), MachineError> {
        self.file.set_len(0).map_err(MachineError::io(&self.path, "emptying a part of a snapshot"))?;
        self.have = 0;
        Ok(())
    }

    /// Adds bytes. Page cache only: the install syncs what it keeps. A part that does not fit is removed: nobody gains
    /// from a disk that it fills.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), MachineError> {
        self.file.write_all_at(bytes, self.have).map_err(|cause| {
            self.remove();
            MachineError::io(&self.path, "writing a part of a snapshot")(cause)
        })?;
        self.have += u64::try_from(bytes.len()).unwrap_or(0);
        Ok(())
    }

    /// Reads and checks all of it. A damaged one is removed: the next attempt begins anew. Blocks: not for a runtime's
    /// thread.
    pub(crate) fn finish(&self, meta: &Meta) -> Result<SnapshotFile, MachineError> {
        let checked = SnapshotFile::open(self.path.clone(), meta.clone()).and_then(SnapshotFile::checked);
        checked.inspect_err(|error| {
            if error.is_damage() {
                self.remove();
            }
        })
    }

    /// Takes its name away; what is open stays readable.
    pub(crate) fn remove(&self) {
        remove(&self.path);
    }
}

pub(super) fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "a part of a snapshot cannot be removed");
        }
        _ => (),
    }
}
