//! Arguments of `longshore kv`.

use clap::{Args, Subcommand};

/// `longshore kv`
#[derive(Debug, Subcommand)]
pub(crate) enum Kv {
    /// Print a key's value as it is; exit code 3 when the key is absent
    Get {
        /// The key
        key: String,
        /// Read what the node has, which may be behind
        #[arg(long)]
        local: bool,
    },
    /// Write a key
    Put(Put),
    /// Remove a key; not an error when it is absent
    Delete {
        /// The key
        key: String,
    },
    /// Write a key only if it is as expected; exit code 4 when it is not
    Cas(Cas),
    /// List keys by their beginning
    List(List),
}

/// `longshore kv put`
#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The key
    pub(crate) key: String,
    /// The value; `-` reads standard input
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: String,
}

/// `longshore kv cas`
#[derive(Debug, Args)]
pub(crate) struct Cas {
    /// The key
    pub(crate) key: String,
    /// The value; `-` reads standard input
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: String,
    /// The revision that the key must have; 0: the key must be absent
    #[arg(long)]
    pub(crate) revision: u64,
}

/// `longshore kv list`
#[derive(Debug, Args)]
pub(crate) struct List {
    /// What the keys begin with; all when left out
    #[arg(default_value = "")]
    pub(crate) prefix: String,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u32>,
    /// Begin behind this key
    #[arg(long, value_name = "KEY")]
    pub(crate) after: Option<String>,
    /// Read what the node has, which may be behind
    #[arg(long)]
    pub(crate) local: bool,
}
