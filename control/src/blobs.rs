//! Archives on this node's disk, by digest.
//!
//! ```text
//! blobs/<sha256>        whole and verified: appears by rename, never changes
//! blobs/incoming/N      on its way in; removed on any error, and at the next start
//! ```
//!
//! Owns the folder `blobs`. Never believes a sender: every archive is inspected, whoever it comes from. Which archives
//! are needed is the replicated state's word.

mod blocks;
mod send;
mod supply;

pub(crate) use send::{copy_file, push_file};
pub(crate) use supply::Supply;

use crate::durable;
use longshore_archive::{ArchiveError, Inspection, Limits, inspect};
use longshore_wire::{Code, Digest, Failure};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};

/// A sender that is silent for so long has gone.
const IDLE: Duration = Duration::from_secs(30);
/// Archives on their way in at a time: each may take [`Limits::max_bytes`] of disk.
const MAX_INCOMING: usize = 4;
/// Bytes read at a time.
const CHUNK: usize = 128 * 1024;
/// An archive that nothing names is removed after so long; an upload that is being installed is far younger.
const KEEP_UNNAMED: Duration = Duration::from_secs(3600);

/// The store. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    incoming: PathBuf,
    limits: Limits,
    next: AtomicU64,
    places: Semaphore,
    /// Held while names in the folder change: what has just been taken in again must not be tidied away as old.
    naming: Mutex<()>,
    arrivals: watch::Sender<u64>,
}

impl Blobs {
    /// Opens the store, makes its folders, and removes what a former run left half done.
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let dir = data_dir.join("blobs");
        let incoming = dir.join("incoming");
        if incoming.exists() {
            fs::remove_dir_all(&incoming)?;
        }
        fs::create_dir_all(&incoming)?;
        let (arrivals, _) = watch::channel(0);
        let places = Semaphore::new(MAX_INCOMING);
        let inner = Inner {
            dir,
            incoming,
            limits: Limits::default(),
            next: AtomicU64::new(0),
            places,
            naming: Mutex::default(),
            arrivals,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether an archive is here.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    fn naming(&self) -> MutexGuard<'_, ()> {
        self.inner.naming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an archive is here, and if so, keeps it as if it had just arrived: somebody is about to name it.
    pub(crate) fn keep(&self, digest: &Digest) -> bool {
        let _naming = self.naming();
        let file = fs::File::options().append(true).open(self.path(digest));
        file.and_then(|file| file.set_modified(SystemTime::now())).is_ok()
    }

    /// Where an archive is, when it is here.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.inner.dir.join(digest.to_string())
    }

    /// Changes whenever an archive has arrived.
    pub(crate) fn arrivals(&self) -> watch::Receiver<u64> {
        self.inner.arrivals.subscribe()
    }

    /// Takes an archive in: to a file, synced, inspected, compared with `expected`, and only then under its name.
    ///
    /// # Errors
    /// [`Code::TooLarge`], [`Code::Corrupt`], [`Code::Invalid`] by what is wrong with it, [`Code::Busy`] when too many
    /// come at once, [`Code::Internal`] when the disk fails.
    pub(crate) async fn store(
        &self,
        reader: impl AsyncRead + Unpin,
        expected: Option<Digest>,
    ) -> Result<Inspection, Failure> {
        let _place = self.inner.places.try_acquire().map_err(|_| {
            Failure::new(Code::Busy, format!("{MAX_INCOMING} archives are on their way in already; try again shortly"))
        })?;
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let incoming = Incoming { path: self.inner.incoming.join(number.to_string()) };
        self.receive(reader, &incoming.path).await?;
        let blobs = self.clone();
        let settle = tokio::task::spawn_blocking(move || blobs.settle(incoming, expected));
        let inspection =
            settle.await.map_err(|_| Failure::new(Code::Internal, "the archive's inspection panicked"))??;
        self.inner.arrivals.send_modify(|count| *count += 1);
        Ok(inspection)
    }

