//! From a folder to an archive.

use crate::app_toml::{self, APP_TOML, AppToml};
use crate::tape::BLOCK;
use crate::{ArchiveError, DigestReader, DigestWriter, Limits, manifest, path};
use longshore_wire::Digest;
use longshore_wire::app::{FileEntry, MANIFEST_FORMAT, MANIFEST_NAME, Manifest, check_name};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use tar::{EntryType, Header};

/// The one thing left out at every depth: the history of the source is no part of the app.
const LEFT_OUT: &str = ".git";

/// How the name of an archive begins that is being written beside its future place. Left out too: that place may be the
/// very folder that is packed.
pub const UNFINISHED: &str = ".longshore-pack-";

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

/// Packs the folder `dir` into `out`: all files below it, hidden ones too, except `.git` at any depth and, at the top,
/// what packing makes anew: `app.json`, the app's own archive `NAME.tar`, and what begins with [`UNFINISHED`]. Empty folders leave no trace. The result depends on names, contents and executable
/// bits alone.
///
/// # Errors
/// When the folder is not an app, holds anything but plain files and folders, exceeds the default [`Limits`], or cannot
/// be read.
pub fn pack(dir: &Path, options: &PackOptions, out: &mut impl Write) -> Result<PackReport, ArchiveError> {
    let app = read_app_toml(dir)?;
    let name = app_name(dir, options, &app)?;
    let limits = Limits::default();
    let mut files = Vec::new();
    let archive = format!("{name}.tar");
    let made = |name: &OsStr| {
        name == MANIFEST_NAME || name == archive.as_str() || name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes())
    };
    collect(dir, "", &made, &limits, &mut files)?;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    let sha256 = manifest::index_digest(&files);
    let manifest = Manifest { format: MANIFEST_FORMAT, name, sha256, runtime: app.runtime, flows: app.flows, files };
    manifest::check(&manifest, &limits)?;
    let (digest, size) = write(dir, &manifest, &limits, out)?;
    Ok(PackReport { manifest, digest, size })
}

fn read_app_toml(dir: &Path) -> Result<AppToml, ArchiveError> {
    let path = dir.join(APP_TOML);
    match fs::read_to_string(&path) {
        Ok(text) => app_toml::parse(&path, &text),
        Err(error) if error.kind() == ErrorKind::NotFound && dir.is_dir() => {
            Err(ArchiveError::NoAppToml(dir.to_owned()))
        }
        Err(error) => Err(ArchiveError::io(path.display(), error)),
    }
}

fn app_name(dir: &Path, options: &PackOptions, app: &AppToml) -> Result<String, ArchiveError> {
    let wrong = |why| ArchiveError::AppToml { file: dir.join(APP_TOML), line: 1, why };
    let name = options.name.clone().or_else(|| app.name.clone());
    let name = name.ok_or_else(|| wrong("the app has no name; write name = \"…\"".to_owned()))?;
    check_name("app", &name).map_err(wrong)?;
    Ok(name)
}

/// Finds all files below `dir`, whose path inside the archive is `prefix`, and hashes them; at the top not what packing
/// has `made`.
fn collect(
    dir: &Path,
    prefix: &str,
    made: &dyn Fn(&OsStr) -> bool,
    limits: &Limits,
    files: &mut Vec<FileEntry>,
) -> Result<(), ArchiveError> {
    let unreadable = |source| ArchiveError::io(dir.display(), source);
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        if name == LEFT_OUT || (prefix.is_empty() && made(&name)) {
            continue;
        }
        let inside = [prefix.as_bytes(), name.as_encoded_bytes()].concat();
        let inside = path::check(&inside)?;
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            collect(&entry.path(), &format!("{inside}/"), made, limits, files)?;
        } else if kind.is_file() {
            if files.len() as u64 >= limits.max_files {
                return Err(ArchiveError::TooManyFiles(limits.max_files));
            }
            files.push(hash(&entry.path(), inside)?);
        } else {
            return Err(refusal(kind, inside));
        }
    }
    Ok(())
}

