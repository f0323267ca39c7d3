//! Saved snapshots by the clock: one every so often into a folder, of which the newest are kept.
//!
//! Each is written under another name, synced, renamed, and only then are older ones removed: whatever fails, the last good
//! one stays. A failure is logged as an error at every attempt, and stands in `/v1/cluster` until the next success. Must never
//! remove a file that it has not named itself, and never save a state that has not just been proven to be the newest.

use crate::clock::now_ms;
use crate::raft::Group;
use crate::saved;
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How saved snapshots end.
const SUFFIX: &str = ".snap";
/// After a failure the next attempt comes so soon, unless the next one is due before.
const AGAIN: Duration = Duration::from_secs(60);

/// When and where snapshots are saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduled {
    /// The folder, made when absent.
    pub folder: PathBuf,
    /// Time between two.
    pub every: Duration,
    /// How many are kept.
    pub keep: usize,
}

/// The schedule of this node, and how it goes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Schedule(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    wanted: Option<Scheduled>,
    /// Prefix of the files, so that several clusters may share a folder.
    cluster: String,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    taken_ms: Option<u64>,
    file: Option<PathBuf>,
    /// Why the last attempt failed.
    failure: Option<String>,
}

impl Schedule {
    pub(crate) fn new(wanted: Option<Scheduled>, cluster: String) -> Self {
        Self(Arc::new(Inner { wanted, cluster, last: Mutex::default() }))
    }

    /// How it goes, as `/v1/cluster` tells it; null where nothing is scheduled.
    pub(crate) fn describe(&self) -> Value {
        let Some(wanted) = &self.0.wanted else { return Value::Null };
        let last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        let age = last.taken_ms.map(|taken| now_ms().saturating_sub(taken));
        json!({
            "folder": wanted.folder, "every_ms": u64::try_from(wanted.every.as_millis()).unwrap_or(u64::MAX),
            "keep": wanted.keep, "file": last.file, "taken_ms": last.taken_ms, "age_ms": age, "failure": last.failure,
        })
    }

    /// Saves snapshots until the node stops. Goes on where an earlier run has stopped.
    pub(crate) async fn run(self, group: Group, stop: CancellationToken) {
        let Some(wanted) = self.0.wanted.clone() else {
            stop.cancelled().await;
            return;
        };
        self.note(self.newest(&wanted.folder).map(Some).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(None),
            _ => Err(error),
        }));
        loop {
            let pause = self.pause(&wanted);
            let turn = async {
                sleep(pause).await;
                let saved = self.save(&group, &wanted).await;
                self.note(saved.map(Some));
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = turn => (),
            }
        }
    }

    /// Until the next one is due.
    fn pause(&self, wanted: &Scheduled) -> Duration {
        let last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.failure.is_some() {
            return AGAIN.min(wanted.every);
        }
        let age = last.taken_ms.map_or(wanted.every, |taken| Duration::from_millis(now_ms().saturating_sub(taken)));
        wanted.every.saturating_sub(age)
    }

    fn note(&self, saved: io::Result<Option<PathBuf>>) {
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        match saved {
            Ok(file) => {
                last.failure = None;
                last.taken_ms = file.as_deref().and_then(|file| self.taken(file));
                last.file = file;
            }
            Err(error) => {
                tracing::error!(%error, "no snapshot could be saved; the next attempt follows");
                last.failure = Some(error.to_string());
            }
        }
    }

    async fn save(&self, group: &Group, wanted: &Scheduled) -> io::Result<PathBuf> {
        group.read_index().await.map_err(|failure| io::Error::other(failure.to_string()))?;
        let (state, applied) = group.image();
        let (this, wanted) = (self.clone(), wanted.clone());
        let saving = tokio::task::spawn_blocking(move || {
            let index = applied.map_or(0, |position| position.index);
            let name = format!("{}-{:014}-{index}{SUFFIX}", this.0.cluster, now_ms());
            let within =
                |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", wanted.folder.display()));
            fs::create_dir_all(&wanted.folder).map_err(within)?;
            saved::write_file(&state, applied, &wanted.folder, &name).map_err(within)?;
            let file = wanted.folder.join(name);
            tracing::info!(file = %file.display(), index, "a snapshot is saved");
            this.prune(&wanted).map_err(within)?;
            Ok(file)
        });
        saving.await.map_err(io::Error::other)?
    }

    /// Removes all but the newest.
    fn prune(&self, wanted: &Scheduled) -> io::Result<()> {
        let mut found = self.found(&wanted.folder)?;
        found.truncate(found.len().saturating_sub(wanted.keep.max(1)));
        found.iter().try_for_each(fs::remove_file)
    }

    fn newest(&self, folder: &Path) -> io::Result<PathBuf> {
        self.found(folder)?.pop().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// This cluster's files, oldest first.
    fn found(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for item in fs::read_dir(folder)? {
            found.push(item?.path());
        }
        found.retain(|path| self.taken(path).is_some());
        found.sort_by_key(|path| self.taken(path));
        Ok(found)
    }

    /// When a file was saved, by its name; `None` for one that is no saved snapshot of this cluster.
    fn taken(&self, path: &Path) -> Option<u64> {
        let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
        let (taken, index) = name.strip_prefix(&self.0.cluster)?.strip_prefix('-')?.split_once('-')?;
        index.parse::<u64>().ok()?;
        taken.parse().ok().filter(|_| taken.len() == 14)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = Scheduled { folder: folder.path().to_owned(), every: AGAIN, keep: 2 };
        let schedule = Schedule::new(Some(wanted.clone()), "prod".to_owned());
        let names = [
            "prod-00000000000001-9.snap",
            "prod-00000000000002-5.snap",
            "prod-00000000000003-7.snap",
            "prod-00000000000000-1.snap.tmp",
            "prod-2-00000000000001-1.snap",
            "precious.snap",
        ];
        names.iter().for_each(|name| fs::write(folder.path().join(name), "").unwrap());
        schedule.prune(&wanted).unwrap();
        let left: Vec<bool> = names.iter().map(|name| folder.path().join(name).exists()).collect();
        assert_eq!(left, [false, true, true, true, true, true]);
        assert_eq!(schedule.newest(folder.path()).unwrap().file_name().unwrap(), names[2]);
    }

    #[test]
    fn the_next_one_is_due_by_the_last_and_a_failure_comes_soon_again() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = Scheduled { folder: folder.path().to_owned(), every: 10 * AGAIN, keep: 2 };
        let schedule = Schedule::new(Some(wanted.clone()), "prod".to_owned());
        assert_eq!(schedule.pause(&wanted), Duration::ZERO, "none yet");
        let taken = now_ms() - 1000;
        schedule.note(Ok(Some(folder.path().join(format!("prod-{taken:014}-1.snap")))));
        assert!(schedule.pause(&wanted) > 9 * AGAIN && schedule.pause(&wanted) < 10 * AGAIN);
        schedule.note(Err(io::Error::other("full")));
        assert_eq!(schedule.pause(&wanted), AGAIN);
        let told = schedule.describe();
        assert_eq!((&told["failure"], &told["taken_ms"]), (&"full".into(), &taken.into()));
    }
}
