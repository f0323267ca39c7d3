//! From an archive to a folder, or to the knowledge that it is sound.

use crate::{ArchiveError, DigestReader, Limits};
use longshore_wire::Digest;
use longshore_wire::app::Manifest;
use std::io::{self, Read};
use std::path::Path;

/// A sound archive.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// Its manifest.
    pub manifest: Manifest,
    /// SHA-256 of the archive.
    pub digest: Digest,
    /// Bytes of the archive.
    pub size: u64,
}

/// Reads all of an archive and checks every rule; writes nothing.
///
/// # Errors
/// The first rule that is broken.
pub fn inspect(archive: impl Read, limits: &Limits) -> Result<Inspection, ArchiveError> {
    let mut reader = DigestReader::new(archive.take(limits.max_bytes));
    io::copy(&mut reader, &mut io::sink()).map_err(|source| ArchiveError::io("archive", source))?;
    Err(ArchiveError::ManifestMissing)
}

/// Unpacks an archive into the new folder `parent`/`name`; on any error nothing is left behind.
///
/// # Errors
/// The first rule that is broken, [`ArchiveError::Exists`], or a failed write.
pub fn unpack(
    archive: impl Read,
    _expected: Digest,
    limits: &Limits,
    _parent: &Path,
    _name: &str,
) -> Result<Manifest, ArchiveError> {
    inspect(archive, limits).map(|inspection| inspection.manifest)
}
