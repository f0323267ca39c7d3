//! Saved snapshots: the whole state as one file, taken from a running group, checked and restored without one.
//!
//! The file has the format of the snapshots in a data folder, so those can be read, too. Its meta says in addition when
//! it was taken. It holds the verifiers of all credentials and every value: whoever has it needs no more to read the KV.
//! Archives of apps are not in it. Must never call a file good that it has not read to its end.

use crate::clock::now_ms;
use crate::durable;
use crate::founding::{self, Founded, FoundingError};
use crate::identity::{self, FolderError};
use crate::log::{Members, Position, open_record, seal_record};
use crate::machine::Meta;
use longshore_state::snapshot::{self, SnapshotError};
use longshore_state::{Counts, State};
use longshore_wire::{ClusterId, Digest};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Write};
use std::path::{Path, PathBuf};

/// Buffer of the file.
const BUFFER: usize = 256 * 1024;

/// Why a saved snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// The file cannot be read.
    #[error("{}: the file cannot be opened: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// It is damaged, or no snapshot at all.
    #[error("{}: {cause}", path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// How it shows.
        cause: SnapshotError,
    },
    /// It is whole, but not alone.
    #[error("{}: {why}; take another copy", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How it shows.
        why: String,
    },
    /// The state was never that of a cluster.
    #[error("{}: the snapshot is intact but holds no cluster; it was taken before the cluster was founded", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The data folder is in use.
    #[error("{}: this folder is not empty; give a new one: what is in it could be the only copy of something", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The data folder cannot be filled.
    #[error(transparent)]
    Founding(#[from] FoundingError),
}

/// The meta of a saved snapshot. A reader of [`Meta`] skips what it does not know.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    applied: Option<Position>,
    members: Members,
    members_at: Option<Position>,
    #[serde(default)]
    taken_ms: Option<u64>,
}

/// What a saved snapshot holds.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Name of the cluster.
    pub cluster: String,
    /// Its id.
    pub cluster_id: ClusterId,
    /// The last log index in it.
    pub index: u64,
    /// The term of that.
    pub term: u64,
    /// When it was taken, in Unix milliseconds; `None` for a file out of a data folder.
    pub taken_ms: Option<u64>,
    /// How much there is in it.
    pub counts: Counts,
    /// The KV's revision.
    pub kv_revision: u64,
    /// The archives that its apps need, with their sizes in bytes.
    pub archives: Vec<(Digest, u64)>,
    /// Bytes of the file.
    pub size: u64,
}

/// Writes the state as a saved snapshot.
///
/// # Errors
/// When `out` fails.
pub(crate) fn write(state: &State, applied: Option<Position>, out: &mut impl Write) -> io::Result<()> {
    let members = Members::default();
    let description = Description { applied, members, members_at: None, taken_ms: Some(now_ms()) };
    snapshot::write(state, &seal_record(&description), out)
}

/// Writes the state into a new file, under its name only when it is complete and synced. Only its owner may read it.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn write_file(state: &State, applied: Option<Position>, folder: &Path, name: &str) -> io::Result<()> {
    durable::replace(folder, name, |out| write(state, applied, out))
}

/// Reads and checks a whole saved snapshot.
///
/// # Errors
/// Says what is damaged, and where.
pub fn verify(path: &Path) -> Result<Summary, SavedError> {
    load(path).map(|(_, _, summary)| summary)
}

/// Founds a new group of one node from a saved snapshot, in a folder that is empty or not there yet.
///
/// # Errors
/// See [`SavedError`]; a folder that has something in it is not touched.
pub async fn restore(path: &Path, data: &Path) -> Result<(Summary, Founded), SavedError> {
    let (state, meta, summary) = load(path)?;
    match fs::read_dir(data).map(|mut items| items.next().is_some()) {
        Ok(true) => return Err(SavedError::Occupied { path: data.to_owned() }),
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            return Err(SavedError::Io { path: data.to_owned(), cause });
        }
        _ => (),
    }
    let _lock = identity::lock(data)?;
    let founded = founding::found(data, state, meta, None).await?;
    Ok((summary, founded))
}

fn load(path: &Path) -> Result<(State, Meta, Summary), SavedError> {
    let io = |cause| SavedError::Io { path: path.to_owned(), cause };
    let damaged = |why: String| SavedError::Damaged { path: path.to_owned(), why };
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let mut input = BufReader::with_capacity(BUFFER, file);
    let (state, meta) =
        snapshot::read(&mut input).map_err(|cause| SavedError::Snapshot { path: path.to_owned(), cause })?;
    let behind = input.bytes().count();
    if behind > 0 {
        return Err(damaged(format!("{behind} bytes stand behind the end of the snapshot")));
    }
    let Description { applied, members, members_at, taken_ms } =
        open_record(&meta).map_err(|why| damaged(format!("its description is damaged: {why}")))?;
    let cluster = state.cluster().ok_or_else(|| SavedError::Empty { path: path.to_owned() })?;
    let summary = Summary {
        cluster: cluster.name.clone(),
        cluster_id: cluster.id,
        index: applied.map_or(0, |position| position.index),
        term: applied.map_or(0, |position| position.term),
        taken_ms,
        counts: state.counts(),
        kv_revision: state.kv_revision(),
        archives: state.blobs().into_iter().collect(),
        size,
    };
    Ok((state, Meta { applied, members, members_at }, summary))
}

#[cfg(test)]
mod tests;
