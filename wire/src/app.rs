//! `app.json`: what an archive says of itself.

use crate::Digest;
use crate::task::{Limits, RestartPolicy};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Version of the manifest's format.
pub const MANIFEST_FORMAT: u32 = 1;
/// Name of the manifest inside an archive; always the first entry.
pub const MANIFEST_NAME: &str = "app.json";

/// The manifest of an archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`MANIFEST_FORMAT`].
    pub format: u32,
    /// The app's name: see [`check_name`].
    pub name: String,
    /// SHA-256 over the files index (path, size, mode and hash of every file, in order).
    pub sha256: Digest,
    /// How its tasks run: `exec` or another runtime that a worker offers.
    pub runtime: String,
    /// The flows that can be started.
    pub flows: BTreeMap<String, Flow>,
    /// Every file, in archive order.
    pub files: Vec<FileEntry>,
}

/// A startable entry of an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Command line, relative to the unpacked archive.
    pub entry: Vec<String>,
    /// Arguments with their defaults; `null` = must be given.
    pub args: BTreeMap<String, Value>,
    /// When an ended task is started again.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// What a task may use.
    #[serde(default)]
    pub limits: Limits,
}

/// One file of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Path inside the archive, `/` between parts, no `.` or `..`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the content.
    pub sha256: Digest,
    /// Whether it may be executed.
    pub executable: bool,
}

/// Checks a name of an app, flow or instance: 1 to 64 of `a-z 0-9 - _ .`, first a letter or digit.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn check_name(what: &str, name: &str) -> Result<(), String> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let rest = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte));
    if first && rest && name.len() <= 64 {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    Err(format!("{what} '{shown}': names are 1 to 64 of a-z 0-9 - _ . and start with a letter or digit"))
}
