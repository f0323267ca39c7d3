//! Arguments of the commands that need no running cluster.

use clap::{Args, Subcommand};
use longshore_wire::ClusterUri;
use longshore_wire::Transport;
use std::net::SocketAddr;
use std::path::PathBuf;

/// `longshore dev`
#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Folder of an app: packed, deployed, its flow `main` started on all workers, its output followed
    pub(crate) app_dir: Option<PathBuf>,
    /// How many control nodes
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) control: u8,
    /// How many workers
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=99))]
    pub(crate) workers: u8,
    /// What carries the sessions: tcp, tls, ws, wss or quic
    #[arg(long, default_value = "wss")]
    pub(crate) transport: Transport,
    /// Keep the data in this folder, for the next time; otherwise it is thrown away
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Write nothing to a disk: the data is kept in memory (/dev/shm), and thrown away
    #[arg(long, conflicts_with = "data")]
    pub(crate) memory: bool,
    /// Argument of the flow; may stand several times
    #[arg(long = "arg", value_name = "KEY=VALUE", value_parser = super::pair)]
    pub(crate) args: Vec<(String, String)>,
    /// End when the tasks have ended, with their exit code
    #[arg(long, requires = "app_dir")]
    pub(crate) once: bool,
}

/// `longshore init`
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Where to write; made when absent
    pub(crate) dir: PathBuf,
    /// Name of the cluster
    #[arg(long, default_value = "longshore")]
    pub(crate) cluster: String,
    /// PBKDF2 rounds of the credentials
    #[arg(long, default_value_t = longshore_wire::credential::DEFAULT_ITERATIONS, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(ITERATIONS))]
    pub(crate) iterations: u32,
}

/// Rounds that both sides of a handshake accept.
const ITERATIONS: std::ops::RangeInclusive<i64> =
    longshore_wire::credential::MIN_ITERATIONS as i64..=longshore_wire::credential::MAX_ITERATIONS as i64;

/// A configuration file.
#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration file
    #[arg(short = 'c', long = "config", value_name = "FILE", env = "LONGSHORE_CONFIG")]
    pub(crate) file: PathBuf,
}

/// `longshore run`
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Make a new cluster: on the very first control node, once
    #[arg(long)]
    pub(crate) bootstrap: bool,
}

/// `longshore config`
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Validate
    Check(ConfigFile),
    /// Print all effective values, secrets redacted
    Show(ConfigFile),
}

/// `longshore discover`
#[derive(Debug, Args)]
pub(crate) struct Discover {
    /// longshore://HOST, with :PORT and ;transport=tcp|tls|ws|wss|quic behind it where wanted
    pub(crate) uri: ClusterUri,
    /// Ask this DNS server instead of the system's
    #[arg(long, value_name = "IP:PORT", value_parser = nameserver)]
    pub(crate) dns: Option<SocketAddr>,
}

/// `longshore completions`
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// For which shell
    pub(crate) shell: clap_complete::Shell,
}

/// An address of a DNS server; the port may be left out.
fn nameserver(text: &str) -> Result<SocketAddr, String> {
    const DNS: u16 = 53;
    let with_port = text.parse::<SocketAddr>();
    with_port.or_else(|_| text.parse().map(|ip| SocketAddr::new(ip, DNS))).map_err(|_| "write IP:PORT".to_owned())
}
