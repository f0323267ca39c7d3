//! The `longshore` command: arguments → options → start roles, or talk to the API.
//!
//! It owns the process: its arguments, its log output, its signals, its exit code. It holds no logic of the cluster.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod args;
mod client;
mod commands;
mod error;
mod logging;
mod output;
mod run;

use args::Args;
use clap::Parser as _;
use std::process::ExitCode;
use std::time::Duration;

/// A blocked read of standard input must not hold up the end of the process for longer than this.
const LINGER: Duration = Duration::from_millis(200);
/// Release of this program.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Much is allocated on one thread and freed on another, a little at a time.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let result = logging::start(args.command.log_level()).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let result = runtime.block_on(commands::dispatch(args));
        runtime.shutdown_timeout(LINGER);
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error::report(&error),
    }
}
