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
use crate::output::Format;

pub(super) async fn bench(args: Bench, format: Format) -> anyhow::Result<()> {
    let cases = match args {
        Bench::Rpc(args) => rpc::rpc(&args).await?,
        Bench::Kv(args) => kv::kv(&args).await?,
    };
    figures::print(&cases, format)
}
