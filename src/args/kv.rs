//! Arguments of `longshore kv`.

use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

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
    Delete(Delete),
    /// Write a key only if it is as expected; exit code 4 when it is not
    Cas(Cas),
    /// List keys by their beginning
    List(List),
    /// Print every change of some keys, once and in order, until interrupted
    Watch(Watch),
    /// Carry out a transaction: comparisons, then operations, all or nothing; exit code 4 when a comparison does not hold
    Txn {
        /// JSON: {"if": [{"key": K, "revision": N}], "then": [{"put": K, "value": V}], "else": [{"get": K}]}; `-` reads
        /// standard input
        file: PathBuf,
    },
    /// Leases: keys that go away unless somebody keeps them alive
    #[command(subcommand)]
    Lease(Lease),
}

/// `longshore kv delete`
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The key
    pub(crate) key: String,
    /// Only if the key has this revision; exit code 4 when it has not
    #[arg(long)]
    pub(crate) revision: Option<u64>,
}

/// `longshore kv watch`
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// What the keys begin with; all when left out
    #[arg(default_value = "")]
    pub(crate) prefix: String,
    /// Begin with this revision; with the next change when left out
    #[arg(long, value_name = "REVISION")]
    pub(crate) from: Option<u64>,
    /// End after so many changes
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
}

/// `longshore kv lease`
#[derive(Debug, Subcommand)]
pub(crate) enum Lease {
    /// Grant a lease and print its id
    Grant {
        /// How long it lives without being kept alive: 1s to 24h
        #[arg(value_parser = super::duration)]
        ttl: Duration,
    },
    /// Keep a lease alive: it has all of its time again
    Keep {
        /// Its id
        lease: u64,
    },
    /// End a lease, and delete its keys
    Revoke {
        /// Its id
        lease: u64,
    },
    /// All leases
    List,
    /// A lease and its keys
    Show {
        /// Its id
        lease: u64,
    },
}

/// `longshore kv put`
#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The key
    pub(crate) key: String,
    /// The value; `-` reads standard input
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: String,
    /// The lease with which the key goes
    #[arg(long, value_name = "ID")]
    pub(crate) lease: Option<u64>,
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
    #[arg(long, required_unless_present = "expect")]
    pub(crate) revision: Option<u64>,
    /// The value that the key must have
    #[arg(long, value_name = "VALUE", conflicts_with = "revision", allow_hyphen_values = true)]
    pub(crate) expect: Option<String>,
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