fn refusal(kind: fs::FileType, inside: &str) -> ArchiveError {
    let path = inside.to_owned();
    let kind = match kind {
        kind if kind.is_symlink() => return ArchiveError::Symlink(path),
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_block_device() => "a block device",
        _ => "a character device",
    };
    ArchiveError::SpecialFile { path, kind }
}

fn hash(path: &Path, inside: &str) -> Result<FileEntry, ArchiveError> {
    let unreadable = |source| ArchiveError::io(path.display(), source);
    let file = File::open(path).map_err(unreadable)?;
    let executable = file.metadata().map_err(unreadable)?.permissions().mode() & 0o111 != 0;
    let mut reader = DigestReader::new(file);
    io::copy(&mut reader, &mut io::sink()).map_err(unreadable)?;
    let (sha256, size) = reader.finish();
    Ok(FileEntry { path: inside.to_owned(), size, sha256, executable })
}

fn write(
    dir: &Path,
    manifest: &Manifest,
    limits: &Limits,
    out: &mut impl Write,
) -> Result<(Digest, u64), ArchiveError> {
    let mut json = serde_json::to_vec_pretty(manifest).expect("a manifest holds nothing that JSON has not");
    json.push(b'\n');
    if json.len() as u64 > limits.max_manifest {
        return Err(ArchiveError::TooLarge { what: MANIFEST_NAME.to_owned(), limit: limits.max_manifest });
    }
    let unwritable = |source| ArchiveError::io("archive", source);
    let mut out = DigestWriter::new(out);
    out.write_all(header(MANIFEST_NAME, json.len() as u64, false)?.as_bytes()).map_err(unwritable)?;
    out.write_all(&json).map_err(unwritable)?;
    pad(&mut out, json.len() as u64).map_err(unwritable)?;
    for file in &manifest.files {
        out.write_all(header(&file.path, file.size, file.executable)?.as_bytes()).map_err(unwritable)?;
        copy(dir, file, &mut out)?;
        pad(&mut out, file.size).map_err(unwritable)?;
    }
    out.write_all(&[0; 2 * BLOCK]).and_then(|()| out.flush()).map_err(unwritable)?;
    let (_, digest, size) = out.finish();
    if size > limits.max_bytes {
        return Err(ArchiveError::TooLarge { what: "the archive".to_owned(), limit: limits.max_bytes });
    }
    Ok((digest, size))
}

/// Copies a file's content, which must be what it was when it was hashed.
fn copy(dir: &Path, file: &FileEntry, out: &mut impl Write) -> Result<(), ArchiveError> {
    let path = dir.join(&file.path);
    let source = File::open(&path).map_err(|source| ArchiveError::io(path.display(), source))?;
    // One byte more than expected is enough to see that it has grown.
    let mut reader = DigestReader::new(source.take(file.size + 1));
    io::copy(&mut reader, out).map_err(|source| ArchiveError::io(path.display(), source))?;
    let (sha256, _) = reader.finish();
    if sha256 == file.sha256 { Ok(()) } else { Err(ArchiveError::Changed(file.path.clone())) }
}

/// A header without anything of this machine: no owner, no time, one of two modes.
fn header(path: &str, size: u64, executable: bool) -> Result<Header, ArchiveError> {
    let mut header = Header::new_ustar();
    header.set_path(path).map_err(|_| ArchiveError::BadPath {
        path: path.to_owned(),
        why: "the path is longer than a tar header holds (100 bytes behind a '/', 155 before it)",
    })?;
    header.set_entry_type(EntryType::Regular);
    header.set_size(size);
    header.set_mode(if executable { 0o755 } else { 0o644 });
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    Ok(header)
}

fn pad(out: &mut impl Write, size: u64) -> io::Result<()> {
    let padding = size.next_multiple_of(BLOCK as u64) - size;
    out.write_all(&[0; BLOCK][..usize::try_from(padding).expect("padding is less than a block")])
}
