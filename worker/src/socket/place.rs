//! Where the app sockets lie: as near to the data folder as the length of a socket's path allows.

use crate::folder::make_private;
use longshore_wire::TaskId;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Longest path of a Unix socket: `sun_path` has 108 bytes, the last one 0 (unix(7)).
const MAX_PATH: usize = 107;
/// Digits of a socket's name: enough that two tasks of one worker never meet.
const NAME_DIGITS: usize = 16;

/// The folder of all app sockets of a worker.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    folder: PathBuf,
}

impl Place {
    /// `s` in the data folder; where that is too long for a socket's path, a folder of this worker's own below `/run` or
    /// the temporary folder. Depends on nothing but the path and the machine, so that a restarted worker finds the sockets
    /// that its tasks already know.
    pub(crate) fn choose(data: &Path) -> io::Result<Self> {
        let near = data.join("s");
        if fits(&near) {
            make_private(&near)?;
            return Ok(Self { folder: near });
        }
        let name = format!("longshore-{}", short(data.as_os_str().as_bytes()));
        let candidates = [PathBuf::from("/run"), std::env::temp_dir(), PathBuf::from("/tmp")];
        let mut refused = io::Error::other("every folder for the app sockets is too long for a socket's path");
        for folder in candidates.into_iter().map(|parent| parent.join(&name)).filter(|folder| fits(folder)) {
            match make_private(&folder).and_then(|()| check_ours(&folder)) {
                Ok(()) => return Ok(Self { folder }),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// A task's socket.
    pub(crate) fn of(&self, task: &TaskId) -> PathBuf {
        self.folder.join(format!("{}.sock", short(task.as_str().as_bytes())))
    }
}

fn fits(folder: &Path) -> bool {
    folder.as_os_str().len() + "/".len() + NAME_DIGITS + ".sock".len() <= MAX_PATH
}

/// In a folder that others may write to, ours may have been made by somebody else to read what tasks say.
fn check_ours(folder: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(folder)?;
    if !found.is_dir() || found.uid() != rustix::process::getuid().as_raw() {
        return Err(io::Error::other(format!("{}: belongs to somebody else", folder.display())));
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

fn short(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().take(NAME_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_folders_get_a_short_place_that_stays() {
        let dir = tempfile::tempdir().unwrap();
        let task = TaskId("greeter-3".into());
        assert!(Place::choose(dir.path()).unwrap().of(&task).starts_with(dir.path()));
        let deep = dir.path().join("d".repeat(120));
        let path = Place::choose(&deep).unwrap().of(&task);
        assert!(path.as_os_str().len() <= MAX_PATH, "{}", path.display());
        assert_eq!(Place::choose(&deep).unwrap().of(&task), path);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
