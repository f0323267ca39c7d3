//! The writer thread: drains the queue into one frame, writes and syncs it, tells everybody who waits.

use super::item::{self, Standing};
use super::places::Place;
use super::segment::{BEGIN, Segment};
use super::spare::Spares;
use super::store::Shared;
use super::{Ballot, Entry, LogError, Position, frame};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Most bytes in one frame: everybody in it waits for all of it.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Most jobs in one frame.
const BATCH_JOBS: usize = 1024;
/// Pause before a change that found no room is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// What the buffer keeps between frames.
const BUFFER: usize = 256 * 1024;

/// A change of the log.
pub(super) enum Work {
    /// Adds entries behind the last one.
    Append(Vec<Entry>),
    /// Replaces the vote.
    Vote(Ballot),
    /// Removes the entries from this one on; the one before it is the last then.
    Truncate(u64, Option<Position>),
    /// Removes the entries up to this one.
    Purge(Position),
}

/// Told once the change is synced, or has failed.
pub(super) type Done = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// A change and who waits for it.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) done: Done,
    /// The index's, when the change was made there.
    pub(super) era: u64,
}

/// What writes.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) spares: Spares,
    pub(super) current: Arc<Segment>,
    /// Where the next frame begins.
    pub(super) end: usize,
    /// Number of the next frame.
    pub(super) next: u64,
    /// What is synced.
    pub(super) standing: Standing,
    pub(super) buffer: Vec<u8>,
}

impl Writer {
    /// Runs until the queue is closed. The first fault is the last thing that it does to the files.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut written = false;
        self.remove_purged();
        while let Some(first) = queue.blocking_recv() {
            let batch = drain(first, &mut queue);
            self.carry_out(batch);
            written = true;
        }
        // Nobody waits for this one. It spares the next start the wait for a leader to say what is committed, and shows
        // that all before it was synced.
        if (written || self.unsaved_committed().is_some())
            && self.shared.fault.get().is_none()
            && let Err(fault) = self.commit(&[])
        {
            tracing::warn!(%fault, "the last write to the Raft log failed; nothing acknowledged is lost");
        }
    }

    fn carry_out(&mut self, batch: Vec<Job>) {
        let era = self.shared.index().era;
        let (batch, stale): (Vec<Job>, Vec<Job>) = batch.into_iter().partition(|job| job.era == era);
        if !stale.is_empty() {
            let (path, cause) = (self.current.path.clone(), "what this follows on was not stored".to_owned());
            let fault = self.shared.fault.get().cloned().unwrap_or(LogError::NoSpace { path, cause });
            stale.into_iter().for_each(|job| (job.done)(Err(fault.clone())));
        }
        let (works, dones): (Vec<Work>, Vec<Done>) = batch.into_iter().map(|job| (job.work, job.done)).unzip();
        if works.is_empty() {
            return;
        }
        let result = loop {
            let result = self.shared.fault.get().cloned().map_or_else(|| self.commit(&works), Err);
            // Nothing was written, so nothing is in doubt.
            let waits = self.shared.waits.load(Ordering::Relaxed);
            match result {
                Err(LogError::NoSpace { .. }) if waits => std::thread::sleep(AGAIN),
                result => break result,
            }
        };
        match &result {
            Err(LogError::NoSpace { .. }) => self.shared.index().take_back(&self.standing),
            Err(fault) => self.shared.fail(fault),
            Ok(()) => (),
        }
        for done in dones {
            done(result.clone());
        }
    }

    fn unsaved_committed(&self) -> Option<Position> {
        let committed = self.shared.index().committed;
        committed.filter(|committed| self.standing.committed != Some(*committed))
    }

    /// Writes the changes in their order, and syncs them.
    pub(super) fn commit(&mut self, batch: &[Work]) -> Result<(), LogError> {
        let begun = Instant::now();
        let committed = self.unsaved_committed();
        self.compose(batch, committed);
        let room = |writer: &Self| writer.current.size - writer.end as u64;
        if frame::size(self.buffer.len() - frame::HEAD) as u64 > room(self) {
            // As much as it can need there, the standing included.
            let wanted = BEGIN + frame::size(self.buffer.len()) + frame::HEAD * 16;
            self.current = self.spares.take(self.current.number + 1, wanted as u64)?;
            self.end = BEGIN;
            self.shared.segments().insert(self.current.number, self.current.clone());
            self.compose(batch, committed);
        }
        frame::seal(&mut self.buffer, self.next, self.current.salt);
        let place = Place { segment: self.current.number, offset: self.end as u64, size: self.buffer.len() };
        let written = self.current.file.write_at(place.offset, &self.buffer);
        written.map_err(|error| self.current.io("writing", &error))?;
        self.current.file.sync().map_err(|error| self.current.io("syncing", &error))?;
        self.end += self.buffer.len();
        self.next += 1;
        self.standing.committed = committed.or(self.standing.committed);
        self.note(batch, place);
        self.shared.syncs.add(begun.elapsed());
        if batch.iter().any(|work| matches!(work, Work::Purge(_))) {
            self.remove_purged();
        }
        Ok(())
    }

    /// Puts the changes into the buffer, behind room for the head.
    fn compose(&mut self, batch: &[Work], committed: Option<Position>) {
        let Self { buffer, standing, .. } = self;
        buffer.clear();
        buffer.shrink_to(BUFFER);
        buffer.resize(frame::HEAD, 0);
        if self.end == BEGIN {
            item::put_standing(buffer, standing);
        }
        for work in batch {
            match work {
                Work::Append(entries) => entries.iter().for_each(|entry| item::put_entry(buffer, entry)),
                Work::Vote(ballot) => item::put_vote(buffer, ballot),
                Work::Truncate(from, before) => item::put_truncate(buffer, *from, *before),
                Work::Purge(upto) => item::put_purge(buffer, upto),
            }
        }
        if let Some(committed) = committed {
            item::put_committed(buffer, &committed);
        }
    }

    /// The changes are synced.
    fn note(&mut self, batch: &[Work], place: Place) {
        let standing = &mut self.standing;
        let mut index = self.shared.index();
        for work in batch {
            match work {
                Work::Append(entries) => {
                    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { continue };
                    index.places.add(first.position.index, last.position.index, place);
                    standing.last = Some(last.position);
                }
                Work::Vote(ballot) => standing.ballot = Some(*ballot),
                Work::Truncate(from, before) => {
                    index.places.truncate(*from);
                    standing.last = *before;
                }
                Work::Purge(upto) => {
                    index.places.purge(upto.index);
                    standing.purged = Some(*upto);
                    if standing.last.is_none_or(|last| last.index < upto.index) {
                        standing.last = Some(*upto);
                    }
                }
            }
        }
        index.shrink(standing.last.map_or(0, |last| last.index + 1));
    }

    /// Removes the segments that hold nothing any more.
    fn remove_purged(&self) {
        let oldest = self.shared.index().places.oldest().unwrap_or(self.current.number).min(self.current.number);
        let mut segments = self.shared.segments();
        let kept = segments.split_off(&oldest);
        let gone = std::mem::replace(&mut *segments, kept);
        if !gone.is_empty() {
            self.spares.remove(gone.into_keys().collect());
        }
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
        Work::Vote(_) | Work::Truncate(..) | Work::Purge(_) => 64,
    }
}
