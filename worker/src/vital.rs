//! Loops that the worker cannot live without: an end that nobody asked for is seen, also one by panic.

use tokio_util::sync::CancellationToken;

/// Tells when a vital loop ends unasked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vital {
    /// Cancelled to ask the loops to end.
    pub(crate) stop: CancellationToken,
    /// Cancelled when one ended by itself.
    pub(crate) failed: CancellationToken,
}

struct Watch {
    name: &'static str,
    vital: Vital,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.vital.stop.is_cancelled() {
            tracing::error!(
                part = self.name,
                "a part of the worker has ended by itself; the worker stops, its tasks go on"
            );
            self.vital.failed.cancel();
        }
    }
}

impl Vital {
    /// Runs a loop under watch.
    pub(crate) async fn watch(self, name: &'static str, running: impl Future<Output = ()>) {
        let _watch = Watch { name, vital: self };
        running.await;
    }
}
