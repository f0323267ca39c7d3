//! Our log behind openraft's storage interface.

use super::convert;
use super::types::{LogId, StorageError, Types, Vote};
use crate::log::{Log, LogError};
use longshore_wire::NodeId;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

/// Bytes of entries in one append message, unless a single entry is larger: it must fit into one control frame.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// openraft's view of the log.
#[derive(Debug, Clone)]
pub(super) struct LogStore(pub(super) Log);

fn reading(error: &LogError) -> StorageError {
    StorageIOError::<NodeId>::read_logs(AnyError::new(error)).into()
}

fn writing(error: &LogError) -> StorageError {
    StorageIOError::<NodeId>::write_logs(AnyError::new(error)).into()
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<openraft::Entry<Types>>, StorageError> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        let entries = self.0.read(from, to, usize::MAX).map_err(|error| reading(&error))?;
        Ok(entries.into_iter().map(convert::raft_entry).collect())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<openraft::Entry<Types>>, StorageError> {
        let entries = self.0.read(start, end, MESSAGE_BYTES).map_err(|error| reading(&error))?;
        Ok(entries.into_iter().map(convert::raft_entry).collect())
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let (purged, last) = self.0.ends();
        Ok(LogState { last_purged_log_id: purged.map(convert::log_id), last_log_id: last.map(convert::log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let saved = self.0.save_ballot(convert::ballot(vote)).await;
        saved.map_err(|error| StorageIOError::<NodeId>::write_vote(AnyError::new(&error)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.0.ballot().map(convert::vote))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.0.set_committed(committed.as_ref().map(convert::position));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.0.committed().map(convert::log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = openraft::Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(convert::entry).collect();
        let done = Box::new(move |result: Result<(), LogError>| {
            callback.log_io_completed(result.map_err(io::Error::other));
        });
        self.0.append(entries, done).await.map_err(|error| writing(&error))
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.0.truncate(log_id.index).await.map_err(|error| writing(&error))
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.0.purge(convert::position(&log_id)).await.map_err(|error| writing(&error))
    }
}
