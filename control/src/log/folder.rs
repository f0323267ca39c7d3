//! The folder of the segments: how it comes to be, and what keeps older releases off it.

use super::LogError;
use super::disk::Folder;
use super::first_format;
use super::segment;
use super::store::GROWTH;
use crate::durable;
use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

pub(super) fn fault(path: &Path, doing: &'static str, cause: &dyn fmt::Display) -> LogError {
    LogError::Io { path: path.to_owned(), doing, cause: cause.to_string() }
}

/// Makes the folder unless it is there: with what the first format's file beside it holds, or empty. A crash leaves the
/// former state or the new one.
pub(super) fn make(path: &Path) -> Result<(), LogError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    let former = first_format::path(path);
    if !path.exists() {
        let unfinished = path.with_extension("tmp");
        durable::remove(&unfinished).map_err(|error| fault(&unfinished, "removing", &error))?;
        DirBuilder::new().mode(0o700).create(&unfinished).map_err(|error| fault(&unfinished, "making", &error))?;
        segment::prepare(&Folder::new(&unfinished), &unfinished, 1, GROWTH.size(1))?;
        if former.is_file() {
            first_format::convert(&former, &unfinished)?;
        }
        let named = fs::rename(&unfinished, path).and_then(|()| durable::sync(parent));
        named.map_err(|error| fault(path, "making", &error))?;
    }
    bar(&former, parent).map_err(|error| fault(&former, "replacing", &error))
}

/// Puts a folder where the first release's log was. That release would make an empty log there, and vote once more in a
/// term in which it has voted already; it cannot open a folder, and says so.
fn bar(former: &Path, parent: &Path) -> io::Result<()> {
    if former.is_dir() {
        return Ok(());
    }
    if former.exists() {
        fs::remove_file(former)?;
        durable::sync(parent)?;
    }
    DirBuilder::new().mode(0o700).create(former)?;
    durable::sync(parent)
}
