//! The state machine in memory, and its snapshots on disk.
//!
//! ```text
//! entries ─▶ Machine (owned by the Raft engine, one writer) ─▶ View (everybody reads the newest applied state)
//!               │ image (a clone, cheap)
//!               ▼
//!           Snapshots: <index>-<term>.snap.tmp ─ fsync ─ rename ─ fsync folder; the two newest are kept
//! ```
//!
//! The machine itself is never written while it runs: after a start it is the newest snapshot plus the log behind it.
//! Must never publish a state that is not committed, nor keep a snapshot file that has not been checked.

mod error;
mod journal;
mod partial;
mod snapshots;
mod view;

pub(crate) use error::MachineError;
pub(crate) use journal::{Cursor, Event, Gap, Journal, Part, Picture, What};
pub(crate) use partial::{Partial, PartialId};
pub(crate) use snapshots::{Meta, SnapshotFile, Snapshots};
pub(crate) use view::View;

use crate::log::{Entry, Payload};
use longshore_state::{Outcome, Proposal, State};
use std::path::Path;

/// Format of an entry's proposals. First byte of the encoding.
const PROPOSALS_FORMAT: u8 = 1;

/// The state machine.
#[derive(Debug)]
pub(crate) struct Machine {
    snapshots: Snapshots,
    state: State,
    meta: Meta,
    view: View,
    picture: Picture,
    /// What led to the picture and is not shown to readers yet.
    news: Vec<Event>,
    /// Readers have not been shown yet who belongs to the group now.
    regrouped: bool,
}

/// The state at one moment, for a snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    snapshots: Snapshots,
    state: State,
    meta: Meta,
}

impl Machine {
    /// Starts from the newest snapshot in the folder, or empty. Reads files: not for a runtime's thread.
    ///
    /// # Errors
    /// When the folder cannot be read, or the newest snapshot is damaged.
    pub(crate) fn restore(folder: &Path) -> Result<Self, MachineError> {
        let snapshots = Snapshots::open(folder)?;
        let (state, meta) = snapshots.restore()?.unwrap_or_default();
        let picture = Picture::of(&state, &meta);
        let view = View::new(&state, picture.clone());
        Ok(Self { snapshots, state, meta, view, picture, news: Vec::new(), regrouped: false })
    }

    /// What is applied, and who belongs to the group.
    pub(crate) fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Where everybody reads.
    pub(crate) fn view(&self) -> View {
        self.view.clone()
    }

    /// Where its snapshots are.
    pub(crate) fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    /// Applies the next committed entry; the outcome of each of its proposals. Readers see it after [`Machine::publish`].
    ///
    /// # Errors
    /// When the entry cannot be read: a newer release wrote it. Nothing may be applied after that.
    pub(crate) fn apply(&mut self, entry: Entry) -> Result<Vec<Outcome>, MachineError> {
        let position = entry.position;
        let outcomes = match entry.payload {
            Payload::Blank => Vec::new(),
            Payload::Proposals(bytes) => {
                let proposals =
                    decode_proposals(&bytes).map_err(|why| MachineError::Entry { index: position.index, why })?;
                self.state.apply(position.index, &proposals)
            }
            Payload::Members(members) => {
                self.meta.members = members;
                self.meta.members_at = Some(position);
                self.regrouped = true;
                Vec::new()
            }
        };
        self.meta.applied = Some(position);
        let next = self.picture.next(&self.state, &self.meta);
        self.news.extend(self.picture.until(&next, position.index));
        self.picture = next;
        Ok(outcomes)
    }

    /// Shows readers what has been applied.
    pub(crate) fn publish(&mut self) {
        let regrouped = std::mem::take(&mut self.regrouped);
        self.view.publish(&self.state, regrouped, self.picture.clone(), std::mem::take(&mut self.news));
    }

    /// The state as it is now.
    pub(crate) fn image(&self) -> Image {
        Image { snapshots: self.snapshots.clone(), state: self.state.clone(), meta: self.meta.clone() }
    }

    /// Takes over a state that came as a snapshot.
    pub(crate) fn replace(&mut self, state: State, meta: Meta) {
        self.state = state;
        self.meta = meta;
        self.news.clear();
        self.picture = Picture::of(&self.state, &self.meta);
        self.view.replace(&self.state, self.picture.clone());
    }
}

impl Image {
    /// Writes the snapshot file. Blocks: not for a runtime's thread.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn save(&self) -> Result<SnapshotFile, MachineError> {
        self.snapshots.save(&self.state, &self.meta)
    }
}

/// Packs encoded proposals as one entry's payload: the format, then a MessagePack array. Each part holds one or more
/// encodings, `count` of them and `bytes` bytes in all.
pub(crate) fn pack_proposals<'a>(count: u32, parts: impl Iterator<Item = &'a [u8]>, bytes: usize) -> Vec<u8> {
    /// MessagePack's array with a 32-bit length.
    const ARRAY32: u8 = 0xdd;
    let mut packed = Vec::with_capacity(6 + bytes);
    packed.push(PROPOSALS_FORMAT);
    packed.push(ARRAY32);
    packed.extend_from_slice(&count.to_be_bytes());
    parts.for_each(|part| packed.extend_from_slice(part));
    packed
}

/// Reads an entry's payload.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn decode_proposals(bytes: &[u8]) -> Result<Vec<Proposal>, String> {
    match bytes {
        [PROPOSALS_FORMAT, body @ ..] => longshore_wire::decode(body).map_err(|error| error.to_string()),
        [format, ..] => Err(format!("its format is {format}, this release reads format {PROPOSALS_FORMAT}")),
        [] => Err("it is empty".to_owned()),
    }
}

#[cfg(test)]
mod tests;
