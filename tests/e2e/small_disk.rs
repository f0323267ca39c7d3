//! A small file system in memory, which can be filled up; mounting needs root. Must leave no mount behind, whatever fails.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Size under a folder that is in use already.
const SIZE: &str = "256m";
/// What takes up the room.
const BALLAST: &str = "ballast";

/// The disk; its files are lost with it, unless they were moved out.
pub(crate) struct SmallDisk {
    folder: PathBuf,
    mounted: bool,
}

impl SmallDisk {
    /// A disk of this size (as `mount` takes it) at a folder, made when absent.
    ///
    /// # Errors
    /// In words, when this machine lets the test have none.
    pub(crate) fn at(folder: &Path, size: &str) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("mounting a file system needs root".to_owned());
        }
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        carry_out(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder))?;
        Ok(Self { folder: folder.to_owned(), mounted: true })
    }

    /// Moves what is in a folder to a small disk that stands in the folder's place.
    pub(crate) fn under(folder: &Path) -> Self {
        let aside = folder.with_extension("aside");
        std::fs::rename(folder, &aside).unwrap();
        let disk = Self::at(folder, SIZE).unwrap();
        copy(&aside, folder);
        std::fs::remove_dir_all(aside).unwrap();
        disk
    }

    /// Leaves so many bytes of it free.
    pub(crate) fn fill_but(&self, left: u64) {
        let space = rustix::fs::statvfs(&self.folder).unwrap();
        let mut room = (space.f_bavail * space.f_frsize).saturating_sub(left);
        let mut ballast = File::options().append(true).create(true).open(self.folder.join(BALLAST)).unwrap();
        while room > 0 {
            let piece = room.min(1 << 16);
            // Others write, too: it may be full sooner.
            if ballast.write_all(&vec![0; usize::try_from(piece).unwrap()]).is_err() {
                return;
            }
            room -= piece;
        }
    }

    /// Gives the room back.
    pub(crate) fn empty(&self) {
        std::fs::remove_file(self.folder.join(BALLAST)).unwrap();
    }

    /// Moves the files back to where the folder was.
    pub(crate) fn move_out(mut self) {
        let aside = self.folder.with_extension("aside");
        copy(&self.folder, &aside);
        self.unmount();
        std::fs::remove_dir(&self.folder).unwrap();
        std::fs::rename(aside, &self.folder).unwrap();
    }

    fn unmount(&mut self) {
        if std::mem::take(&mut self.mounted) {
            run(Command::new("umount").arg("--lazy").arg(&self.folder));
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.unmount();
    }
}

/// All files but sockets.
fn copy(from: &Path, to: &Path) {
    drop(std::fs::remove_file(from.join("api.sock")));
    std::fs::create_dir_all(to).unwrap();
    run(Command::new("cp").arg("-a").arg(from.join(".")).arg(to));
}

fn run(command: &mut Command) {
    carry_out(command).unwrap_or_else(|why| panic!("{command:?}: {why}"));
}

fn carry_out(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}
