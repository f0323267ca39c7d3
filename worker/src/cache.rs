//! The archives that this worker holds, unpacked, each in a folder named by its digest.
//!
//! Nothing lies under a digest's name that was not verified whole. It never decides what is needed: the owner says what
//! comes and what may go, the supervisor what is in use.

use longshore_archive::{ArchiveError, Limits};
use longshore_wire::{Code, Digest, Failure};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use ulid::Ulid;

/// Longest silence of a sender before a transfer is given up.
const STALL: Duration = Duration::from_secs(30);
/// Bytes of one read.
const CHUNK: usize = 256 * 1024;

/// The archive cache.
pub(crate) struct Cache {
    folder: PathBuf,
    limits: Limits,
    held: watch::Sender<BTreeSet<Digest>>,
    receiving: Mutex<BTreeSet<Digest>>,
}

/// A transfer under way; two of the same digest would write to the same place.
struct Receiving<'a>(&'a Cache, Digest);

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        self.0.receiving.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Cache {
    /// Takes stock. What a former worker left half done is removed.
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        let mut held = BTreeSet::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            match path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()) {
                Some(digest) => {
                    held.insert(digest);
                }
                None => remove_all(&path)?,
            }
        }
        let held = watch::channel(held).0;
        Ok(Self { folder, limits: Limits::default(), held, receiving: Mutex::default() })
    }

    /// The archives that are here now.
    pub(crate) fn held(&self) -> Vec<Digest> {
        self.held.borrow().iter().copied().collect()
    }

    /// Tells of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<BTreeSet<Digest>> {
        self.held.subscribe()
    }

    /// Where an archive is unpacked, if it is here.
    pub(crate) fn find(&self, digest: Digest) -> Option<PathBuf> {
        self.held.borrow().contains(&digest).then(|| self.folder.join(digest.to_string()))
    }

    /// Takes an archive of exactly `size` bytes from `source`, verifies and unpacks it. A repeat is no error.
    ///
    /// # Errors
    /// [`Code::Corrupt`], [`Code::TooLarge`], [`Code::Busy`] when it is already coming, or what the disk says.
    pub(crate) async fn receive(
        &self,
        digest: Digest,
        size: u64,
        source: &mut (impl AsyncRead + Unpin),
    ) -> Result<(), Failure> {
        if size > self.limits.max_bytes {
            let text = format!("archive {digest} has {size} bytes; this worker takes {}", self.limits.max_bytes);
            return Err(Failure::new(Code::TooLarge, text));
        }
        let Some(_receiving) = self.begin(digest) else {
            return Err(Failure::new(Code::Busy, format!("archive {digest} is already being received")));
        };
        if self.find(digest).is_some() {
            return drain(source).await.map_err(|error| transfer_failure(digest, &error));
        }
        let incoming = self.folder.join(format!(".incoming-{}", Ulid::generate()));
        let stored = store(&incoming, size, source).await.map_err(|error| transfer_failure(digest, &error));
        let unpacked = match stored {
            Ok(()) => self.unpack(&incoming, digest).await,
            Err(failure) => Err(failure),
        };
        if let Err(error) = tokio::fs::remove_file(&incoming).await {
            tracing::warn!(path = %incoming.display(), %error, "a received archive cannot be removed");
        }
        unpacked?;
        self.held.send_modify(|held| {
            held.insert(digest);
        });
        Ok(())
    }

    fn begin(&self, digest: Digest) -> Option<Receiving<'_>> {
        let fresh = self.receiving.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
        fresh.then_some(Receiving(self, digest))
    }

    async fn unpack(&self, incoming: &Path, digest: Digest) -> Result<(), Failure> {
        let (incoming, folder, limits) = (incoming.to_owned(), self.folder.clone(), self.limits.clone());
        let unpacking = tokio::task::spawn_blocking(move || {
            let file = io::BufReader::new(File::open(&incoming).map_err(io_error)?);
            longshore_archive::unpack(file, digest, &limits, &folder, &digest.to_string())
        });
        let failed = |code, reason: String| Failure::new(code, format!("archive {digest}: {reason}"));
        match unpacking.await.unwrap_or_else(|error| Err(io_error(io::Error::other(error)))) {
            Ok(_) => Ok(()),
            // The disk is to blame, not the archive.
            Err(error @ ArchiveError::Io { .. }) => Err(failed(Code::Unavailable, error.to_string())),
            Err(error) => Err(failed(Code::Corrupt, error.to_string())),
        }
    }

    /// Removes an archive. Blocks. The caller makes sure that nothing uses it.
    pub(crate) fn remove(&self, digest: Digest) -> io::Result<()> {
        let gone = self.folder.join(format!(".gone-{}", Ulid::generate()));
        let renamed = fs::rename(self.folder.join(digest.to_string()), &gone);
        if let Err(error) = &renamed
            && error.kind() != io::ErrorKind::NotFound
        {
            // It is still here: were it taken for gone, it could never be received again.
            return renamed;
        }
        self.held.send_if_modified(|held| held.remove(&digest));
        renamed.map_or(Ok(()), |()| remove_all(&gone))
    }
}

