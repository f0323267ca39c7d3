//! `longshore bench`: load on a cluster of child processes, beside the floor of this machine in the same run.
//!
//! Ours and the floor take turns in every round, so that a machine that slows down slows both.

mod bare;
mod children;
mod figures;
mod kv;
mod load;
mod process;
mod push;
mod rpc;
mod workers;

use crate::args::bench::Bench;
use crate::error::{Exit, Failed};
use crate::output::Format;
use crate::run::Signals;
use figures::Case;

pub(super) async fn bench(args: Bench, format: Format) -> anyhow::Result<()> {
    match args {
        Bench::Rpc(args) => measured(rpc::rpc(&args), format).await,
        Bench::Push(args) => measured(push::push(&args.wanted()), format).await,
        Bench::Workers(args) => measured(workers::workers(&args.wanted()), format).await,
        Bench::Kv(args) => measured(kv::kv(&args), format).await,
        Bench::OtherEnd(args) => bare::other_end(&args).await,
    }
}

async fn measured(measuring: impl Future<Output = anyhow::Result<Vec<Case>>>, format: Format) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    // What was started ends with the measurement, however that ends.
    tokio::select! {
        cases = measuring => figures::print(&cases?, format),
        signal = signals.wanted() => Err(Failed::new(Exit::Failed, format!("{signal}: nothing was measured to its end")).into()),
    }
}
