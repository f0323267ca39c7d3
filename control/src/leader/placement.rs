//! Commits what the placer wants.

use super::Lead;
use longshore_state::{State, placement};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The placer is asked at least so often, whatever has changed.
const EVERY: Duration = Duration::from_secs(5);
/// Changes within this time are looked at together.
const COALESCE: Duration = Duration::from_millis(10);
/// Commands in one proposal: each names up to [`placement::MAX_ASSIGN`] workers, and a proposal is limited in bytes.
const AT_ONCE: usize = 16;

/// The state that was last found to be right.
struct Settled {
    state: Arc<State>,
    at: Instant,
}

pub(super) async fn run(mut lead: Lead, stop: CancellationToken) {
    let mut changed = lead.leading.group.changed();
    let mut settled = None;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            alive = changed.changed() => if alive.is_err() { return },
            more = lead.next(&stop) => if !more { return },
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = step(&mut lead, &mut settled) => (),
        }
    }
}

async fn step(lead: &mut Lead, settled: &mut Option<Settled>) {
    if !lead.leads().await {
        *settled = None;
        return;
    }
    let is_settled =
        |state: &State, settled: &Settled| settled.at.elapsed() < EVERY && settled.state.same_but_for_kv(state);
    if settled.as_ref().is_some_and(|settled| is_settled(&lead.leading.group.state(), settled)) {
        return;
    }
    tokio::time::sleep(COALESCE).await;
    let state = lead.leading.group.state();
    let commands = placement::plan(&state);
    if commands.is_empty() {
        *settled = Some(Settled { state, at: Instant::now() });
        return;
    }
    for chunk in commands.chunks(AT_ONCE) {
        match lead.leading.group.propose(chunk.to_vec()).await {
            Ok(outcomes) => outcomes.into_iter().filter_map(Result::err).for_each(|failure| {
                tracing::info!(%failure, "an assignment was refused; the state has moved on");
            }),
            Err(failure) => {
                tracing::warn!(%failure, "assignments were not committed; to be tried again");
                return;
            }
        }
    }
}
