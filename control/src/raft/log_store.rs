//! Our log behind openraft's storage interface.

use super::convert;
use super::types::{LogId, RaftEntry, Types, Vote};
use crate::log::{Entry, Log, LogError};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

/// Bytes of entries in one append message, unless a single entry is larger: it must fit into one control frame.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// openraft's view of the log.
#[derive(Debug, Clone)]
pub(super) struct LogStore(pub(super) Log);

impl LogStore {
    /// Damage that shows only now ends the log: what is damaged must not vote or lead any more.
    fn read(&self, from: u64, to: u64, budget: usize) -> Result<Vec<Entry>, io::Error> {
        let read = self.0.read(from, to, budget);
        read.inspect_err(|error| self.0.condemn(error)).map_err(io::Error::other)
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, io::Error> {
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
        let entries = self.read(from, to, usize::MAX)?;
        Ok(entries.into_iter().map(convert::raft_entry).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.0.ballot().map(convert::vote))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<RaftEntry>, io::Error> {
        let entries = self.read(start, end, MESSAGE_BYTES)?;
        Ok(entries.into_iter().map(convert::raft_entry).collect())
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let (purged, last) = self.0.ends();
        Ok(LogState { last_purged_log_id: purged.map(convert::log_id), last_log_id: last.map(convert::log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.0.save_ballot(convert::ballot(vote)).await.map_err(io::Error::other)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.0.set_committed(committed.as_ref().map(convert::position));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.0.committed().map(convert::log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(convert::entry).collect();
        let done = Box::new(move |result: Result<(), LogError>| {
            callback.io_completed(result.map_err(io::Error::other));
        });
        self.0.append(entries, done).await.map_err(io::Error::other)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.0.truncate(last.map_or(0, |last| last.index + 1)).await.map_err(io::Error::other)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.0.purge(convert::position(&log_id)).await.map_err(io::Error::other)
    }
}
