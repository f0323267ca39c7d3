//! The writer thread: drains the queue into one transaction, syncs it, tells everybody who waits.

use super::store::{LOG, META, Shared};
use super::{Ballot, Entry, LogError, Position, seal_record};
use redb::{Database, Durability, ReadableTable as _};
use std::time::Instant;
use tokio::sync::mpsc;

/// Most bytes in one transaction: redb slows down beyond, and everybody in it waits for all of it.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Most jobs in one transaction.
const BATCH_JOBS: usize = 1024;

/// A change of the file.
pub(super) enum Work {
    /// Adds entries behind the last one.
    Append(Vec<Entry>),
    /// Replaces the vote.
    Vote(Ballot),
    /// Removes the entries from this one on.
    Truncate(u64),
    /// Removes the entries up to this one.
    Purge(Position),
}

/// Told once the change is synced, or has failed.
pub(super) type Done = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// A change and who waits for it.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) done: Done,
}

/// Runs until the queue is closed. The first fault is the last thing that it does to the file.
pub(super) fn run(shared: &Shared, mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.blocking_recv() {
        let batch = drain(first, &mut queue);
        let result = match shared.fault.get() {
            Some(fault) => Err(fault.clone()),
            None => commit(shared, &batch).inspect_err(|fault| shared.fail(fault)),
        };
        for job in batch {
            (job.done)(result.clone());
        }
    }
    // Nobody waits for this one: it only spares the next start the wait for a leader to say what is committed.
    if shared.fault.get().is_none()
        && let Err(fault) = commit(shared, &[])
    {
        tracing::warn!(%fault, "the last write to the Raft log failed; nothing acknowledged is lost");
    }
}

fn drain(first: Job, queue: &mut mpsc::Receiver<Job>) -> Vec<Job> {
    let mut bytes = size(&first);
    let mut batch = vec![first];
    while bytes < BATCH_BYTES && batch.len() < BATCH_JOBS {
        let Ok(job) = queue.try_recv() else { break };
        bytes += size(&job);
        batch.push(job);
    }
    batch
}

fn size(job: &Job) -> usize {
    match &job.work {
        Work::Append(entries) => entries.iter().map(Entry::size).sum(),
        Work::Vote(_) | Work::Truncate(_) | Work::Purge(_) => 64,
    }
}

fn commit(shared: &Shared, batch: &[Job]) -> Result<(), LogError> {
    let committed = shared.index().committed;
    let begun = Instant::now();
    let synced = shared
        .with_database(|database| write(database, batch, committed).map_err(|error| shared.io("writing", &error)))?;
    shared.syncs.add(begun.elapsed());
    if let Some(next) = synced {
        shared.index().shrink(next);
    }
    Ok(())
}

/// Writes the batch in its order. Returns one more than the last entry that it wrote.
fn write(database: &Database, batch: &[Job], committed: Option<Position>) -> Result<Option<u64>, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    let mut synced = None;
    {
        let mut log = transaction.open_table(LOG)?;
        let mut meta = transaction.open_table(META)?;
        for job in batch {
            match &job.work {
                Work::Append(entries) => {
                    for entry in entries {
                        log.insert(entry.position.index, seal_record(entry).as_slice())?;
                        synced = Some(entry.position.index + 1);
                    }
                }
                Work::Vote(ballot) => drop(meta.insert("vote", seal_record(ballot).as_slice())?),
                Work::Truncate(from) => {
                    log.retain_in::<u64, _>(from.., |_, _| false)?;
                    synced = synced.map(|next: u64| next.min(*from));
                }
                Work::Purge(upto) => {
                    log.retain_in::<u64, _>(..=upto.index, |_, _| false)?;
                    meta.insert("purged", seal_record(upto).as_slice())?;
                }
            }
        }
        if let Some(position) = committed {
            let record = seal_record(&position);
            if meta.get("committed")?.is_none_or(|stored| stored.value() != record) {
                meta.insert("committed", record.as_slice())?;
            }
        }
    }
    transaction.commit()?;
    Ok(synced)
}
