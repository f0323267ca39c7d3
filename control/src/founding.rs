//! A data folder for a control group that begins anew: after a restored snapshot, or after a lost quorum.
//!
//! ```text
//! FOLDER/founding.tmp/{node-id, log, log.redb, snapshots}   written and synced
//! FOLDER/founding/…                                    renamed: from here on it counts
//! FOLDER/…                                             moved into place; what stood there goes to FOLDER/before-ID/
//! ```
//!
//! The last step is taken up again by whoever opens the folder next, so a crash leaves the old group or the new one. The
//! founder gets a new node id: what is left of the former group, should any of it still run, does not know it and cannot
//! outvote it, and both can never mistake each other's log for theirs. Must never delete what was there.

use crate::clock::now_ms;
use crate::durable;
use crate::identity::{self, random_ulid};
use crate::log::{Ballot, Log, Members, Position};
use crate::machine::{Meta, Snapshots};
use longshore_state::State;
use longshore_wire::NodeId;
use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Name of the log's folder in the data folder.
pub(crate) const LOG_FOLDER: &str = "log";
/// Name of the first release's log; the log keeps something of that name beside it.
pub(crate) const FIRST_LOG: &str = "log.redb";
/// Name of the folder of snapshots in it.
pub(crate) const SNAPSHOT_FOLDER: &str = "snapshots";
/// What is being written.
const UNFINISHED: &str = "founding.tmp";
/// What is complete, and being moved into place.
const FINISHED: &str = "founding";
/// What is moved, in this order: the node id, which names the folder of what was there, comes last.
const PARTS: [&str; 4] = [LOG_FOLDER, FIRST_LOG, SNAPSHOT_FOLDER, identity::NODE_ID];

/// Why the folder cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("{}: {doing} failed: {cause}; nothing that was in the folder is lost; mend that and try again", path.display())]
pub struct FoundingError {
    path: PathBuf,
    doing: &'static str,
    cause: String,
}

/// A group that begins anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founded {
    /// The node id of its only member.
    pub node: NodeId,
    /// The log index at which it begins.
    pub index: u64,
    /// Where the former log and snapshots stand, if there were any.
    pub kept: Option<PathBuf>,
}

fn fault<E: ToString>(path: &Path, doing: &'static str) -> impl FnOnce(E) -> FoundingError {
    move |cause| FoundingError { path: path.to_owned(), doing, cause: cause.to_string() }
}

/// Founds a group of one node with this state in the folder, which belongs to this process. `former` is the node whose
/// folder it was.
///
/// # Errors
/// When the disk refuses.
pub(crate) async fn found(
    folder: &Path,
    mut state: State,
    meta: Meta,
    former: Option<NodeId>,
) -> Result<Founded, FoundingError> {
    let node = NodeId::from_u128(random_ulid());
    let (index, term) = meta.applied.map_or((0, 1), |position| (position.index + 1, position.term + 1));
    // Seconds rise faster than any epoch does, so a group that is founded later has higher ones.
    state.refound(index, former, node, now_ms() / 1000);
    let position = Position { term, leader: node, index };
    let members = Members { voters: vec![[node].into()], nodes: [node].into() };
    let meta = Meta { applied: Some(position), members, members_at: Some(position) };

    let unfinished = folder.join(UNFINISHED);
    durable::remove(&unfinished).map_err(fault(&unfinished, "removing what a crash has left"))?;
    let io = fault(&unfinished, "making the folder");
    DirBuilder::new().recursive(true).mode(0o700).create(&unfinished).map_err(io)?;
    let snapshots = Snapshots::open(&unfinished.join(SNAPSHOT_FOLDER));
    let saved = snapshots.and_then(|snapshots| snapshots.save(&state, &meta));
    saved.map_err(fault(&unfinished, "writing the snapshot"))?;
    write_log(&unfinished.join(LOG_FOLDER), position).await?;
    let id = format!("{node}\n");
    durable::replace(&unfinished, identity::NODE_ID, |file| file.write_all(id.as_bytes()))
        .map_err(fault(&unfinished, "writing the node id"))?;
    let finished = folder.join(FINISHED);
    let renamed = fs::rename(&unfinished, &finished).and_then(|()| durable::sync(folder));
    renamed.map_err(fault(&finished, "renaming the folder"))?;
    let kept = finish(folder)?;
    Ok(Founded { node, index, kept })
}

