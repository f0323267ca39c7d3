//! Arguments of `longshore flow`.

use clap::{Args, Subcommand};

/// `longshore flow`
#[derive(Debug, Subcommand)]
pub(crate) enum Flow {
    /// Start a flow of an app
    Start(Start),
    /// All instances
    List,
    /// One instance with its tasks
    Show(Instance),
    /// Stop an instance
    Stop(Stop),
}

/// `longshore flow start`
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// APP or APP/FLOW; the flow is `main` unless named
    #[arg(value_name = "APP[/FLOW]")]
    pub(crate) flow: String,
    /// Name of the instance [default: the flow's name]
    #[arg(long, value_name = "INSTANCE")]
    pub(crate) name: Option<String>,
    /// On how many workers
    #[arg(long, default_value = "all")]
    pub(crate) on: String,
    /// On workers that the selector picks, for example `core;group=group1,!dc;name=eu-1`
    #[arg(long = "where", value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Argument of the flow; may stand several times. JSON if it is JSON (5, true, "5"), else text
    #[arg(long = "arg", value_name = "KEY=VALUE", value_parser = super::pair)]
    pub(crate) args: Vec<(String, String)>,
    /// Wait until all tasks run or have ended, for --timeout at most
    #[arg(long)]
    pub(crate) wait: bool,
}

/// `longshore flow stop`
#[derive(Debug, Args)]
pub(crate) struct Stop {
    #[command(flatten)]
    pub(crate) instance: Instance,
    /// Wait until all tasks have ended, for --timeout at most
    #[arg(long)]
    pub(crate) wait: bool,
}

/// Which instance.
#[derive(Debug, Args)]
pub(crate) struct Instance {
    /// The instance
    pub(crate) instance: String,
}
