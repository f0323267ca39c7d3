//! What a control node does when its log or snapshot is damaged: it never votes again as who it was.
//!
//! A voter that has lost part of its log or its vote could elect a leader that lacks acknowledged writes. So the damaged
//! files are put aside together with the node id, and the node joins anew as another: it gets its log from the peers, and
//! the leader gives it the vote of the one that is gone after `timers.voter_grace`. Only a node that knows of others does
//! that; a lone one refuses, since what it has may be all there is. Must never delete what it puts aside.

use crate::durable;
use crate::founding::{FIRST_LOG, LOG_FOLDER, SNAPSHOT_FOLDER};
use crate::identity::{DataFolder, NODE_ID};
use crate::raft::Group;
use longshore_wire::NodeId;
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// The members of the group as this node last knew them, one id a line: readable when nothing else is.
const MEMBERS: &str = "members";
/// What is put aside. The node id goes first: a crash behind that leaves a folder that nobody votes with.
const PARTS: [&str; 5] = [NODE_ID, MEMBERS, LOG_FOLDER, FIRST_LOG, SNAPSHOT_FOLDER];

/// Keeps the members file up to date until the node stops. A failure is logged: the file matters only after damage.
pub(crate) async fn note_members(folder: PathBuf, group: Group, stop: CancellationToken) {
    let mut changed = group.changed();
    let mut noted = BTreeSet::new();
    loop {
        changed.borrow_and_update();
        let status = group.status();
        let members: BTreeSet<NodeId> = status.voters.union(&status.learners).copied().collect();
        if members != noted && !members.is_empty() {
            let text: String = members.iter().map(|member| format!("{member}\n")).collect();
            if let Err(error) = durable::replace(&folder, MEMBERS, |file| file.write_all(text.as_bytes())) {
                tracing::warn!(%error, "the list of members cannot be stored; damage of the log could not be mended by itself");
            }
            noted = members;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            alive = changed.changed() => if alive.is_err() { return },
        }
    }
}

/// Puts the damaged files aside, if other members are known; says where.
///
/// # Errors
/// When the disk refuses; what is moved by then stays aside.
pub(crate) fn set_aside(folder: &DataFolder) -> io::Result<Option<PathBuf>> {
    let (path, me) = (folder.path(), folder.node());
    if !others(path, me) {
        return Ok(None);
    }
    let aside = path.join(format!("damaged-{me}"));
    DirBuilder::new().recursive(true).mode(0o700).create(&aside)?;
    for part in PARTS {
        match fs::rename(path.join(part), aside.join(part)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => durable::sync(path)?,
        }
    }
    durable::sync(&aside)?;
    Ok(Some(aside))
}

/// The same when damage has shown while the node ran, once its group has stopped: the next start joins anew.
pub(crate) fn after_damage(folder: &DataFolder) {
    let former = folder.node();
    match set_aside(folder) {
        Ok(Some(aside)) => tracing::error!(
            %former,
            aside = %aside.display(),
            "the damaged log is put aside; start this node again: it joins the others anew under another node id; then `longshore node remove` the former one"
        ),
        Ok(None) => tracing::error!(
            "this node knows of no other control node, so its damaged log is not touched: restore a saved snapshot into a new folder with `longshore snapshot restore`"
        ),
        Err(error) => {
            tracing::error!(%error, "the damaged log cannot be put aside; check the disk, then start the node again")
        }
    }
}

/// Whether this node knows of other members.
fn others(folder: &Path, me: NodeId) -> bool {
    let Ok(text) = fs::read_to_string(folder.join(MEMBERS)) else { return false };
    text.lines().filter_map(|line| line.parse::<NodeId>().ok()).any(|member| member != me)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_that_knows_of_others_starts_anew() {
        let parent = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(parent.path()).unwrap();
        let me = folder.node();
        fs::write(parent.path().join(LOG_FOLDER), "damaged").unwrap();
        assert_eq!(set_aside(&folder).unwrap(), None, "it knows nobody");
        fs::write(parent.path().join(MEMBERS), format!("{me}\n")).unwrap();
        assert_eq!(set_aside(&folder).unwrap(), None, "it is alone");
        fs::write(parent.path().join(MEMBERS), format!("{me}\n{}\n", NodeId::from(5))).unwrap();
        let aside = set_aside(&folder).unwrap().unwrap();
        assert_eq!(fs::read_to_string(aside.join(LOG_FOLDER)).unwrap(), "damaged");
        drop(folder);
        assert_ne!(DataFolder::open(parent.path()).unwrap().node(), me);
    }
}