    async fn receive(&self, mut reader: impl AsyncRead + Unpin, path: &Path) -> Result<(), Failure> {
        let mut file = tokio::fs::File::create_new(path).await.map_err(|error| disk(path, &error))?;
        let mut buffer = vec![0; CHUNK];
        let mut total = 0_u64;
        loop {
            let read = tokio::time::timeout(IDLE, reader.read(&mut buffer)).await;
            let read =
                read.map_err(|_| Failure::new(Code::Timeout, "the archive's sender is silent; send it again"))?;
            let count = read.map_err(|error| broken_upload(&error))?;
            if count == 0 {
                break;
            }
            total += count as u64;
            if total > self.inner.limits.max_bytes {
                let limit = self.inner.limits.max_bytes;
                return Err(Failure::new(Code::TooLarge, format!("the archive is over the limit of {limit} bytes")));
            }
            file.write_all(&buffer[..count]).await.map_err(|error| disk(path, &error))?;
        }
        file.sync_all().await.map_err(|error| disk(path, &error))
    }

    /// Blocking: inspects and renames.
    fn settle(&self, incoming: Incoming, expected: Option<Digest>) -> Result<Inspection, Failure> {
        let path = &incoming.path;
        let file = fs::File::open(path).map_err(|error| disk(path, &error))?;
        let inspection =
            inspect(io::BufReader::with_capacity(CHUNK, file), &self.inner.limits).map_err(|error| refused(&error))?;
        if let Some(expected) = expected.filter(|expected| *expected != inspection.digest) {
            return Err(refused(&ArchiveError::DigestMismatch { expected, actual: inspection.digest }));
        }
        let renamed = {
            let _naming = self.naming();
            fs::rename(path, self.path(&inspection.digest))
        };
        renamed.map_err(|error| disk(path, &error))?;
        durable::sync(&self.inner.dir).map_err(|error| disk(&self.inner.dir, &error))?;
        Ok(inspection)
    }

    /// Blocking: removes archives that nothing names any more.
    fn tidy(&self, named: &HashSet<Digest>) -> io::Result<()> {
        for entry in fs::read_dir(&self.inner.dir)? {
            let entry = entry?;
            let Some(digest) = entry.file_name().to_str().and_then(|name| name.parse::<Digest>().ok()) else {
                continue;
            };
            let _naming = self.naming();
            let old = entry.metadata()?.modified()?.elapsed().is_ok_and(|age| age > KEEP_UNNAMED);
            if old && !named.contains(&digest) {
                tracing::info!(%digest, "archive removed: no app names it any more");
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// A file on its way in; gone when dropped, unless it was renamed.
struct Incoming {
    path: PathBuf,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "an unfinished archive stays on the disk");
            }
            _ => (),
        }
    }
}

fn disk(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::Internal, format!("{}: {error}", path.display()))
}

fn broken_upload(error: &io::Error) -> Failure {
    match longshore_transport::failure_of(error) {
        Some(failure) => failure.clone(),
        None => Failure::new(Code::Corrupt, format!("the archive's upload broke off: {error}; send it again")),
    }
}

/// An archive's fault as a failure for its sender.
fn refused(error: &ArchiveError) -> Failure {
    let code = match error {
        ArchiveError::Io { .. } => Code::Internal,
        ArchiveError::Corrupt { .. }
        | ArchiveError::Truncated(_)
        | ArchiveError::TrailingGarbage(_)
        | ArchiveError::DigestMismatch { .. }
        | ArchiveError::FileHashMismatch { .. } => Code::Corrupt,
        ArchiveError::TooLarge { .. } | ArchiveError::TooManyFiles(_) => Code::TooLarge,
        _ => Code::Invalid,
    };
    Failure::new(code, format!("the archive is refused: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_not_tidied() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let digest = Digest([7; 32]);
        assert!(!blobs.keep(&digest));
        let age = || {
            let file = fs::File::create(blobs.path(&digest)).unwrap();
            file.set_modified(SystemTime::now() - 2 * KEEP_UNNAMED).unwrap();
        };
        age();
        assert!(blobs.keep(&digest));
        blobs.tidy(&HashSet::new()).unwrap();
        assert!(blobs.has(&digest));
        age();
        blobs.tidy(&HashSet::new()).unwrap();
        assert!(!blobs.has(&digest));
    }

    #[tokio::test]
    async fn garbage_is_refused_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        assert!(blobs.store(&b"no tar at all"[..], None).await.is_err());
        assert_eq!(fs::read_dir(folder.path().join("blobs/incoming")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(folder.path().join("blobs")).unwrap().count(), 1);
    }
}
