//! Arguments of `longshore bench`.

use clap::{Args, Subcommand, ValueEnum};
use longshore_wire::Transport;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// `longshore bench`
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Round trips through the proxy to a worker, beside a bare relay and a bare echo over the same transport
    Rpc(Rpc),
    /// An archive's way to a worker, beside a bare copy; with --link, round trips beside it on a narrow line
    Push(Push),
    /// Thousands of idle workers on one control node: memory, pings, and how soon all are back after it was killed
    Workers(Workers),
    /// Writes and reads of three control nodes, beside etcd or ZooKeeper, the disk and the bare HTTP server
    Kv(Kv),
    /// The other end of a connection; started by the benchmarks
    #[command(hide = true)]
    OtherEnd(OtherEnd),
}

/// What the other end of a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Sends every message back
    Echo,
    /// Passes every message on to another end, and what comes back
    Relay,
    /// Takes bulk over the bare connection
    Copy,
    /// Takes bulk over a session's streams
    Stream,
}

impl Kind {
    /// As it is typed.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Relay => "relay",
            Self::Copy => "copy",
            Self::Stream => "stream",
        }
    }
}

/// `longshore bench other-end`
#[derive(Debug, Args)]
pub(crate) struct OtherEnd {
    /// What it does
    pub(crate) kind: Kind,
    /// How it listens, and dials on
    pub(crate) transport: Transport,
    /// Where a relay passes messages on to
    #[arg(long)]
    pub(crate) to: Option<SocketAddr>,
    /// The file with the secret of a session
    #[arg(long)]
    pub(crate) secret: Option<PathBuf>,
}

/// How long to measure.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Pace {
    /// Rounds; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) rounds: u32,
    /// Time of one case in one round
    #[arg(long, default_value = "1s", value_parser = super::duration)]
    pub(crate) time: Duration,
    /// One short round: shows that everything works, and measures nothing
    #[arg(long, conflicts_with_all = ["rounds", "time"])]
    quick: bool,
}

impl Pace {
    /// The pace that was asked for.
    pub(crate) fn wanted(self) -> Self {
        if self.quick { Self { rounds: 1, time: Duration::from_millis(50), ..self } } else { self }
    }

    /// Whether nothing is to be measured.
    pub(crate) const fn is_quick(self) -> bool {
        self.quick
    }
}

/// `longshore bench rpc`
#[derive(Debug, Args)]
pub(crate) struct Rpc {
    #[command(flatten)]
    pub(crate) pace: Pace,
    /// Which transports
    #[arg(long, value_delimiter = ',', default_value = "tcp,tls,wss")]
    pub(crate) transports: Vec<Transport>,
    /// How many requests at once
    #[arg(long, value_delimiter = ',', default_value = "1,64", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) in_flight: Vec<u32>,
}

/// `longshore bench push`
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// Bytes that are moved, such as 256MiB
    #[arg(long, default_value = "1GiB", value_parser = super::bytes)]
    pub(crate) size: u64,
    /// Which transports
    #[arg(long, value_delimiter = ',', default_value = "tcp,tls,wss")]
    pub(crate) transport: Vec<Transport>,
    /// Rounds; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) rounds: u32,
    /// Round trips during a push over a line of 100 Mbit/s instead; needs root, `ip` and `tc`
    #[arg(long)]
    pub(crate) link: bool,
    /// How long round trips are measured on the line, idle and busy
    #[arg(long, default_value = "8s", value_parser = super::duration, requires = "link")]
    pub(crate) time: Duration,
    /// A few megabytes once: shows that everything works, and measures nothing
    #[arg(long, conflicts_with_all = ["size", "rounds", "time"])]
    quick: bool,
}

impl Push {
    /// What was asked for.
    pub(crate) fn wanted(self) -> Self {
        match self.quick {
            true => Self { size: 4 << 20, rounds: 1, time: Duration::from_millis(500), ..self },
            false => self,
        }
    }
}

/// `longshore bench workers`
#[derive(Debug, Args)]
pub(crate) struct Workers {
    /// How many workers
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(crate) count: u32,
    /// How they are connected
    #[arg(long, default_value = "wss")]
    pub(crate) transport: Transport,
    /// How long they are watched while idle
    #[arg(long, default_value = "30s", value_parser = super::duration)]
    pub(crate) idle: Duration,
    /// Time before memory is looked at
    #[arg(long, default_value = "10s", value_parser = super::duration)]
    pub(crate) settle: Duration,
    /// Five workers for a moment: shows that everything works, and measures nothing
    #[arg(long, conflicts_with_all = ["count", "idle", "settle"])]
    quick: bool,
}

impl Workers {
    /// What was asked for.
    pub(crate) fn wanted(&self) -> Self {
        let short = Duration::from_millis(100);
        match self.quick {
            true => Self { count: 5, idle: short, settle: short, ..*self },
            false => Self { ..*self },
        }
    }
}

/// What clients of our store speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Over {
    /// The session protocol
    Session,
    /// The HTTP API
    Http,
}

/// An operation of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Operation {
    /// A write
    Put,
    /// A linearizable read
    Get,
    /// A read of what the asked node has
    GetLocal,
}

/// Another store that is installed on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// etcd (apt-get install etcd-server)
    Etcd,
    /// ZooKeeper (apt-get install zookeeperd)
    Zookeeper,
}

impl Peer {
    /// As it is typed.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Zookeeper => "zookeeper",
        }
    }
}

/// `longshore bench kv`
#[derive(Debug, Args)]
pub(crate) struct Kv {
    #[command(flatten)]
    pub(crate) pace: Pace,
    /// How many clients at once
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) clients: Vec<u32>,
    /// What they do
    #[arg(long, value_delimiter = ',', default_value = "put,get,get-local")]
    pub(crate) operations: Vec<Operation>,
    /// Where the nodes keep their data: the disk to be measured [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// What clients of ours speak
    #[arg(long, default_value = "session")]
    pub(crate) over: Over,
    /// Three nodes of these too, started here, in the same run; the first is the one to compare with
    #[arg(long, value_delimiter = ',')]
    pub(crate) peer: Vec<Peer>,
    /// Instead: a node's memory with so many keys, and the time until the killed cluster answers again
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=900_000))]
    #[arg(conflicts_with_all = ["rounds", "time", "quick", "clients", "operations"])]
    pub(crate) keys: Option<u32>,
    /// Instead: so often, how long no write is acknowledged after the leader was killed
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=99))]
    #[arg(conflicts_with_all = ["rounds", "time", "clients", "keys", "operations"])]
    pub(crate) kills: Option<u32>,
}
