//! Watches the reader and the writer from outside: pings, sees that bytes come and go, and sees every end.

use super::core::{Core, Farewell};
use super::inbound::Arrivals;
use super::outbox::Cause;
use super::phase::Phase;
use super::{SessionOptions, lane, reader, writer};
use crate::Io;
use bytes::Bytes;
use longshore_wire::frame::Kind;
use longshore_wire::{Code, Failure};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::ReadHalf;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

/// Time for the goodbye to get out and for the peer to close its side.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// Time in which a goodbye of the peer may still be found, once writing to it has failed.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A loop has ended.
enum Ended {
    Reader,
    Writer(io::Result<()>),
    Lanes,
}

/// Starts the session's loops.
pub(super) fn start(core: &Arc<Core>, io: ReadHalf<Box<dyn Io>>, arrivals: Arrivals) {
    let mut loops = JoinSet::new();
    let (reading, writing) = (Arc::clone(core), Arc::clone(core));
    if core.bundle.is_some() {
        let (opening, arrivals) = (Arc::clone(core), arrivals.second());
        loops.spawn(async move {
            lane::run(opening, arrivals).await;
            Ended::Lanes
        });
    }
    loops.spawn(async move {
        reader::run(reading, io, arrivals).await;
        Ended::Reader
    });
    loops.spawn(async move { Ended::Writer(writer::run(writing).await) });
    let core = Arc::clone(core);
    // Made in the task, which would hold it twice otherwise.
    TaskTracker::new().spawn(async move { Watchdog::new(core).run(loops).await });
}

/// Whatever way the watchdog ends, the session is over.
struct Finish(Arc<Core>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Time between two looks of the watchdog.
pub(super) fn tick(options: &SessionOptions) -> Duration {
    (options.ping_every.min(options.lost_after) / 4).max(Duration::from_millis(1))
}

struct Watchdog {
    core: Arc<Core>,
    checked: Instant,
    next_ping: Instant,
    /// When the link is cut, whatever happens.
    cut_at: Option<Instant>,
}

impl Watchdog {
    fn new(core: Arc<Core>) -> Self {
        let now = Instant::now();
        Self { core, checked: now, next_ping: now, cut_at: None }
    }

    fn tick(&self) -> Duration {
        tick(&self.core.options)
    }

    async fn run(&mut self, mut loops: JoinSet<Ended>) {
        let finish = Finish(Arc::clone(&self.core));
        let core = Arc::clone(&self.core);
        self.check();
        loop {
            let wake = self.cut_at.unwrap_or_else(|| self.wake());
            tokio::select! {
                biased;
                () = core.reached(if self.cut_at.is_none() { Phase::Closing } else { Phase::Cut }) => {
                    if core.is_cut() {
                        break;
                    }
                    self.cut_within(CLOSE_DEADLINE);
                }
                ended = loops.join_next() => match ended {
                    None => break,
                    Some(ended) => self.ended(ended),
                },
                () = sleep_until(wake) => self.check(),
            }
        }
        loops.shutdown().await;
        drop(finish);
    }

    /// When to look next: at the latest after a tick, earlier when the time of a call ends. Calls made meanwhile do not
    /// end before that, or have a timer of their own.
    fn wake(&self) -> Instant {
        let tick = self.checked + self.tick();
        self.core.calls.earliest().map_or(tick, |until| until.min(tick))
    }

    fn cut_within(&mut self, time: Duration) {
        self.cut_at = Some(Instant::now() + time);
    }

    fn ended(&mut self, ended: Result<Ended, JoinError>) {
        match ended {
            Ok(Ended::Reader | Ended::Lanes | Ended::Writer(Ok(()))) => {}
            Ok(Ended::Writer(Err(error))) => {
                tracing::debug!(peer = %self.core.label, %error, "writing failed");
                self.cut_within(LAST_WORDS);
            }
            Err(error) => {
                let message = format!("a loop of the session with {} failed: {error}", self.core.label);
                self.core.end(Failure::new(Code::Internal, message), Farewell::Cut);
            }
        }
    }

    fn lost(&self, what: &str) {
        let message = format!("{what} {} for {:?}", self.core.label, self.core.options.lost_after);
        self.core.end(Failure::new(Code::Unavailable, message), Farewell::Cut);
    }

    fn check(&mut self) {
        let (now, lost_after) = (Instant::now(), self.core.options.lost_after);
        if self.cut_at.is_some_and(|at| at <= now) {
            let message = format!("the connection to {} broke while writing", self.core.label);
            return self.core.end(Failure::new(Code::Unavailable, message), Farewell::Cut);
        }
        let overslept = now - self.checked > self.tick() * 3;
        self.checked = now;
        if overslept {
            // This process was stopped or starved. What the peer sent meanwhile waits in the socket: look there first.
            self.core.clock.heard();
            self.core.clock.wrote();
        }
        if self.core.clock.silent_for() >= lost_after {
            return self.lost("nothing has arrived from");
        }
        if self.core.outbox().is_signalled() && self.core.clock.unwritten_for() >= lost_after {
            return self.lost("nothing could be written to");
        }
        self.core.sweep(now);
        self.ping(now);
    }

    fn ping(&mut self, now: Instant) {
        if now < self.next_ping {
            return;
        }
        if let Some(age) = self.core.clock.ping_age() {
            if age < self.core.options.ping_deadline {
                return;
            }
            tracing::debug!(peer = %self.core.label, ?age, "a ping is not answered");
        }
        self.next_ping = now + self.core.options.ping_every;
        let stamp = self.core.clock.ping();
        self.core.send(Cause::Own, Kind::Ping, 0, Bytes::copy_from_slice(&stamp));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small() {
        fn watching<'a, F: Future + 'a>(_: impl Fn(&'a mut Watchdog, JoinSet<Ended>) -> F) -> usize {
            size_of::<F>()
        }
        fn reading<F: Future>(_: impl Fn(Arc<Core>, ReadHalf<Box<dyn Io>>, Arrivals) -> F) -> usize {
            size_of::<F>()
        }
        let (shared, watching, reading) = (size_of::<Core>(), watching(Watchdog::run), reading(reader::run));
        assert!(shared <= 1088 && watching <= 448 && reading <= 320, "{shared} + {watching} + {reading} bytes");
    }
}
