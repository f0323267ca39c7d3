//! Arguments of `longshore cluster` and `longshore node`.

use clap::{Args, Subcommand};
use longshore_wire::ClusterUri;

/// `longshore cluster`
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Leader, term, indexes, members
    Status,
    /// The members only
    Members,
    /// All nodes, then who joins, leaves and changes, as it happens
    Events(Events),
}

/// Which events.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Go on behind the event with this id, from any control node
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<String>,
    /// End with what is known now
    #[arg(long)]
    pub(crate) no_follow: bool,
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
    /// Dial a worker that listens and does not know its cluster
    Connect {
        /// Where it listens: longshore://HOST:PORT;transport=tls
        uri: ClusterUri,
    },
    /// Forget a node that will not come back
    Remove(NodeName),
}

/// Which node.
#[derive(Debug, Args)]
pub(crate) struct NodeName {
    /// Name, node id, short id, or a unique beginning of either id
    pub(crate) node: String,
}