/// A log that begins behind the snapshot, and a vote in the term of it.
async fn write_log(path: &Path, position: Position) -> Result<(), FoundingError> {
    let io = |error| fault(path, "writing the log")(error);
    let log = Log::open(path).map_err(io)?;
    let ballot = Ballot { term: position.term, node: position.leader, committed: false };
    let written = async {
        log.save_ballot(ballot).await?;
        log.set_committed(Some(position));
        log.purge(position).await
    };
    let written = written.await.map_err(io);
    log.close();
    written
}

/// Moves what [`found`] has completed into place; says where it put what was there. Nothing to do is no error.
///
/// # Errors
/// When the disk refuses; the next call goes on.
pub(crate) fn finish(folder: &Path) -> Result<Option<PathBuf>, FoundingError> {
    let finished = folder.join(FINISHED);
    if !finished.exists() {
        return Ok(None);
    }
    let moving = || -> io::Result<Option<PathBuf>> {
        let id = match fs::read_to_string(finished.join(identity::NODE_ID)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::read_to_string(folder.join(identity::NODE_ID)),
            id => id,
        };
        let aside = folder.join(format!("before-{}", id?.trim()));
        for part in PARTS {
            let (new, place) = (finished.join(part), folder.join(part));
            if !new.exists() {
                continue;
            }
            if place.exists() {
                DirBuilder::new().recursive(true).mode(0o700).create(&aside)?;
                fs::rename(&place, aside.join(part))?;
                durable::sync(&aside)?;
            }
            fs::rename(&new, &place)?;
            durable::sync(folder)?;
        }
        fs::remove_dir(&finished)?;
        durable::sync(folder)?;
        Ok(aside.exists().then_some(aside))
    };
    moving().map_err(fault(&finished, "moving the new group's files into place"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::DataFolder;

    /// Every moment at which the moving can be cut off leads to the same folder.
    #[tokio::test]
    async fn a_crash_leaves_the_old_group_or_the_new_one() {
        for moved in 0..=2 * PARTS.len() {
            let parent = tempfile::tempdir().unwrap();
            let folder = parent.path();
            let former = DataFolder::open(folder).unwrap().node();
            fs::create_dir(folder.join(SNAPSHOT_FOLDER)).unwrap();
            fs::write(folder.join(LOG_FOLDER), "the former log").unwrap();
            fs::write(folder.join(FIRST_LOG), "one before it").unwrap();
            let other = parent.path().join("other");
            fs::create_dir(&other).unwrap();
            let founded = found(&other, State::default(), Meta::default(), Some(former)).await.unwrap();
            let (finished, aside) = (folder.join(FINISHED), folder.join(format!("before-{}", founded.node)));
            fs::create_dir(&finished).unwrap();
            PARTS.iter().for_each(|part| fs::rename(other.join(part), finished.join(part)).unwrap());
            for step in 0..moved {
                let part = PARTS[step / 2];
                fs::create_dir_all(&aside).unwrap();
                match step % 2 {
                    0 => fs::rename(folder.join(part), aside.join(part)).unwrap(),
                    _ => fs::rename(finished.join(part), folder.join(part)).unwrap(),
                }
            }
            assert_eq!(DataFolder::open(folder).unwrap().node(), founded.node, "cut off after {moved} moves");
            assert_eq!(fs::read_to_string(aside.join(LOG_FOLDER)).unwrap(), "the former log");
            let log = Log::open(&folder.join(LOG_FOLDER)).unwrap();
            assert_eq!(log.ends().0.map(|position| position.index), Some(founded.index));
            assert!(!finished.exists());
        }
    }
}
