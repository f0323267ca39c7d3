//! A small disk of its own whose power can be cut: ext4 on a loop device. Must leave no mount behind, whatever fails.
//!
//! ```text
//! file on the host ─ loop ─ outer ext4 ─ file "disk" ─ loop ─ inner ext4 ─ the data under test
//! ```
//!
//! A cut copies the file "disk". It holds what the inner file system has handed to its block device, no more: pages that
//! wait in the inner file system's cache are not in it. Reading the loop device would not do: a direct read makes the
//! kernel write the device's dirty pages first, a buffered one shows metadata that was never written.
//! The outer file system is there to be frozen meanwhile: a write to the device then waits between two blocks, so the copy
//! is of one moment, even while writes go on.

use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const OUTER_SIZE: &str = "256M";
const INNER_SIZE: &str = "128M";

/// A mounted disk. It is gone with this value.
pub(crate) struct Disk {
    // The order matters: the inner one is unmounted first.
    inner: Mount,
    outer: Mount,
    _dir: TempDir,
}

impl Disk {
    /// A new, empty disk.
    ///
    /// # Errors
    /// In words, when this machine lets the test have none.
    pub(crate) fn new() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("mounting a file needs root".to_owned());
        }
        Self::make(|image| {
            run("truncate", &["-s", INNER_SIZE], &[image])?;
            format(image)
        })
    }

    /// Where its files are.
    pub(crate) fn path(&self) -> &Path {
        &self.inner.0
    }

    /// A second disk with what is on this one's block device now. Whatever writes to this one goes on.
    pub(crate) fn cut(&self) -> Self {
        let cut = Self::make(|copy| {
            let _frozen = Frozen::new(&self.outer.0)?;
            run("cp", &["--sparse=always"], &[&image(&self.outer), copy])
        });
        cut.unwrap_or_else(|why| panic!("the disk cannot be cut: {why}"))
    }

    fn make(fill: impl FnOnce(&Path) -> Result<(), String>) -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let file = dir.path().join("outer.img");
        run("truncate", &["-s", OUTER_SIZE], &[&file])?;
        format(&file)?;
        // The host need not sync for a cut that is not its own: many times faster, and what the inner one sees is the same.
        let outer = Mount::new(&file, dir.path().join("outer"), "loop,noatime,nobarrier")?;
        fill(&image(&outer))?;
        let inner = Mount::new(&image(&outer), dir.path().join("inner"), "loop,noatime")?;
        Ok(Self { inner, outer, _dir: dir })
    }
}

fn image(outer: &Mount) -> PathBuf {
    outer.0.join("disk")
}

fn format(image: &Path) -> Result<(), String> {
    run("mkfs.ext4", &["-q", "-b", "4096"], &[image])
}

/// A mounted image. The kernel lets go of the loop device when it is unmounted.
struct Mount(PathBuf);

impl Mount {
    fn new(image: &Path, at: PathBuf, options: &str) -> Result<Self, String> {
        std::fs::create_dir(&at).map_err(|error| format!("{}: {error}", at.display()))?;
        run("mount", &["-t", "ext4", "-o", options], &[image, &at])?;
        Ok(Self(at))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(why) = run("umount", &[], &[&self.0]) {
            eprintln!("{why}; it is unmounted as soon as nothing uses it");
            drop(run("umount", &["--lazy"], &[&self.0]));
        }
    }
}

/// A file system that takes no writes; they wait.
struct Frozen<'a>(&'a Path);

impl<'a> Frozen<'a> {
    fn new(at: &'a Path) -> Result<Self, String> {
        run("fsfreeze", &["--freeze"], &[at]).map(|()| Self(at))
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if let Err(why) = run("fsfreeze", &["--unfreeze"], &[self.0]) {
            eprintln!("{why}");
        }
    }
}

fn run(program: &str, options: &[&str], paths: &[&Path]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(options).args(paths);
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program} {options:?} {paths:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
