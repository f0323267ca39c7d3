//! The link: finds whoever owns this worker, attaches, lets itself be driven, and follows when the owner changes.
//!
//! ```text
//! resolve ─▶ dial ─▶ prove ─▶ session ─▶ attach ─┬─ Accepted ──▶ driven ── Moved ──▶ attach to the new owner first
//!    ▲                                           ├─ Elsewhere ─▶ dial the owner, else tunnel to it
//!    └──────────────── pause with jitter ────────┴─ Wait
//! ```
//!
//! It resolves anew at every attempt and never gives up. It decides nothing about tasks: orders go to the supervisor.

mod connect;
mod engine;
mod relays;
mod report;
mod serve;

pub(crate) use connect::{Connector, Line, Presence};
pub(crate) use engine::Pauses;
pub(crate) use relays::Relays;
pub(crate) use report::Reporter;
pub(crate) use serve::Desk;

use crate::options::LinkStatus;
use connect::{Driven, Steer, Trouble};
use engine::Owner;
use longshore_transport::{Keyring, Session};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the former owner's session is kept after a move, so that what is in flight there can finish.
const RETIRE: Duration = Duration::from_secs(2);
/// A session that lasted so long was a good one: the next pause is short again. A worker whose sessions end at once, as
/// those of a copy with the same node id do, comes back less and less often.
const SETTLED: Duration = Duration::from_secs(5);
/// How often the secret's file is looked at; every dial looks, too.
const LOOK_AT_SECRET: Duration = Duration::from_secs(5);

/// What the link tells the rest of the worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct LinkState {
    /// The session in use.
    pub(crate) status: Option<LinkStatus>,
    /// Why there is none.
    pub(crate) trouble: Option<String>,
}

/// The loop.
pub(crate) struct Link {
    pub(crate) connector: Connector,
    /// Lines of control nodes that dial this worker.
    pub(crate) calls: mpsc::Receiver<Line>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) reporter: Reporter,
    pub(crate) pauses: Pauses,
    pub(crate) session: watch::Sender<Option<Session>>,
    pub(crate) state: watch::Sender<LinkState>,
    pub(crate) tracker: TaskTracker,
}

/// What runs over the session in use.
#[derive(Default)]
struct Seat {
    serving: CancellationToken,
    reporting: CancellationToken,
}

/// How a time of being driven has ended.
enum Left {
    Stopped,
    Lost(Trouble),
}

impl Link {
    /// Runs until stopped; then says goodbye.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let watching = watch_secret(self.connector.keyring.clone());
        self.tracker.spawn(stop.clone().run_until_cancelled_owned(watching));
        let mut secrets = self.connector.keyring.changed();
        let (mut called, mut steered) = (None, None);
        while !stop.is_cancelled() {
            secrets.mark_unchanged();
            let Some(result) = stop.run_until_cancelled(self.seek(called.take(), steered.take())).await else { break };
            let trouble = match result {
                Ok(driven) => {
                    let since = Instant::now();
                    let left = self.drive(driven, &mut secrets, &stop).await;
                    if since.elapsed() >= SETTLED {
                        self.pauses.established();
                    }
                    match left {
                        Left::Stopped => break,
                        Left::Lost(trouble) => trouble,
                    }
                }
                Err(trouble) => trouble,
            };
            let until = self.pauses.next(trouble.wait, Instant::now());
            steered.clone_from(&trouble.steer);
            self.tell(trouble);
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                // Perhaps what was wrong was the secret.
                Ok(()) = secrets.changed() => {}
                Some(line) = self.calls.recv() => called = Some(line),
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
        self.session.send_replace(None);
        self.state.send_replace(LinkState::default());
    }

    /// Finds an owner: over the line of a control node that has called, now or meanwhile, or by dialling; first where the
    /// cluster has sent this worker.
    async fn seek(&mut self, called: Option<Line>, steered: Option<Steer>) -> Result<Driven, Trouble> {
        let connector = &self.connector;
        let dialling = async {
            if let Some(steer) = steered {
                match connector.go(&steer).await {
                    Ok(driven) => return Ok(driven),
                    Err(trouble) => tracing::info!(reason = trouble.text, "not reached where the cluster sent us"),
                }
            }
            connector.connect().await
        };
        let line = match called {
            Some(line) => line,
            None => tokio::select! {
                biased;
                Some(line) = self.calls.recv() => line,
                result = dialling => return result,
            },
        };
        self.connector.settle(line).await
    }

