//! The archives that this worker holds, unpacked, each in a folder named by its digest.
//!
//! ```text
//! stream ── pieces, BLAKE3 ──▶ channel ──▶ one thread: tar, files in a hidden folder ──▶ its name
//! ```
//!
//! Nothing lies under a digest's name that was not verified whole. It never decides what is needed: the owner says what
//! comes and what may go, the supervisor what is in use.

use crate::pieces::{self, Feed, Source};
use longshore_archive::{ArchiveError, Limits, Promise, unpack};
use longshore_wire::{Blake3, Code, Digest, Failure};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use ulid::Ulid;

/// An archive that is announced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Announced {
    /// Its name.
    pub(crate) digest: Digest,
    /// Its bytes.
    pub(crate) size: u64,
    /// Its second digest, from an owner that has checked every file.
    pub(crate) blake3: Option<Blake3>,
}

/// The archive cache.
pub(crate) struct Cache(Arc<Shelf>);

struct Shelf {
    folder: PathBuf,
    limits: Limits,
    held: watch::Sender<BTreeSet<Digest>>,
    receiving: Mutex<BTreeSet<Digest>>,
}

/// A transfer under way; two of the same digest would come to the same place.
struct Receiving(Arc<Shelf>, Digest);

impl Drop for Receiving {
    fn drop(&mut self) {
        self.0.receiving.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Receiving {
    fn begin(shelf: &Arc<Shelf>, digest: Digest) -> Option<Self> {
        let fresh = shelf.receiving.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
        fresh.then(|| Self(Arc::clone(shelf), digest))
    }

    /// Verifies and unpacks what comes. Blocks. It goes on to the end also when nobody waits for it any longer.
    fn unpack(self, promise: Promise, feed: Feed) -> Result<(), ArchiveError> {
        let Self(shelf, digest) = &self;
        unpack(feed, promise, &shelf.limits, &shelf.folder, &digest.to_string())?;
        shelf.held.send_modify(|held| {
            held.insert(*digest);
        });
        Ok(())
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
        Ok(Self(Arc::new(Shelf { folder, limits: Limits::default(), held, receiving: Mutex::default() })))
    }

    /// The archives that are here now.
    pub(crate) fn held(&self) -> Vec<Digest> {
        self.0.held.borrow().iter().copied().collect()
    }

    /// Tells of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<BTreeSet<Digest>> {
        self.0.held.subscribe()
    }

    /// Where an archive is unpacked, if it is here.
    pub(crate) fn find(&self, digest: Digest) -> Option<PathBuf> {
        self.0.held.borrow().contains(&digest).then(|| self.0.folder.join(digest.to_string()))
    }

    /// Takes an archive of exactly the announced size from `source`, verifies and unpacks it as it comes. A repeat is no
    /// error.
    ///
    /// # Errors
    /// [`Code::Corrupt`], [`Code::TooLarge`], [`Code::Timeout`] when nothing comes, [`Code::Busy`] when it is already
    /// coming, or what the disk says.
    pub(crate) async fn receive(&self, announced: Announced, source: &mut impl Source) -> Result<(), Failure> {
        let Announced { digest, size, blake3 } = announced;
        let most = self.0.limits.max_bytes;
        if size > most {
            let text = format!("archive {digest} has {size} bytes; this worker takes {most}");
            return Err(Failure::new(Code::TooLarge, text));
        }
        let Some(receiving) = Receiving::begin(&self.0, digest) else {
            return Err(Failure::new(Code::Busy, format!("archive {digest} is already being received")));
        };
        if self.find(digest).is_some() {
            return pieces::drain(source).await.map_err(|error| transfer_failure(digest, &error));
        }
        let promise = if blake3.is_some() { Promise::Vouched } else { Promise::Sha256(digest) };
        let (channel, feed) = pieces::channel();
        let unpacking = tokio::task::spawn_blocking(move || receiving.unpack(promise, feed));
        let fed = pieces::feed(source, size, blake3, channel).await;
        let unpacked = unpacking.await.unwrap_or_else(|error| Err(io_error(io::Error::other(error))));
        match (fed, unpacked) {
            (Ok(()), Ok(())) => Ok(()),
            // What became of the archive is a consequence.
            (Err(error), _) => Err(transfer_failure(digest, &error)),
            // The disk is to blame, not the archive.
            (_, Err(error @ ArchiveError::Io { .. })) => Err(failure(digest, Code::Unavailable, &error)),
            (_, Err(error)) => Err(failure(digest, Code::Corrupt, &error)),
        }
    }

    /// Removes an archive. Blocks. The caller makes sure that nothing uses it.
    pub(crate) fn remove(&self, digest: Digest) -> io::Result<()> {
        let folder = &self.0.folder;
        let gone = folder.join(format!(".gone-{}", Ulid::generate()));
        let renamed = fs::rename(folder.join(digest.to_string()), &gone);
        if let Err(error) = &renamed
            && error.kind() != io::ErrorKind::NotFound
        {
            // It is still here: were it taken for gone, it could never be received again.
            return renamed;
        }
        self.0.held.send_if_modified(|held| held.remove(&digest));
        renamed.map_or(Ok(()), |()| remove_all(&gone))
    }
}

fn failure(digest: Digest, code: Code, error: &ArchiveError) -> Failure {
    Failure::new(code, format!("archive {digest}: {error}"))
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
    use bytes::Bytes;

    fn left(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    fn blake3(bytes: &[u8]) -> Blake3 {
        longshore_archive::inspect(bytes, &Limits::default()).unwrap().blake3
    }

    #[tokio::test]
    async fn receives_verifies_and_removes() {
        let dir = tempfile::tempdir().unwrap();
        let (digest, bytes) = pack_script("echo hello");
        fs::write(dir.path().join(".incoming-old"), "half").unwrap();
        let cache = Cache::open(dir.path().to_owned()).unwrap();
        assert_eq!(left(dir.path()), 0);

        let size = bytes.len() as u64;
        for known in [None, Some(blake3(&bytes))] {
            let sound = Announced { digest, size, blake3: known };
            let other = known.map_or(Announced { digest: Digest([7; 32]), ..sound }, |_| Announced {
                blake3: Some(Blake3([7; 32])),
                ..sound
            });
            let wrong = cache.receive(other, &mut bytes.as_slice()).await.unwrap_err();
            assert_eq!(wrong.code, Code::Corrupt);
            assert!(wrong.message.contains("expected 0707"), "{wrong}");
            let short = cache.receive(sound, &mut &bytes[..100]).await.unwrap_err();
            assert_eq!(short.code, Code::Corrupt);
            assert!(short.message.contains("100 bytes came"), "{short}");
            let long = cache.receive(Announced { size: size - 1, ..sound }, &mut bytes.as_slice()).await.unwrap_err();
            assert_eq!(long.code, Code::Corrupt);
            assert!(long.message.contains("more bytes came"), "{long}");
            assert_eq!(left(dir.path()), 0);

            cache.receive(sound, &mut bytes.as_slice()).await.unwrap();
            cache.receive(sound, &mut bytes.as_slice()).await.unwrap();
            assert!(cache.find(digest).unwrap().join("run.sh").exists());
            assert_eq!(Cache::open(dir.path().to_owned()).unwrap().held(), [digest]);
            cache.remove(digest).unwrap();
            assert!(cache.held().is_empty());
            assert_eq!(left(dir.path()), 0);
        }
    }

    #[tokio::test]
    async fn by_the_second_digest_every_single_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (digest, whole) = pack_script("echo hello");
        let cache = Cache::open(dir.path().to_owned()).unwrap();
        let announced = Announced { digest, size: whole.len() as u64, blake3: Some(blake3(&whole)) };
        for at in (0..whole.len()).step_by(7) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x41;
            let wrong = cache.receive(announced, &mut bytes.as_slice()).await.unwrap_err();
            assert_eq!(wrong.code, Code::Corrupt, "{at}: {wrong}");
            assert_eq!(left(dir.path()), 0, "{at}");
        }
    }

