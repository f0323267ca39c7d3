//! Recovery from a lost quorum: the node that has the most becomes the only member of a new group.
//!
//! Everything in its log is applied, known to be committed or not: what a majority had acknowledged and this node stored
//! is then kept. What only lost nodes had stored is lost, and nobody can say what that was. Must never run beside the
//! node itself, nor guess over damage.

use crate::founding::{self, Founded, FoundingError, LOG_FOLDER, SNAPSHOT_FOLDER};
use crate::identity::{DataFolder, FolderError};
use crate::log::{Log, LogError, Payload};
use crate::machine::{Machine, MachineError, Meta, decode_proposals};
use longshore_state::{Counts, State};
use longshore_wire::{ClusterId, NodeId};
use std::path::{Path, PathBuf};

/// Why a data folder cannot be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// No control node's folder.
    #[error("{}: there is no Raft log in this folder; give the data folder of a control node (on a node with both roles its subfolder `control`)", path.display())]
    NoNode {
        /// The folder.
        path: PathBuf,
    },
    /// The node never was in a cluster.
    #[error("{}: this node has nothing of a cluster: it was never taken in; recover on another node", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Log or snapshot cannot be read.
    #[error("{0}; recover on another node, or restore a saved snapshot with `longshore snapshot restore`")]
    Damaged(String),
    /// The new group cannot be written.
    #[error(transparent)]
    Founding(#[from] FoundingError),
}

impl From<LogError> for RecoverError {
    fn from(error: LogError) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl From<MachineError> for RecoverError {
    fn from(error: MachineError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// What a stopped control node has.
#[derive(Debug, Clone)]
pub struct Remains {
    /// The node.
    pub node: NodeId,
    /// Name of the cluster.
    pub cluster: String,
    /// Its id.
    pub cluster_id: ClusterId,
    /// The term of the last entry.
    pub last_term: u64,
    /// The last entry of the log. Of several nodes the one with the higher term has the most, then the one with the
    /// higher index.
    pub last_index: u64,
    /// The last entry that this node knows to be committed; later ones may be.
    pub committed: Option<u64>,
    /// The voters, as far as this node knows.
    pub voters: Vec<(NodeId, Option<String>)>,
    /// How much there is.
    pub counts: Counts,
    /// The KV's revision.
    pub kv_revision: u64,
}

/// Everything that the folder holds.
struct Everything {
    folder: DataFolder,
    state: State,
    meta: Meta,
    remains: Remains,
}

/// Tells what a stopped control node has; changes nothing.
///
/// # Errors
/// See [`RecoverError`].
pub fn inspect(data: &Path) -> Result<Remains, RecoverError> {
    read(data).map(|everything| everything.remains)
}

/// Makes the stopped control node the only member of a new group with the same state.
///
/// # Errors
/// See [`RecoverError`].
pub async fn recover(data: &Path) -> Result<(Remains, Founded), RecoverError> {
    let Everything { folder, state, meta, remains } = read(data)?;
    let founded = founding::found(folder.path(), state, meta, Some(folder.node())).await?;
    Ok((remains, founded))
}

fn read(data: &Path) -> Result<Everything, RecoverError> {
    let path = data.join(LOG_FOLDER);
    if !Log::exists(&path) {
        return Err(RecoverError::NoNode { path: data.to_owned() });
    }
    let folder = DataFolder::open(data)?;
    let machine = Machine::restore(&data.join(SNAPSHOT_FOLDER))?;
    let (mut state, mut meta) = (State::clone(&machine.view().state()), machine.meta().clone());
    let log = Log::open(&path)?;
    let replayed = replay(&log, &mut state, &mut meta);
    let committed = log.committed().map(|position| position.index);
    log.close();
    replayed?;
    let (Some(cluster), Some(last)) = (state.cluster(), meta.applied) else {
        return Err(RecoverError::Empty { path: data.to_owned() });
    };
    let voters = meta.members.voters.iter().flatten();
    let remains = Remains {
        node: folder.node(),
        cluster: cluster.name.clone(),
        cluster_id: cluster.id,
        last_term: last.term,
        last_index: last.index,
        committed,
        voters: voters.map(|voter| (*voter, state.node(*voter).map(|node| node.name.clone()))).collect(),
        counts: state.counts(),
        kv_revision: state.kv_revision(),
    };
    Ok(Everything { folder, state, meta, remains })
}

/// Applies the log behind the snapshot, all of it.
fn replay(log: &Log, state: &mut State, meta: &mut Meta) -> Result<(), RecoverError> {
    /// Bytes of entries in memory at a time.
    const PIECE: usize = 16 * 1024 * 1024;
    let mut next = meta.applied.map_or(0, |position| position.index + 1);
    if let (Some(purged), _) = log.ends()
        && purged.index >= next
    {
        let why = format!("the log begins behind entry {}, but the newest snapshot ends before {next}", purged.index);
        return Err(RecoverError::Damaged(why));
    }
    loop {
        let entries = log.read(next, u64::MAX, PIECE)?;
        let Some(last) = entries.last() else { return Ok(()) };
        next = last.position.index + 1;
        for entry in entries {
            match entry.payload {
                Payload::Blank => (),
                Payload::Members(members) => {
                    (meta.members, meta.members_at) = (members, Some(entry.position));
                }
                Payload::Proposals(bytes) => {
                    let index = entry.position.index;
                    let proposals = decode_proposals(&bytes).map_err(|why| MachineError::Entry { index, why })?;
                    state.apply(index, &proposals);
                }
            }
            meta.applied = Some(entry.position);
        }
    }
}
