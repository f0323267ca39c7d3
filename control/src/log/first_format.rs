//! The log of the first release, a redb file, is read here once and written as segments.

use super::disk::Folder;
use super::record::is_newer;
use super::store::{self, GROWTH};
use super::writer::{Work, Writer};
use super::{Ballot, Entry, LogError, Position, folder, open_record};
use redb::{Database, ReadableDatabase as _, TableDefinition, TableError};
use serde::de::DeserializeOwned;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// redb's page cache in bytes, instead of its 1 GiB.
const CACHE: usize = 4 * 1024 * 1024;
/// Bytes of entries that are written at a time.
const PIECE: usize = 1024 * 1024;

/// Where the file stands, beside the folder of segments.
pub(super) fn path(log: &Path) -> PathBuf {
    log.with_extension("redb")
}

struct File<'a>(&'a Path);

/// Writes what the file holds into a log that has nothing yet. The caller gives that its name when it is complete.
pub(super) fn convert(path: &Path, to: &Path) -> Result<(), LogError> {
    let file = File(path);
    let database = Database::builder().set_cache_size(CACHE).open(path).map_err(|error| broken(path, &error))?;
    let mut writer = store::load(to, Arc::new(Folder::new(to)), GROWTH)?;
    file.copy(&database, &mut writer)?;
    tracing::info!(file = %path.display(), "the Raft log of an older release is converted");
    Ok(())
}

impl File<'_> {
    fn io(&self, error: impl Into<redb::Error>) -> LogError {
        folder::fault(self.0, "reading", &error.into())
    }

    fn open<T: DeserializeOwned>(&self, what: impl fmt::Display, record: &[u8]) -> Result<T, LogError> {
        let (path, what) = (self.0.to_owned(), what.to_string());
        open_record(record).map_err(|why| match is_newer(record) {
            true => LogError::Newer { path, what, why },
            false => LogError::Damaged { path, what, why },
        })
    }

    /// The entries go first, then the vote: all of it counts at once.
    fn copy(&self, database: &Database, writer: &mut Writer) -> Result<(), LogError> {
        let transaction = database.begin_read().map_err(|error| self.io(error))?;
        let meta = match transaction.open_table(META) {
            // A crash before its first commit.
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            table => table.map_err(|error| self.io(error))?,
        };
        let purged: Option<Position> = self.stored(&meta, "purged")?;
        let ballot: Option<Ballot> = self.stored(&meta, "vote")?;
        if let Some(purged) = purged {
            writer.commit(&[Work::Purge(purged)])?;
        }
        let mut next = purged.map(|purged| purged.index + 1);
        let mut piece = Vec::new();
        let mut bytes = 0;
        let log = transaction.open_table(LOG).map_err(|error| self.io(error))?;
        for item in log.range::<u64>(..).map_err(|error| self.io(error))? {
            let (key, record) = item.map_err(|error| self.io(error))?;
            let number = key.value();
            let entry: Entry = self.open(format_args!("log entry {number}"), record.value())?;
            let expected = next.unwrap_or(number);
            if entry.position.index != number || number != expected {
                let (path, what) = (self.0.to_owned(), format!("log entry {number}"));
                let why = format!("it holds entry {}, where entry {expected} must stand", entry.position.index);
                return Err(LogError::Damaged { path, what, why });
            }
            next = Some(number + 1);
            bytes += entry.size();
            piece.push(entry);
            if bytes > PIECE {
                writer.commit(&[Work::Append(std::mem::take(&mut piece))])?;
                bytes = 0;
            }
        }
        writer.shared.index().committed = self.stored(&meta, "committed")?;
        let vote = ballot.map(Work::Vote);
        writer.commit(&[Work::Append(piece)].into_iter().chain(vote).collect::<Vec<_>>())
    }

    fn stored<T: DeserializeOwned>(
        &self,
        meta: &impl redb::ReadableTable<&'static str, &'static [u8]>,
        name: &'static str,
    ) -> Result<Option<T>, LogError> {
        let record = meta.get(name).map_err(|error| self.io(error))?;
        record.map(|record| self.open(name, record.value())).transpose()
    }
}

/// A file that is no database any more, or one that cannot be opened now.
fn broken(path: &Path, error: &redb::DatabaseError) -> LogError {
    let damage = match error {
        redb::DatabaseError::Storage(redb::StorageError::Corrupted(_)) | redb::DatabaseError::RepairAborted => true,
        redb::DatabaseError::Storage(redb::StorageError::Io(error)) => {
            matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
        }
        _ => false,
    };
    match damage {
        true => LogError::Damaged { path: path.to_owned(), what: "the file".to_owned(), why: error.to_string() },
        false => folder::fault(path, "opening", error),
    }
}
