//! `longshore run`: configuration → each component's options → running roles, until a signal or a fault ends them.
//!
//! It owns the order of start and stop: control first, worker first to go. A second signal ends the process at once.

mod certificates;
mod descriptors;
mod options;
mod proxy;
mod roles;
mod signals;

pub(crate) use descriptors::raise_descriptors;
pub(crate) use options::{
    check_certificates, control_options, dial_options, load, make_folder, resolver, worker_options,
};
pub(crate) use signals::Signals;

use crate::args::local::Run;
use crate::error::{Exit, Failed};
use longshore_config::Parting;
use longshore_wire::Role;
use roles::{End, Roles};
use std::time::Duration;

/// Time for a graceful end: a task's ten seconds, and a little for the rest.
pub(crate) const STOP_DEADLINE: Duration = Duration::from_secs(15);

pub(crate) async fn run(args: &Run) -> anyhow::Result<()> {
    let config = load(&args.config)?;
    // Not for workers alone: their tasks would inherit it, and some programs still use select(2).
    if config.has_role(Role::Control) {
        descriptors::provide_descriptors();
    }
    let mut signals = Signals::new()?;
    let starting = Roles::start(&config, args);
    let roles = tokio::select! {
        roles = starting => roles?,
        signal = signals.wanted() => return Err(Failed::new(Exit::Failed, format!("{signal} while starting")).into()),
    };
    let end = tokio::select! {
        end = roles.stopped() => Some(end),
        signal = signals.wanted() => {
            tracing::info!(signal, "stopping; a second signal ends the process at once");
            None
        }
    };
    // Only who was asked to end leaves; who has left, or is broken, just ends.
    let parting = if end.is_none() { config.control.on_stop } else { Parting::Stay };
    tokio::select! {
        () = roles.stop(STOP_DEADLINE, parting) => {}
        signal = signals.wanted_again() => {
            tracing::warn!(signal, "ended at once; tasks may go on");
            end_now();
        }
    }
    match end {
        Some(End::Fault(fault)) => Err(Failed::new(Exit::Failed, fault).into()),
        Some(End::Left) | None => {
            tracing::info!("stopped");
            Ok(())
        }
    }
}

/// Ends the process without another word of what is cut off by that.
pub(crate) fn end_now() -> ! {
    std::process::exit(Exit::Failed as i32)
}
