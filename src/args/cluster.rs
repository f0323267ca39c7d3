//! Arguments of `longshore cluster` and `longshore node`.

use clap::{Args, Subcommand};

/// `longshore cluster`
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Leader, term, indexes, members
    Status,
    /// The members only
    Members,
}

/// `longshore node`
#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// All nodes
    List {
        /// Only those that the selector picks, for example `core;group=group1,!dc;name=eu-1`
        #[arg(long = "where", value_name = "SELECTOR")]
        selector: Option<String>,
    },
    /// All of one node
    Show(NodeName),
    /// Forget a node that will not come back
    Remove(NodeName),
}

/// Which node.
#[derive(Debug, Args)]
pub(crate) struct NodeName {
    /// Name, node id, short id, or a unique beginning of either id
    pub(crate) node: String,
}
