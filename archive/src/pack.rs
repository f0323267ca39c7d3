//! From a folder to an archive.

use crate::ArchiveError;
use longshore_wire::Digest;
use longshore_wire::app::Manifest;
use std::io::Write;
use std::path::Path;

/// How to pack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackOptions {
    /// A name instead of the one in `app.toml`.
    pub name: Option<String>,
}

/// What was packed.
#[derive(Debug, Clone, PartialEq)]
pub struct PackReport {
    /// The manifest, as it stands in the archive.
    pub manifest: Manifest,
    /// SHA-256 of the archive.
    pub digest: Digest,
    /// Bytes of the archive.
    pub size: u64,
}

/// Packs the folder `dir` into `out`.
///
/// # Errors
/// When the folder is not an app, holds anything but plain files and folders, or cannot be read.
pub fn pack(dir: &Path, _options: &PackOptions, _out: &mut impl Write) -> Result<PackReport, ArchiveError> {
    Err(ArchiveError::NoAppToml(dir.to_owned()))
}
