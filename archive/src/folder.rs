//! From an archive to a folder: all of it or nothing.

use crate::digest::{Hashes, Whole};
use crate::read::{Files, Target, read};
use crate::{ArchiveError, Limits, path};
use longshore_wire::Digest;
use longshore_wire::app::{FileEntry, Manifest};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufRead};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Ending of a folder that is not finished. What bears it after a crash may go: see [`sweep`].
const PARTIAL: &str = ".partial";

/// By what an archive is known to be the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Its SHA-256. Every file's own hash is checked, too.
    Sha256(Digest),
    /// By whoever reads it for us: the end of the input comes only when all before it was found to be, by its digest, an
    /// archive that somebody trusted has inspected; otherwise an error comes. The hashes of its files hold.
    Vouched,
}

impl Promise {
    fn hashes(self) -> Hashes {
        match self {
            Self::Sha256(_) => Hashes::default().with_sha256(),
            Self::Vouched => Hashes::default(),
        }
    }

    fn files(self) -> Files {
        match self {
            Self::Sha256(_) => Files::Hashed,
            Self::Vouched => Files::Known,
        }
    }

    fn check(self, whole: &Whole) -> Result<(), ArchiveError> {
        let Self::Sha256(expected) = self else { return Ok(()) };
        let actual = whole.sha256.expect("it was asked for");
        if actual == expected { Ok(()) } else { Err(ArchiveError::DigestMismatch { expected, actual }) }
    }
}

/// Unpacks an archive into the new folder `parent`/`name`, files and folders read-only; on any error nothing is left
/// behind. The files are written into a hidden folder beside it, checked and synced; only then does it get its name, so
/// that whoever finds the name finds all of it, also after a power cut.
///
/// # Errors
/// The first rule that is broken, [`ArchiveError::DigestMismatch`], [`ArchiveError::Exists`], what the reader says, or
/// a failed write.
pub fn unpack(
    archive: impl BufRead,
    promise: Promise,
    limits: &Limits,
    parent: &Path,
    name: &str,
) -> Result<Manifest, ArchiveError> {
    path::check(name.as_bytes())?;
    if name.contains('/') || name.starts_with('.') {
        return Err(ArchiveError::BadPath {
            path: name.to_owned(),
            why: "a folder's name has no '/' and no first '.'",
        });
    }
    let target = parent.join(name);
    if target.symlink_metadata().is_ok() {
        return Err(ArchiveError::Exists(target));
    }
    let mut folder = Partial::create(parent, name)?;
    let (manifest, whole) = read(archive, promise.hashes(), promise.files(), limits, &mut folder)?;
    promise.check(&whole)?;
    folder.finish(&target)?;
    Ok(manifest)
}

/// Removes a folder that [`unpack`] made. Its folders are read-only, hence plain removal fails for everybody but root.
/// Without complaint when there is none.
///
/// # Errors
/// When something cannot be removed.
pub fn remove(folder: &Path) -> io::Result<()> {
    match folder.symlink_metadata() {
        Ok(_) => {
            make_writable(folder)?;
            fs::remove_dir_all(folder)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes what an [`unpack`] left in `parent` that was killed half way. Not while another one runs there.
///
/// # Errors
/// When something cannot be listed or removed.
pub fn sweep(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(b".") && name.ends_with(PARTIAL.as_bytes()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn make_writable(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Of the entry itself: a link to a folder is no folder, and is not followed.
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

/// A folder under way; removed when dropped before it has its name.
struct Partial {
    path: PathBuf,
    folders: BTreeSet<PathBuf>,
    finished: bool,
}

impl Partial {
    fn create(parent: &Path, name: &str) -> Result<Self, ArchiveError> {
        // Unique among the unpackings of this process and of others that run now.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!(".{name}.{}-{number}{PARTIAL}", std::process::id()));
        make_folder(&path)?;
        Ok(Self { folders: BTreeSet::from([path.clone()]), path, finished: false })
    }

    /// Makes all of it read-only and durable, then gives it its name.
    fn finish(mut self, target: &Path) -> Result<(), ArchiveError> {
        // Deepest first: a folder's own entry is changed before its parent is closed.
        for folder in self.folders.iter().rev() {
            fs::set_permissions(folder, Permissions::from_mode(0o555))
                .and_then(|()| File::open(folder)?.sync_all())
                .map_err(|source| ArchiveError::io(folder.display(), source))?;
        }
        fs::rename(&self.path, target).map_err(|source| ArchiveError::io(target.display(), source))?;
        self.finished = true;
        let parent = target.parent().unwrap_or_else(|| Path::new("."));
        File::open(parent)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| ArchiveError::io(parent.display(), source))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.finished {
            // The error that brought us here is the one to tell; `sweep` gets what stays.
            let _ = remove(&self.path);
        }
    }
}

impl Target for Partial {
    type File = File;

    fn begin(&mut self, file: &FileEntry) -> Result<File, ArchiveError> {
        let parents: Vec<&str> = path::parents(&file.path).collect();
        for parent in parents.into_iter().rev() {
            let folder = self.path.join(parent);
            if !self.folders.contains(&folder) {
                make_folder(&folder)?;
                self.folders.insert(folder);
            }
        }
        // `create_new` follows nothing and overwrites nothing.
        let path = self.path.join(&file.path);
        let mode = if file.executable { 0o555 } else { 0o444 };
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .map_err(|source| ArchiveError::io(path.display(), source))
    }

    fn end(&mut self, file: &FileEntry, written: File) -> Result<(), ArchiveError> {
        // Again, since the process's umask took part in the first.
        let mode = if file.executable { 0o555 } else { 0o444 };
        written
            .set_permissions(Permissions::from_mode(mode))
            .and_then(|()| written.sync_all())
            .map_err(|source| ArchiveError::io(&file.path, source))
    }
}

fn make_folder(path: &Path) -> Result<(), ArchiveError> {
    fs::DirBuilder::new().mode(0o700).create(path).map_err(|source| ArchiveError::io(path.display(), source))
}
