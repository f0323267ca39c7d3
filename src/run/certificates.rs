//! Keeps the certificates of a running node as fresh as their files: looks at them every few seconds, and at SIGHUP.
//!
//! Sessions are never touched: new handshakes use what the files hold now. A file that cannot be used changes nothing but
//! the log.

use longshore_transport::{ClientTls, ServerTls, TlsError, When};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Between two looks at the files. A look costs a few calls of stat(2); a renewal waits so long at most.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The certificates of what runs in this process.
#[derive(Default, Clone)]
pub(super) struct Certificates(Vec<Held>);

#[derive(Clone)]
enum Held {
    Shown(ServerTls),
    Trusted(ClientTls),
}

impl Held {
    const fn what(&self) -> &'static str {
        match self {
            Self::Shown(_) => "the certificate that listeners show",
            Self::Trusted(_) => "what vouches for dialled peers",
        }
    }

    fn reload(&self, when: When) -> Result<bool, TlsError> {
        match self {
            Self::Shown(tls) => tls.reload(when),
            Self::Trusted(tls) => tls.reload(when),
        }
    }

    fn refresh(&self, when: When) {
        let what = self.what();
        match self.reload(when) {
            Ok(true) => tracing::info!("{what}: read again; standing sessions go on as they are"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "{what}: NOT replaced, the former one stays in use; correct the file");
            }
        }
    }
}

impl Certificates {
    /// Keeps what listeners show.
    pub(super) fn shown<'a>(&mut self, listeners: impl IntoIterator<Item = &'a ServerTls>) {
        // All listeners of a node share one certificate.
        self.0.extend(listeners.into_iter().next().cloned().map(Held::Shown));
    }

    /// Keeps what vouches for dialled peers.
    pub(super) fn trusted(&mut self, tls: &ClientTls) {
        self.0.push(Held::Trusted(tls.clone()));
    }

    /// Runs for as long as the node does; ends only with a reason.
    pub(super) async fn keep_fresh(&self) -> String {
        let mut hang_up = match signal(SignalKind::hangup()) {
            Ok(hang_up) => hang_up,
            Err(error) => return format!("SIGHUP cannot be received: {error}"),
        };
        loop {
            let when = match tokio::time::timeout(LOOK_EVERY, hang_up.recv()).await {
                Ok(_) => When::Now,
                Err(_) => When::Changed,
            };
            let held = self.0.clone();
            let look = move || held.iter().for_each(|held| held.refresh(when));
            if let Err(error) = tokio::task::spawn_blocking(look).await {
                return format!("the look at the certificates ended: {error}");
            }
        }
    }
}
