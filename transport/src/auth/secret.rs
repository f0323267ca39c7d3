//! The secret of a credential: text, kept out of logs and wiped when dropped.

use std::fmt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Fewest bytes of a secret. Guessing offline is held back by its length far more than by the rounds.
const MIN_BYTES: usize = 16;
/// Most bytes of a secret: anything longer is the wrong file.
const MAX_BYTES: usize = 4096;
/// Random bytes of a generated secret.
const GENERATED: usize = 32;

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Too short or far too long.
    #[error("the secret{} is {length} bytes long; it must be {MIN_BYTES} to {MAX_BYTES}", place(.path))]
    Length {
        /// The file, if it came from one.
        path: Option<PathBuf>,
        /// Its length in bytes, without the line end.
        length: usize,
    },
    /// Not text.
    #[error("the secret{} is not UTF-8 text; make one with `longshore init`", place(.path))]
    NotText {
        /// The file, if it came from one.
        path: Option<PathBuf>,
    },
    /// The system gives no random numbers.
    #[error("the system's random number source failed")]
    Random,
}

fn place(path: &Option<PathBuf>) -> String {
    path.as_ref().map_or_else(String::new, |path| format!(" in {}", path.display()))
}

/// A credential's secret.
#[derive(Clone)]
pub struct Secret {
    text: Zeroizing<String>,
    /// The file that it was read from, as it stood then.
    origin: Option<(PathBuf, Stamp)>,
}

/// What changes when a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: (i64, i64),
    inode: u64,
    length: u64,
}

impl Stamp {
    fn of(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self { modified, inode: metadata.ino(), length: metadata.len() }
    }
}

impl Secret {
    /// Reads a secret from a file; line ends behind it do not count.
    ///
    /// # Errors
    /// When the file cannot be read, or does not hold 16 to 4,096 bytes of UTF-8 text.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, SecretError> {
        let path = path.as_ref();
        let read = || -> std::io::Result<(Zeroizing<Vec<u8>>, Stamp)> {
            use std::io::Read as _;
            let file = std::fs::File::open(path)?;
            warn_if_open_to_others(path, &file);
            // Before the content: a write in between shows as a change later.
            let stamp = Stamp::of(&file.metadata()?);
            // Room for all that is read, so that no copy of the secret is left behind by a growing buffer.
            let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 8));
            file.take(MAX_BYTES as u64 + 4).read_to_end(&mut bytes)?;
            Ok((bytes, stamp))
        };
        let (bytes, stamp) = read().map_err(|source| SecretError::Read { path: path.to_owned(), source })?;
        let end = bytes.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
        let secret = Self::check(&bytes[..end], Some(path))?;
        Ok(Self { origin: Some((path.to_owned(), stamp)), ..secret })
    }

    /// The file that it was read from, as it stood then.
    pub(super) fn origin(&self) -> Option<&(PathBuf, Stamp)> {
        self.origin.as_ref()
    }

    /// How a file stands now.
    pub(super) fn stamp(path: &Path) -> std::io::Result<Stamp> {
        std::fs::metadata(path).map(|metadata| Stamp::of(&metadata))
    }

    /// Takes a secret as it is.
    ///
    /// # Errors
    /// When it is not 16 to 4,096 bytes of UTF-8 text.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SecretError> {
        Self::check(bytes, None)
    }

    /// Makes a new secret of 32 random bytes, written as 64 hexadecimal digits.
    ///
    /// # Errors
    /// When the system's random number source fails.
    pub fn generate() -> Result<Self, SecretError> {
        use fmt::Write as _;
        let mut bytes = Zeroizing::new([0; GENERATED]);
        super::scram::random(bytes.as_mut_slice()).map_err(|_| SecretError::Random)?;
        let mut text = Zeroizing::new(String::with_capacity(2 * GENERATED));
        bytes.iter().try_for_each(|byte| write!(text, "{byte:02x}")).expect("writing to a String cannot fail");
        Ok(Self { text, origin: None })
    }

    /// The secret itself, to write it into a file. Never for a log, an argument or an error.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    fn check(bytes: &[u8], path: Option<&Path>) -> Result<Self, SecretError> {
        if !(MIN_BYTES..=MAX_BYTES).contains(&bytes.len()) {
            return Err(SecretError::Length { path: path.map(Path::to_owned), length: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| SecretError::NotText { path: path.map(Path::to_owned) })?;
        Ok(Self { text: Zeroizing::new(text.to_owned()), origin: None })
    }
}

/// A warning, not a refusal: mounted secrets of container platforms are often readable by all inside the container.
fn warn_if_open_to_others(path: &Path, file: &std::fs::File) {
    use std::os::unix::fs::PermissionsExt as _;
    if file.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
        tracing::warn!(path = %path.display(), "the secret file can be read by other users; chmod 600 it");
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_secret_comes_back_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker.secret");
        let secret = Secret::generate().unwrap();
        std::fs::write(&path, format!("{}\r\n", secret.text())).unwrap();
        assert_eq!(Secret::from_file(&path).unwrap().text(), secret.text());
        assert_ne!(Secret::generate().unwrap().text(), secret.text());
        assert!(!format!("{secret:?}").contains(secret.text()));
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let refusal = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            Secret::from_file(&path).unwrap_err().to_string()
        };
        assert!(refusal(b"").contains("is 0 bytes long"));
        assert!(refusal(b"fifteen bytes..\n\n").contains("is 15 bytes long"));
        assert!(refusal(&[b'x'; 10_000]).contains("16 to 4096"));
        assert!(refusal(&[0xff; 32]).contains("not UTF-8"));
        assert!(Secret::from_file(dir.path().join("none")).unwrap_err().to_string().contains("none"));
    }
}
