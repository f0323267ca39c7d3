//! The one pass over an archive that checks every rule, whatever is done with the files on the way.

use crate::digest::{Hashes, Whole, digest_of};
use crate::tape::Tape;
use crate::{ArchiveError, DigestWriter, Limits, manifest, path};
use longshore_wire::app::{FileEntry, MANIFEST_NAME, Manifest};
use longshore_wire::{Blake3, Digest};
use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, Write};
use tar::{EntryType, Header};

/// A sound archive.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// Its manifest.
    pub manifest: Manifest,
    /// SHA-256 of the archive.
    pub digest: Digest,
    /// BLAKE3 of the archive.
    pub blake3: Blake3,
    /// Bytes of the archive.
    pub size: u64,
}

/// Where files go while an archive is read.
pub(crate) trait Target {
    type File: Write;
    /// A file of the manifest begins. Its path is checked.
    fn begin(&mut self, file: &FileEntry) -> Result<Self::File, ArchiveError>;
    /// Its content was what the manifest says.
    fn end(&mut self, file: &FileEntry, written: Self::File) -> Result<(), ArchiveError>;
}

/// Files go nowhere.
struct Nowhere;

impl Target for Nowhere {
    type File = io::Sink;

    fn begin(&mut self, _: &FileEntry) -> Result<io::Sink, ArchiveError> {
        Ok(io::sink())
    }

    fn end(&mut self, _: &FileEntry, _: io::Sink) -> Result<(), ArchiveError> {
        Ok(())
    }
}

/// Reads all of an archive and checks every rule; writes nothing.
///
/// # Errors
/// The first rule that is broken.
pub fn inspect(archive: impl BufRead, limits: &Limits) -> Result<Inspection, ArchiveError> {
    let hashes = Hashes::default().with_sha256().with_blake3();
    let (manifest, whole) = read(archive, hashes, Files::Hashed, limits, &mut Nowhere)?;
    let digest = whole.sha256.expect("it was asked for");
    let blake3 = whole.blake3.expect("it was asked for");
    Ok(Inspection { manifest, digest, blake3, size: whole.size })
}

/// Whether each file's own hash is compared with the manifest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Files {
    /// It is.
    Hashed,
    /// It was, by whoever promised the digest of the whole archive.
    Known,
}

/// Reads all of an archive into `target`.
pub(crate) fn read(
    archive: impl BufRead,
    hashes: Hashes,
    files: Files,
    limits: &Limits,
    target: &mut impl Target,
) -> Result<(Manifest, Whole), ArchiveError> {
    let mut tape = Tape::new(archive, hashes, limits.max_bytes);
    let (manifest, json) = read_manifest(&mut tape, limits)?;
    let entry = FileEntry {
        path: MANIFEST_NAME.to_owned(),
        size: json.len() as u64,
        sha256: digest_of(&json),
        executable: false,
    };
    let mut file = target.begin(&entry)?;
    file.write_all(&json).map_err(|source| ArchiveError::io(MANIFEST_NAME, source))?;
    target.end(&entry, file)?;
    read_files(&mut tape, &manifest, files, target)?;
    Ok((manifest, tape.finish()))
}

fn read_manifest<R: BufRead>(tape: &mut Tape<R>, limits: &Limits) -> Result<(Manifest, Vec<u8>), ArchiveError> {
    let header = tape.header()?.ok_or(ArchiveError::ManifestMissing)?;
    let (path, size) = plain_file(&header)?;
    if path != MANIFEST_NAME {
        return Err(ArchiveError::ManifestMissing);
    }
    if size > limits.max_manifest {
        return Err(ArchiveError::TooLarge { what: MANIFEST_NAME.to_owned(), limit: limits.max_manifest });
    }
    let mut json = Vec::new();
    tape.content(size, |piece| {
        json.extend_from_slice(piece);
        Ok(())
    })?;
    Ok((manifest::parse(&json, limits)?, json))
}

fn read_files<R: BufRead>(
    tape: &mut Tape<R>,
    manifest: &Manifest,
    files: Files,
    target: &mut impl Target,
) -> Result<(), ArchiveError> {
    let expected: HashMap<&str, &FileEntry> = manifest.files.iter().map(|file| (file.path.as_str(), file)).collect();
    let mut seen = HashSet::from([MANIFEST_NAME]);
    while let Some(header) = tape.header()? {
        let (path, size) = plain_file(&header)?;
        if seen.contains(path.as_str()) {
            return Err(ArchiveError::Duplicate(path));
        }
        let Some(file) = expected.get(path.as_str()) else { return Err(ArchiveError::NotInManifest(path)) };
        if size != file.size {
            return Err(ArchiveError::SizeMismatch { path, expected: file.size, actual: size });
        }
        if executable(&header)? != file.executable {
            return Err(ArchiveError::ModeMismatch(path));
        }
        match files {
            Files::Hashed => read_hashed(tape, file, target)?,
            Files::Known => read_known(tape, file, target)?,
        }
        seen.insert(&file.path);
    }
    match manifest.files.iter().find(|file| !seen.contains(file.path.as_str())) {
        Some(file) => Err(ArchiveError::MissingFile(file.path.clone())),
        None => Ok(()),
    }
}

fn read_known<R: BufRead>(tape: &mut Tape<R>, file: &FileEntry, target: &mut impl Target) -> Result<(), ArchiveError> {
    let mut out = target.begin(file)?;
    tape.content(file.size, |piece| out.write_all(piece).map_err(|source| ArchiveError::io(&file.path, source)))?;
    target.end(file, out)
}

fn read_hashed<R: BufRead>(tape: &mut Tape<R>, file: &FileEntry, target: &mut impl Target) -> Result<(), ArchiveError> {
    let mut out = DigestWriter::new(target.begin(file)?);
    tape.content(file.size, |piece| out.write_all(piece).map_err(|source| ArchiveError::io(&file.path, source)))?;
    let (out, actual, _) = out.finish();
    if actual != file.sha256 {
        return Err(ArchiveError::FileHashMismatch { path: file.path.clone(), expected: file.sha256, actual });
    }
    target.end(file, out)
}

/// Lets nothing pass but a plain file with a fit path.
fn plain_file(header: &Header) -> Result<(String, u64), ArchiveError> {
    let bytes = header.path_bytes();
    let shown = || String::from_utf8_lossy(&bytes).escape_debug().to_string();
    let special = |kind| Err(ArchiveError::SpecialFile { path: shown(), kind });
    match header.entry_type() {
        EntryType::Regular => {}
        EntryType::Symlink => return Err(ArchiveError::Symlink(shown())),
        EntryType::Link => return Err(ArchiveError::HardLink(shown())),
        EntryType::Char => return special("a character device"),
        EntryType::Block => return special("a block device"),
        EntryType::Fifo => return special("a pipe"),
        other => {
            return Err(ArchiveError::UnsupportedEntry { path: shown(), kind: char::from(other.as_byte()) });
        }
    }
    let path = path::check(&bytes)?.to_owned();
    let size = header.entry_size().map_err(|source| ArchiveError::io(&path, source))?;
    Ok((path, size))
}

fn executable(header: &Header) -> Result<bool, ArchiveError> {
    let mode = header.mode().map_err(|source| ArchiveError::io("archive", source))?;
    Ok(mode & 0o111 != 0)
}
