//! openraft's own suite on our store. It checks logic; crashes are checked beside log and machine.

use crate::log::Log;
use crate::machine::Machine;
use crate::raft::log_store::LogStore;
use crate::raft::machine_store::MachineStore;
use crate::raft::pin::Pin;
use crate::raft::types::Types;
use crate::room::Room;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

struct Builder;

impl StoreBuilder<Types, LogStore, MachineStore, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, MachineStore), StorageError<Types>> {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::restore(&folder.path().join("snapshots")).unwrap();
        let log = Log::open(&folder.path().join("log")).unwrap();
        let room = Room::new(folder.path(), 0, CancellationToken::new());
        Ok((folder, LogStore(log), MachineStore { machine, pin: Pin::default(), room }))
    }
}

#[tokio::test]
async fn openraft_suite() {
    Suite::test_all(Builder).await.unwrap();
}