    /// Notes why there is no session; a reason that stays the same is said loudly only once.
    fn tell(&self, trouble: Trouble) {
        let known = self.state.borrow().trouble.as_ref() == Some(&trouble.text);
        if known {
            tracing::debug!(reason = trouble.text, "still not connected to the cluster");
        } else {
            tracing::warn!(reason = trouble.text, "not connected to the cluster");
        }
        self.state.send_replace(LinkState { status: None, trouble: Some(trouble.text) });
    }

    /// Is driven by an owner, and by its successors, until a session is lost.
    async fn drive(
        &mut self,
        mut driven: Driven,
        secrets: &mut watch::Receiver<u64>,
        stop: &CancellationToken,
    ) -> Left {
        loop {
            let (moved, mut moves) = watch::channel(None);
            let seat = self.enter(&mut driven, moved);
            let left = self.follow(&driven, &mut moves, secrets, stop).await;
            seat.reporting.cancel();
            match left {
                Ok(next) => {
                    let former = std::mem::replace(&mut driven, next);
                    self.tracker.spawn(retire(former, seat.serving));
                }
                Err(left) => {
                    seat.serving.cancel();
                    self.session.send_replace(None);
                    return left;
                }
            }
        }
    }

    /// Makes a session the one in use: serves it, reports over it, lets tasks use it.
    fn enter(&self, driven: &mut Driven, moved: watch::Sender<Option<Owner>>) -> Seat {
        let session = driven.line.session();
        let seat = Seat::default();
        if let Some(inbound) = driven.line.take_inbound() {
            let serving = Arc::clone(&self.desk).serve(inbound, moved);
            self.tracker.spawn(seat.serving.clone().run_until_cancelled_owned(serving));
        }
        let reporting = self.reporter.clone().run(session.clone());
        self.tracker.spawn(seat.reporting.clone().run_until_cancelled_owned(reporting));
        let status = driven.status();
        tracing::info!(owner = status.owner_name, epoch = %status.epoch, carrier = %status.carrier, "attached to the owner");
        self.state.send_replace(LinkState { status: Some(status), trouble: None });
        self.session.send_replace(Some(session));
        seat
    }

    /// Stays with an owner until the session ends, or a new one takes its place: of a new owner, or proven with a new
    /// secret, since the former one may be about to end.
    async fn follow(
        &mut self,
        driven: &Driven,
        moves: &mut watch::Receiver<Option<Owner>>,
        secrets: &mut watch::Receiver<u64>,
        stop: &CancellationToken,
    ) -> Result<Driven, Left> {
        let session = driven.line.session();
        let mut again: Option<Instant> = None;
        let mut renew = false;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(Left::Stopped),
                ending = session.ended() => return Err(Left::Lost(Trouble::lost(ending, driven.line.carrier()))),
                Ok(()) = moves.changed() => {}
                Ok(()) = secrets.changed() => renew = true,
                () = sleep_until(again) => {}
            }
            let owner = moves.borrow_and_update().clone();
            let attempt = async {
                match &owner {
                    // Anew from the first dial on: a session that carries a tunnel was proven with the former secret, too.
                    _ if renew => Some(self.connector.connect().await),
                    Some(owner) => Some(self.connector.move_to(owner, &driven.line).await),
                    None => None,
                }
            };
            let Some(result) = stop.run_until_cancelled(attempt).await else { return Err(Left::Stopped) };
            let Some(result) = result else { continue };
            match result {
                Ok(next) => {
                    self.pauses.established();
                    return Ok(next);
                }
                Err(trouble) => {
                    let owner = owner.map(|owner| owner.name);
                    tracing::warn!(
                        owner,
                        reason = trouble.text,
                        "no new session takes the place of the present one yet"
                    );
                    again = Some(self.pauses.next(trouble.wait, Instant::now()));
                }
            }
        }
    }
}

/// Lets the former session finish what is in flight, then closes it, unless it now carries a tunnel.
async fn retire(former: Driven, serving: CancellationToken) {
    let session = former.line.session();
    tokio::select! {
        _ = session.closed() => {}
        () = tokio::time::sleep(RETIRE) => {}
    }
    former.line.release(serving);
}

/// Looks now and then whether the secret's file has changed.
async fn watch_secret(keyring: Keyring) {
    loop {
        tokio::time::sleep(LOOK_AT_SECRET).await;
        keyring.refresh().await;
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
