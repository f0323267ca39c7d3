//! Our state machine behind openraft's storage interface.

use super::convert;
use super::types::{LogId, Outcomes, StorageError, StoredMembership, Types};
use crate::machine::{Image, Machine, MachineError, SnapshotFile};
use longshore_wire::NodeId;
use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EmptyNode, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageIOError};

/// openraft's view of the machine; it alone changes it.
#[derive(Debug)]
pub(super) struct MachineStore(pub(super) Machine);

/// Writes one snapshot.
pub(super) struct Builder(Image);

fn fault(error: &MachineError) -> StorageError {
    StorageIOError::<NodeId>::write_state_machine(AnyError::new(error)).into()
}

fn snapshot(file: SnapshotFile) -> Snapshot<Types> {
    Snapshot { meta: convert::snapshot_meta(&file.meta), snapshot: Box::new(file) }
}

/// Runs file work on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MachineError> + Send + 'static,
) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| fault(&error)),
        Err(error) => Err(StorageIOError::<NodeId>::write_snapshot(None, AnyError::new(&error)).into()),
    }
}

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let image = self.0.clone();
        blocking(move || image.save()).await.map(snapshot)
    }
}

impl RaftStateMachine<Types> for MachineStore {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let meta = self.0.meta();
        Ok((meta.applied.map(convert::log_id), convert::stored_membership(meta)))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcomes>, StorageError>
    where
        I: IntoIterator<Item = openraft::Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let outcomes = self.0.apply(entries.into_iter().map(convert::entry)).map_err(|error| fault(&error))?;
        Ok(outcomes.into_iter().map(Outcomes).collect())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder(self.0.image())
    }

    /// Never used by the running group: snapshots arrive as whole files, see [`super::incoming`].
    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotFile>, StorageError> {
        let image = self.0.image();
        blocking(move || image.save()).await.map(Box::new)
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<NodeId, EmptyNode>,
        snapshot: Box<SnapshotFile>,
    ) -> Result<(), StorageError> {
        let (meta, snapshots) = (convert::meta(meta), self.0.snapshots().clone());
        let (state, meta) = blocking(move || {
            let (state, _) = snapshot.load()?;
            snapshots.save(&state, &meta)?;
            Ok((state, meta))
        })
        .await?;
        self.0.replace(state, meta);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        Ok(self.0.snapshots().newest().map(snapshot))
    }
}
