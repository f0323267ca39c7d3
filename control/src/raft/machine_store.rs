//! Our state machine behind openraft's storage interface.

use super::convert;
use super::pin::Pin;
use super::types::{LogId, Outcomes, Snapshot, SnapshotMeta, StoredMembership, Types};
use crate::machine::{Image, Machine, MachineError, SnapshotFile};
use crate::room::Room;
use futures_util::stream::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use std::io;

/// Most entries that are applied before readers see them.
const PORTION: usize = 256;

/// openraft's view of the machine; it alone changes it.
#[derive(Debug)]
pub(crate) struct MachineStore {
    pub(super) machine: Machine,
    pub(super) pin: Pin,
    pub(super) room: Room,
}

/// Writes one snapshot.
pub(crate) struct Builder {
    image: Image,
    room: Room,
}

fn snapshot(file: SnapshotFile) -> Snapshot {
    Snapshot { meta: convert::snapshot_meta(&file.meta), snapshot: file }
}

/// Runs file work on a thread that may block, again and again while the disk is full: half a file is no file, so nothing
/// is in doubt, and the engine would end by the error.
async fn blocking<T: Send + 'static>(
    room: &Room,
    what: &str,
    work: impl Fn() -> Result<T, MachineError> + Clone + Send + 'static,
) -> Result<T, io::Error> {
    let attempt = || {
        let working = tokio::task::spawn_blocking(work.clone());
        async move { working.await.map_err(io::Error::other)?.map_err(MachineError::into_io) }
    };
    room.until_fits(what, attempt).await
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let image = self.image.clone();
        blocking(&self.room, "writing a snapshot", move || image.save()).await.map(snapshot)
    }
}

impl RaftStateMachine<Types> for MachineStore {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let meta = self.machine.meta();
        Ok((meta.applied.map(convert::log_id), convert::stored_membership(meta)))
    }

    /// Applies what is at hand, publishes it once, and answers after that: who is answered finds it in the state.
    async fn apply<Entries>(&mut self, entries: Entries) -> Result<(), io::Error>
    where
        Entries: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut portions = entries.ready_chunks(PORTION);
        while let Some(portion) = portions.next().await {
            let mut answers = Vec::with_capacity(portion.len());
            for item in portion {
                let (entry, responder) = item?;
                let outcomes = self.machine.apply(convert::entry(entry)).map_err(io::Error::other)?;
                answers.extend(responder.map(|responder| (responder, Outcomes(outcomes))));
            }
            self.machine.publish();
            for (responder, outcomes) in answers {
                responder.send(outcomes);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { image: self.machine.image(), room: self.room.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> Result<(), io::Error> {
        let (meta, snapshots) = (convert::meta(meta), self.machine.snapshots().clone());
        let room = self.room.clone();
        let (state, meta) = blocking(&room, "installing a snapshot", move || {
            let state = snapshot.state()?;
            snapshots.save(&state, &meta)?;
            Ok((state, meta.clone()))
        })
        .await?;
        self.machine.replace(state, meta);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        if self.machine.snapshots().is_damaged() {
            let image = self.machine.image();
            return blocking(&self.room, "writing a snapshot", move || image.save()).await.map(snapshot).map(Some);
        }
        Ok(self.pin.choose(self.machine.snapshots().newest()).map(snapshot))
    }
}
