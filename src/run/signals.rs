//! The signals of a running node.

use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A terminal, `timeout` and other wrappers often deliver the same signal twice; nobody types it twice so fast.
const ECHO: Duration = Duration::from_millis(500);

/// What the process listens to from its start on.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Takes the signals over.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits, after a first signal, for one that asks for the end at once.
    pub(crate) async fn wanted_again(&mut self) -> &'static str {
        let first = Instant::now();
        loop {
            let signal = self.wanted().await;
            if first.elapsed() > ECHO {
                return signal;
            }
        }
    }

    /// Waits for a signal that asks for the end, and gives its name.
    pub(crate) async fn wanted(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => {
                    tracing::info!("SIGHUP: certificates are read again; all other configuration is read at the start only, so restart the node to apply changes");
                }
            }
        }
    }
}
