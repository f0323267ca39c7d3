//! Why a folder cannot be packed, or an archive is refused. One variant a reason, so that callers and tests can tell
//! them apart.

use longshore_wire::Digest;
use std::io;
use std::path::PathBuf;

/// Why an archive is refused, or cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// What was read or written: a path, or `archive` for the stream.
        path: String,
        /// How.
        source: io::Error,
    },
    /// The bytes are no tar.
    #[error("the archive is damaged at byte {at}: {why}")]
    Corrupt {
        /// Where in the archive.
        at: u64,
        /// What is wrong there.
        why: String,
    },
    /// The archive ends in the middle.
    #[error("the archive is cut off after {0} bytes; send it again")]
    Truncated(u64),
    /// Something other than zeros follows the end mark.
    #[error("the archive goes on after its end mark (byte {0}); only zeros may follow")]
    TrailingGarbage(u64),
    /// The archive is not the one that was promised.
    #[error("the archive's SHA-256 is {actual}, expected {expected}; it was damaged or exchanged under way")]
    DigestMismatch {
        /// Promised.
        expected: Digest,
        /// Found.
        actual: Digest,
    },
    /// A file's content is not what the manifest says.
    #[error("file '{path}': SHA-256 is {actual}, the manifest says {expected}")]
    FileHashMismatch {
        /// The file.
        path: String,
        /// In the manifest.
        expected: Digest,
        /// Found.
        actual: Digest,
    },
    /// A file's length is not what the manifest says.
    #[error("file '{path}' has {actual} bytes, the manifest says {expected}")]
    SizeMismatch {
        /// The file.
        path: String,
        /// In the manifest.
        expected: u64,
        /// In the entry's header.
        actual: u64,
    },
    /// A file's mode is not what the manifest says.
    #[error("file '{0}': whether it is executable differs between archive and manifest")]
    ModeMismatch(String),
    /// A path with `..`.
    #[error("entry '{0}' climbs out of the archive with '..'")]
    PathTraversal(String),
    /// A path from the root.
    #[error("entry '{0}' has an absolute path")]
    AbsolutePath(String),
    /// A path that is otherwise unfit: not UTF-8, empty, too long, with `.`, a backslash or a control character.
    #[error("entry '{path}': {why}")]
    BadPath {
        /// As it could be read.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A symbolic link.
    #[error("'{0}' is a symbolic link; archives hold plain files only, copy its target instead")]
    Symlink(String),
    /// A hard link.
    #[error("'{0}' is a hard link; archives hold plain files only")]
    HardLink(String),
    /// A device, pipe or socket.
    #[error("'{path}' is {kind}; archives hold plain files only")]
    SpecialFile {
        /// The entry.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// A kind of tar entry that archives do not use: folders, pax and GNU extensions, sparse files.
    #[error("entry '{path}' is of tar type {kind:?}, which archives do not use; make it with `longshore app pack`")]
    UnsupportedEntry {
        /// The entry.
        path: String,
        /// The type byte.
        kind: char,
    },
    /// The same path twice.
    #[error("'{0}' stands twice in the archive")]
    Duplicate(String),
    /// One path is a file and also the folder of another.
    #[error("'{0}' is both a file and a folder")]
    FileAndFolder(String),
    /// An entry that the manifest does not name at this place.
    #[error("'{0}' is in the archive but not in its manifest")]
    NotInManifest(String),
    /// A file of the manifest that is not there.
    #[error("'{0}' is in the manifest but not in the archive")]
    MissingFile(String),
    /// More bytes than allowed.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// The archive, a file or the manifest.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// More files than allowed.
    #[error("the archive has more than {0} files")]
    TooManyFiles(u64),
    /// No `app.json` in first place.
    #[error("the archive does not begin with app.json; make it with `longshore app pack`")]
    ManifestMissing,
    /// `app.json` is not a manifest.
    #[error("app.json: {0}")]
    ManifestInvalid(String),
    /// The folder has no `app.toml`.
    #[error("{0}: there is no app.toml; an app's folder must have one")]
    NoAppToml(PathBuf),
    /// `app.toml` is wrong.
    #[error("{file}:{line}: {why}")]
    AppToml {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A flow's entry is not a file of the app.
    #[error("flow '{flow}': entry '{entry}' is not in the archive")]
    EntryMissing {
        /// The flow.
        flow: String,
        /// Its program.
        entry: String,
    },
    /// A flow's entry cannot be executed.
    #[error("flow '{flow}': entry '{entry}' is not executable; run chmod +x on it")]
    EntryNotExecutable {
        /// The flow.
        flow: String,
        /// Its program.
        entry: String,
    },
    /// A file changed while it was packed.
    #[error("'{0}' changed while it was being packed; try again")]
    Changed(String),
    /// The place to unpack to is taken.
    #[error("{0} is there already")]
    Exists(PathBuf),
}

impl ArchiveError {
    pub(crate) fn io(path: impl std::fmt::Display, source: io::Error) -> Self {
        Self::Io { path: path.to_string(), source }
    }
}
