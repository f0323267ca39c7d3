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
    /// Show or set how many control nodes vote
    Voters {
        /// An odd number, at most 9; the control nodes beyond it follow without a vote
        count: Option<u32>,
    },
    /// Have the control node whose API this is leave the cluster for good, and stop
    Leave,
    /// Show or set how many bytes of keys and values the key-value store may hold
    Quota {
        /// Such as 512MiB or 2GiB; `default` for 1GiB
        #[arg(value_parser = quota)]
        size: Option<Setting<u64>>,
    },
    /// Show or set how many writes a second operators and apps may make, all together
    Brake {
        /// So many; `off` for no limit
        #[arg(value_parser = brake)]
        writes: Option<Setting<u32>>,
    },
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

/// A limit, or the lack of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setting<T>(pub(crate) Option<T>);

fn quota(text: &str) -> Result<Setting<u64>, String> {
    if text == "default" {
        return Ok(Setting(None));
    }
    super::bytes(text).map(|bytes| Setting(Some(bytes))).map_err(|why| format!("{why}, or default"))
}

fn brake(text: &str) -> Result<Setting<u32>, String> {
    match text {
        "off" => Ok(Setting(None)),
        number => number.parse().map(|writes| Setting(Some(writes))).map_err(|_| "a whole number, or off".to_owned()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_units() {
        assert_eq!(quota("512MiB"), Ok(Setting(Some(512 << 20))));
        assert_eq!(quota("default"), Ok(Setting(None)));
        for wrong in ["", "7", "MiB", "1MB", "-1MiB", "99999999999GiB"] {
            assert!(quota(wrong).is_err(), "{wrong}");
        }
        assert_eq!((brake("50"), brake("off")), (Ok(Setting(Some(50))), Ok(Setting(None))));
        assert!(brake("fast").is_err());
    }
}
