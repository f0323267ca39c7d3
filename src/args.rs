//! The command line as typed. What it means is decided by `commands`.

pub(crate) mod app;
pub(crate) mod bench;
pub(crate) mod cluster;
pub(crate) mod credential;
pub(crate) mod flow;
pub(crate) mod kv;
pub(crate) mod local;
pub(crate) mod snapshot;
pub(crate) mod task;
pub(crate) mod token;

use crate::output::Format;
use clap::{Args as ClapArgs, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// A few control nodes command a large fleet of workers that only dial out.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 conflict, 5 timed out, \
6 no quorum or unreachable, 7 unauthenticated or forbidden")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, ClapArgs)]
pub(crate) struct Globals {
    /// How results are printed [default: table]
    // The same identifier and type as `app pack -o FILE`, which stands in its place there.
    #[arg(id = "output", short = 'o', long = "output", global = true, value_name = "FORMAT")]
    #[arg(value_parser = ["table", "json", "wide"], help_heading = "Global options")]
    output: Option<String>,
    /// Where the API is: unix:///PATH, http://HOST:PORT or https://HOST:PORT
    /// [default: the local node's socket, then http://127.0.0.1:8138]
    #[arg(long, global = true, env = "LONGSHORE_API", value_name = "URL", help_heading = "Global options")]
    pub(crate) api: Option<String>,
    /// File with the token for an API that asks for one; LONGSHORE_TOKEN holds the token itself
    #[arg(long, global = true, env = "LONGSHORE_TOKEN_FILE", value_name = "FILE", help_heading = "Global options")]
    pub(crate) token_file: Option<PathBuf>,
    /// How long to wait for an answer
    #[arg(long, global = true, value_parser = duration, default_value = "30s", value_name = "DURATION")]
    #[arg(help_heading = "Global options")]
    pub(crate) timeout: Duration,
}

impl Globals {
    /// How results are printed.
    pub(crate) fn format(&self) -> Format {
        match self.output.as_deref() {
            Some("json") => Format::Json,
            Some("wide") => Format::Wide,
            _ => Format::Table,
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole cluster in this process, and an app on it
    Dev(local::Dev),
    /// Write configuration and secrets of a new cluster
    Init(local::Init),
    /// Run the roles of a configuration file in the foreground
    Run(local::Run),
    /// Check or print a configuration file
    #[command(subcommand)]
    Config(local::Config),
    /// Print the endpoints behind a cluster URI in the order in which they would be tried
    Discover(local::Discover),
    /// Resolve, dial and authenticate every candidate of a configuration file; changes nothing
    Doctor(local::ConfigFile),
    /// The control group
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// The nodes
    #[command(subcommand)]
    Node(cluster::Node),
    /// What nodes prove themselves with: make, rotate, revoke
    #[command(subcommand)]
    Credential(credential::Credential),
    /// Who may use the API over the network: make, list, revoke
    #[command(subcommand)]
    Token(token::Token),
    /// Apps and their archives
    #[command(subcommand)]
    App(app::App),
    /// Flows: start, list, stop
    #[command(subcommand)]
    Flow(flow::Flow),
    /// Running copies of flows
    #[command(subcommand)]
    Task(task::Task),
    /// Send one request to a worker and print its reply
    Request(task::Request),
    /// What became of a request whose reply was lost
    Outcome(task::Outcome),
    /// The key-value store
    #[command(subcommand)]
    Kv(kv::Kv),
    /// The whole state as one file: save, verify, restore
    #[command(subcommand)]
    Snapshot(snapshot::Snapshot),
    /// Make a stopped control node the only one, when a majority is lost for good
    Recover(snapshot::Recover),
    /// Measure, beside the floor of this machine
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Print the release
    Version,
    /// Print a completion script
    Completions(local::Completions),
}

impl Command {
    /// What is logged unless `LONGSHORE_LOG` says otherwise: a node tells what it does, a tool only what goes wrong.
    pub(crate) const fn log_level(&self) -> &'static str {
        match self {
            Self::Run(_) => "info",
            // Nodes that are being started and stopped together warn of each other as a matter of course.
            Self::Dev(_) | Self::Bench(_) => "error",
            _ => "warn",
        }
    }
}

/// A duration with a unit, such as `500ms` or `1m 30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("it must be longer than nothing".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write for example 30s or 500ms")),
    }
}

/// A number of bytes with a binary unit.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
    let bytes = unit.and_then(|(number, shift)| number.trim().parse::<u64>().ok()?.checked_mul(1 << shift));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| "write for example 256MiB or 1GiB".to_owned())
}

/// `key=value`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write key=value".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn definitions_are_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn pack_has_its_own_output() {
        let args = Args::parse_from(["longshore", "app", "pack", "dir", "-o", "file.tar"]);
        let Command::App(app::App::Pack(pack)) = args.command else { panic!("app pack") };
        assert_eq!(pack.file.as_deref(), Some("file.tar"));
        let args = Args::parse_from(["longshore", "app", "list", "-o", "json"]);
        assert_eq!(args.globals.format(), Format::Json);
        assert!(Args::try_parse_from(["longshore", "app", "list", "-o", "yaml"]).is_err());
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("30").is_err() && duration("0s").is_err());
    }
}