/// Writes exactly `size` bytes to a new file.
async fn store(path: &Path, size: u64, source: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut file = tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await?;
    let mut source = source.take(size.saturating_add(1));
    let mut buffer = vec![0; CHUNK];
    let mut total = 0;
    loop {
        let read = timely(source.read(&mut buffer)).await?;
        if read == 0 {
            break;
        }
        total += read as u64;
        file.write_all(&buffer[..read]).await?;
    }
    file.flush().await?;
    if total == size {
        return Ok(());
    }
    let text =
        format!("{} bytes came, {size} were announced", if total > size { "more".into() } else { total.to_string() });
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}

/// Reads to the end, so that a sender of what is already here is not cut off in the middle.
async fn drain(source: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    while timely(source.read(&mut buffer)).await? > 0 {}
    Ok(())
}

async fn timely(read: impl Future<Output = io::Result<usize>>) -> io::Result<usize> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("nothing came for {} s", STALL.as_secs()));
    tokio::time::timeout(STALL, read).await.map_err(late)?
}

fn transfer_failure(digest: Digest, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::InvalidData => Code::Corrupt,
        io::ErrorKind::TimedOut => Code::Timeout,
        _ => Code::Unavailable,
    };
    Failure::new(code, format!("archive {digest} did not arrive: {error}"))
}

fn io_error(source: io::Error) -> ArchiveError {
    ArchiveError::Io { path: "archive".to_owned(), source }
}

/// Removes a file or a tree, also one whose folders are read-only.
fn remove_all(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
    make_writable(path)?;
    fs::remove_dir_all(path)
}

fn make_writable(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pack_script;

    #[tokio::test]
    async fn receives_verifies_and_removes() {
        let dir = tempfile::tempdir().unwrap();
        let (digest, bytes) = pack_script("echo hello");
        fs::write(dir.path().join(".incoming-old"), "half").unwrap();
        let cache = Cache::open(dir.path().to_owned()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

        let size = bytes.len() as u64;
        let wrong = cache.receive(Digest([7; 32]), size, &mut bytes.as_slice()).await.unwrap_err();
        assert_eq!(wrong.code, Code::Corrupt);
        let short = cache.receive(digest, size, &mut &bytes[..100]).await.unwrap_err();
        assert_eq!(short.code, Code::Corrupt);
        let long = cache.receive(digest, size - 1, &mut bytes.as_slice()).await.unwrap_err();
        assert_eq!(long.code, Code::Corrupt);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

        cache.receive(digest, size, &mut bytes.as_slice()).await.unwrap();
        cache.receive(digest, size, &mut bytes.as_slice()).await.unwrap();
        assert!(cache.find(digest).unwrap().join("run.sh").exists());
        assert_eq!(Cache::open(dir.path().to_owned()).unwrap().held(), [digest]);
        cache.remove(digest).unwrap();
        assert!(cache.held().is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_the_disk_refuses_is_not_the_archives_fault() {
        let dir = tempfile::tempdir().unwrap();
        let (digest, bytes) = pack_script("echo hello");
        let (incoming, folder) = (dir.path().join("incoming"), dir.path().join("cache"));
        fs::write(&incoming, bytes).unwrap();
        fs::create_dir(&folder).unwrap();
        let cache = Cache::open(folder.clone()).unwrap();
        fs::remove_dir(&folder).unwrap();
        let failure = cache.unpack(&incoming, digest).await.unwrap_err();
        assert_eq!(failure.code, Code::Unavailable, "{failure}");
    }
}
