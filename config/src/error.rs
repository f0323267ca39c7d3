//! Why a configuration is refused: what, where, and what to write instead.

use std::io;
use std::path::PathBuf;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or folder cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No TOML, or a value that does not fit its key.
    #[error("{path}:{line}: {message}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A key that does not exist.
    #[error("{path}:{line}: unknown key '{key}'; {hint}")]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// With its section.
        key: String,
        /// What was probably meant, or what there is.
        hint: String,
    },
    /// A value of an environment variable that does not fit its key.
    #[error("environment variable {name}: {message}")]
    Variable {
        /// The variable.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// An environment variable that stands for no key.
    #[error("environment variable {name} stands for no key; {hint}")]
    UnknownVariable {
        /// The variable.
        name: String,
        /// What was probably meant.
        hint: String,
    },
    /// A key without which the node cannot run.
    #[error("{path}: {key} is missing: {why}. For example:\n\n{example}\n")]
    Missing {
        /// The main file.
        path: PathBuf,
        /// The key, with its section.
        key: &'static str,
        /// What it is for.
        why: &'static str,
        /// Lines to add.
        example: &'static str,
    },
    /// Values that are fine alone, but not together or not for this role.
    #[error("{path}: {key}: {message}")]
    Conflict {
        /// The main file.
        path: PathBuf,
        /// The key, with its section.
        key: &'static str,
        /// What is wrong.
        message: String,
    },
}
