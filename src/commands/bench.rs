//! `longshore bench`: load on a cluster of child processes, beside the floor of this machine in the same run.
//!
//! Ours and the floor take turns in every round, so that a machine that slows down slows both.

mod children;
mod echo;
mod figures;
mod kv;
mod load;
mod rpc;

use crate::args::bench::Bench;
use crate::error::{Exit, Failed};
use crate::output::Format;
use crate::run::Signals;

pub(super) async fn bench(args: Bench, format: Format) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let measuring = async {
        match args {
            Bench::Rpc(args) => rpc::rpc(&args).await,
            Bench::Kv(args) => kv::kv(&args).await,
        }
    };
    // What was started ends with the measurement, however that ends.
    tokio::select! {
        cases = measuring => figures::print(&cases?, format),
        signal = signals.wanted() => Err(Failed::new(Exit::Failed, format!("{signal}: nothing was measured to its end")).into()),
    }
}
