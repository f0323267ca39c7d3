//! What each command does: asks the API or a component, and prints the answer.

mod app;
mod bench;
mod cluster;
mod config;
mod credential;
mod dev;
mod discover;
mod doctor;
mod explain;
mod flow;
mod init;
mod kv;
mod node;
mod recover;
mod snapshot;
mod task;
mod token;

use crate::args::{Args, Command, Globals};
use crate::client::Client;
use crate::output::{self, Format};
use crate::run;
use clap::CommandFactory as _;
use serde_json::{Value, json};

/// The API and how its answers are printed.
pub(crate) struct Remote {
    client: Client,
    format: Format,
}

impl Remote {
    fn new(globals: &Globals) -> anyhow::Result<Self> {
        Ok(Self { client: Client::new(globals)?, format: globals.format() })
    }

    fn wide(&self) -> bool {
        self.format == Format::Wide
    }

    /// Prints a value as JSON where that is wanted, else as `table` does.
    fn print(&self, value: &Value, table: impl FnOnce(&Value) -> anyhow::Result<()>) -> anyhow::Result<()> {
        if self.format == Format::Json { output::json(value) } else { table(value) }
    }
}

/// Carries out the command.
pub(crate) async fn dispatch(args: Args) -> anyhow::Result<()> {
    let Args { globals, command } = args;
    let remote = || Remote::new(&globals);
    match command {
        Command::Dev(args) => dev::dev(args, globals.timeout).await,
        Command::Init(args) => init::init(&args),
        Command::Run(args) => run::run(&args).await,
        Command::Config(args) => config::config(&args, globals.format()),
        Command::Discover(args) => discover::discover(args, globals.format()).await,
        Command::Doctor(args) => doctor::doctor(&args, globals.format()).await,
        Command::Cluster(args) => cluster::cluster(&remote()?, &args).await,
        Command::Node(args) => node::node(&remote()?, args).await,
        Command::Credential(args) => credential::credential(&remote()?, args).await,
        Command::Token(args) => token::token(&remote()?, args).await,
        Command::App(args) => app::app(&globals, args).await,
        Command::Flow(args) => flow::flow(&remote()?, args).await,
        Command::Task(args) => task::task(&remote()?, args).await,
        Command::Request(args) => task::request(&remote()?, args).await,
        Command::Outcome(args) => task::outcome(&remote()?, &args).await,
        Command::Kv(args) => kv::kv(&remote()?, args).await,
        Command::Snapshot(args) => snapshot::snapshot(&globals, args).await,
        Command::Recover(args) => recover::recover(&args, globals.format()).await,
        Command::Bench(args) => bench::bench(args, globals.format()).await,
        Command::Version => version(globals.format()),
        Command::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Args::command(), "longshore", &mut script);
            output::raw(&script)
        }
    }
}

fn version(format: Format) -> anyhow::Result<()> {
    use longshore_wire::handshake::{MAX_VERSION, MIN_VERSION};
    match format {
        Format::Json => output::json(&json!({"release": crate::RELEASE, "protocol": [MIN_VERSION, MAX_VERSION]})),
        _ => output::line(&format!("longshore {} (protocol {MIN_VERSION} to {MAX_VERSION})", crate::RELEASE)),
    }
}

/// The items of a list that the API gave.
fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
