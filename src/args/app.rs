//! Arguments of `longshore app`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `longshore app`
#[derive(Debug, Subcommand)]
pub(crate) enum App {
    /// Make an archive of an app's folder
    Pack(Pack),
    /// Check an archive and print what is in it
    Inspect {
        /// The archive
        file: PathBuf,
    },
    /// Bring an app into the cluster
    Deploy(Deploy),
    /// All apps
    List,
    /// All versions of one app
    Show(AppName),
    /// Remove an app that no instance uses
    Remove(AppName),
}

/// `longshore app pack`
#[derive(Debug, Args)]
pub(crate) struct Pack {
    /// The folder with the app.toml
    pub(crate) dir: PathBuf,
    /// Where to write the archive [default: NAME.tar]
    // Hides the global `-o`; see there.
    #[arg(id = "output", short = 'o', long = "output", value_name = "FILE")]
    pub(crate) file: Option<String>,
    /// Another name than the one in app.toml
    #[arg(long)]
    pub(crate) name: Option<String>,
}

/// `longshore app deploy`
#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// An archive, or an app's folder, which is packed first
    pub(crate) path: PathBuf,
    /// Another name than the one in app.toml; only for a folder
    #[arg(long)]
    pub(crate) name: Option<String>,
}

/// Which app.
#[derive(Debug, Args)]
pub(crate) struct AppName {
    /// The app
    pub(crate) app: String,
}