    /// A file whose own hash in the manifest is wrong: only who has checked it before may call the archive sound.
    #[tokio::test]
    async fn without_the_second_digest_every_file_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let (_, mut bytes) = pack_script("echo hello");
        let at = bytes.windows(5).position(|part| part == b"hello").unwrap();
        bytes[at] = b'j';
        let digest = Digest(ring::digest::digest(&ring::digest::SHA256, &bytes).as_ref().try_into().unwrap());
        let cache = Cache::open(dir.path().to_owned()).unwrap();
        let announced = Announced { digest, size: bytes.len() as u64, blake3: None };
        let wrong = cache.receive(announced, &mut bytes.as_slice()).await.unwrap_err();
        assert!(wrong.code == Code::Corrupt && wrong.message.contains("run.sh"), "{wrong}");
        assert_eq!(left(dir.path()), 0);
    }

    /// The first bytes, and then silence.
    struct Stuck(Option<Bytes>);

    impl Source for Stuck {
        async fn piece(&mut self) -> io::Result<Option<Bytes>> {
            match self.0.take() {
                Some(bytes) => Ok(Some(bytes)),
                None => std::future::pending().await,
            }
        }
    }

    #[tokio::test]
    async fn a_transfer_that_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (digest, bytes) = pack_script("echo hello");
        let cache = Cache::open(dir.path().to_owned()).unwrap();
        let announced = Announced { digest, size: bytes.len() as u64, blake3: Some(blake3(&bytes)) };
        // All has come, but for the word that it was all.
        let mut stuck = Stuck(Some(bytes.clone().into()));
        let begun = async {
            while left(dir.path()) == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            _ = cache.receive(announced, &mut stuck) => panic!("it cannot have ended"),
            () = begun => {}
        }
        let gone = async {
            while left(dir.path()) > 0 || !cache.0.receiving.lock().unwrap().is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.unwrap();
        cache.receive(announced, &mut bytes.as_slice()).await.unwrap();
    }

    #[tokio::test]
    async fn what_the_disk_refuses_is_not_the_archives_fault() {
        let dir = tempfile::tempdir().unwrap();
        let (digest, bytes) = pack_script("echo hello");
        let folder = dir.path().join("cache");
        fs::create_dir(&folder).unwrap();
        let cache = Cache::open(folder.clone()).unwrap();
        fs::remove_dir(&folder).unwrap();
        let announced = Announced { digest, size: bytes.len() as u64, blake3: None };
        let failure = cache.receive(announced, &mut bytes.as_slice()).await.unwrap_err();
        assert_eq!(failure.code, Code::Unavailable, "{failure}");
    }
}
