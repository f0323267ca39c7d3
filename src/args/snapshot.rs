//! Arguments of `longshore snapshot` and `longshore recover`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `longshore snapshot`
#[derive(Debug, Subcommand)]
pub(crate) enum Snapshot {
    /// Write everything that the control group knows into a file; any control node will do
    Save {
        /// The file; replaced when it is there. Guard it: it holds all values, and what checks the secrets
        file: PathBuf,
    },
    /// Read a file to its end, and tell what is in it or where it is damaged; needs no cluster
    Verify {
        /// The file
        file: PathBuf,
    },
    /// Make the data folder of a first control node out of a file; needs no cluster
    Restore(Restore),
}

/// `longshore snapshot restore`
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The file
    pub(crate) file: PathBuf,
    /// The control node's data folder, empty or not there yet; with both roles on a node the subfolder `control`
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: PathBuf,
}

/// `longshore recover`
#[derive(Debug, Args)]
pub(crate) struct Recover {
    /// Data folder of the stopped control node; with both roles on a node the subfolder `control`
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: PathBuf,
    /// Do it: what only the lost nodes had is given up. Without this the node's log is shown and nothing changes
    #[arg(long)]
    pub(crate) accept_lost_writes: bool,
}
