//! How much of an archive is accepted.

/// Upper bounds of an archive; each is checked before anything is allocated or written for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole archive.
    pub max_bytes: u64,
    /// Files.
    pub max_files: u64,
    /// Bytes of one file.
    pub max_file: u64,
    /// Bytes of the manifest.
    pub max_manifest: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 1 << 30, max_files: 10_000, max_file: 1 << 30, max_manifest: 1 << 20 }
    }
}
