//! Accepts connections on one address, and makes links of them.
//!
//! Accepting and upgrading are apart: whoever accepts never waits for a slow client's TLS. It owns the listening socket
//! and the count of unproven connections; who a client is, is the handshake's affair.

use crate::link::{Carrier, Link, LinkInfo};
use crate::tls::ServerTls;
use crate::ws;
use longshore_wire::Transport;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Time for a client's TLS and the WebSocket's opening.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after the system could not accept (no file descriptors, no memory): long enough for something to be freed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A good number of connections that may be unproven at once.
pub const MAX_PENDING: usize = 256;

/// Where and how to listen.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// What clients speak.
    pub transport: Transport,
    /// The address; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// Path of the WebSocket.
    pub path: String,
    /// Certificate and key; needed for TLS and WSS.
    pub tls: Option<ServerTls>,
    /// Connections that may be unproven at once; further ones wait in the system's queue. [`MAX_PENDING`] is a good number.
    pub max_pending: usize,
}

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be had.
    #[error("cannot listen on {bind}: {source}")]
    Bind {
        /// The address.
        bind: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// TLS without a certificate.
    #[error("cannot listen on {bind} with {transport}: no certificate is given")]
    NoTls {
        /// The address.
        bind: SocketAddr,
        /// The transport.
        transport: Transport,
    },
}

/// Why a connection became no link.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// Too slow.
    #[error("{remote} did not complete {stage} within {after:?}")]
    Timeout {
        /// The client.
        remote: SocketAddr,
        /// What was awaited.
        stage: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// TLS failed.
    #[error("no TLS with {remote}: {source}")]
    Tls {
        /// The client.
        remote: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The WebSocket was not opened.
    #[error("no WebSocket with {remote}: {message}")]
    WebSocket {
        /// The client.
        remote: SocketAddr,
        /// Why.
        message: String,
    },
}

/// One listening address.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    local: SocketAddr,
    pending: Arc<Semaphore>,
    upgrade: Arc<Upgrade>,
}

/// What all connections of a listener have in common.
#[derive(Debug)]
struct Upgrade {
    carrier: Carrier,
    tls: Option<ServerTls>,
    path: Option<String>,
    deadline: Duration,
}

impl Listener {
    /// Listens.
    ///
    /// # Errors
    /// When the address cannot be had, or a certificate is missing.
    pub async fn bind(options: ListenOptions) -> Result<Self, ListenError> {
        let ListenOptions { transport, bind, path, tls, max_pending } = options;
        if transport.is_encrypted() && tls.is_none() {
            return Err(ListenError::NoTls { bind, transport });
        }
        let failed = |source| ListenError::Bind { bind, source };
        if transport == Transport::Quic {
            return Err(failed(io::Error::new(
                io::ErrorKind::Unsupported,
                "this release does not listen with QUIC yet",
            )));
        }
        let tcp = TcpListener::bind(bind).await.map_err(failed)?;
        let local = tcp.local_addr().map_err(failed)?;
        let upgrade = Upgrade {
            carrier: Carrier::from(transport),
            tls: tls.filter(|_| transport.is_encrypted()),
            path: transport.is_websocket().then_some(path),
            deadline: UPGRADE_TIMEOUT,
        };
        let pending = Arc::new(Semaphore::new(max_pending.clamp(1, Semaphore::MAX_PERMITS)));
        Ok(Self { tcp, local, pending, upgrade: Arc::new(upgrade) })
    }

    /// The address, with the port that the system chose.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The next connection. Waits while too many are unproven, and while the system has no room; cancel safe.
    ///
    /// # Errors
    /// When the listening socket itself is broken.
    pub async fn accept(&self) -> io::Result<Pending> {
        let permit = Arc::clone(&self.pending).acquire_owned().await.map_err(io::Error::other)?;
        loop {
            match self.tcp.accept().await {
                Ok((tcp, remote)) => {
                    return Ok(Pending { remote, tcp, permit, upgrade: Arc::clone(&self.upgrade) });
                }
                Err(error) if is_fatal(&error) => return Err(error),
                Err(error) => {
                    tracing::warn!(local = %self.local, %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Whether accepting again is pointless. All else (EMFILE, ENFILE, ENOMEM, ECONNABORTED, network errors of the one
/// connection: accept(2)) passes.
fn is_fatal(error: &io::Error) -> bool {
    const EBADF: i32 = 9;
    const ENOTSOCK: i32 = 88;
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
        || matches!(error.raw_os_error(), Some(EBADF | ENOTSOCK))
}

/// A connection that is no link yet.
#[derive(Debug)]
pub struct Pending {
    /// The client's address.
    pub remote: SocketAddr,
    tcp: TcpStream,
    permit: OwnedSemaphorePermit,
    upgrade: Arc<Upgrade>,
}

impl Pending {
    /// Opens TLS and the WebSocket where the listener wants them, within 5 s. Run it apart from the accepting loop.
    ///
    /// # Errors
    /// When the client does not do its part in time.
    pub async fn upgrade(self) -> Result<Link, UpgradeError> {
        let mut stage = "TLS";
        let (remote, after) = (self.remote, self.upgrade.deadline);
        match tokio::time::timeout(after, self.open(&mut stage)).await {
            Ok(result) => result,
            Err(_) => Err(UpgradeError::Timeout { remote, stage, after }),
        }
    }

    async fn open(self, stage: &mut &'static str) -> Result<Link, UpgradeError> {
        let Self { remote, tcp, permit, upgrade } = self;
        // Small frames must not wait for the acknowledgement of the ones before. A failure shows at the next use.
        let _ = tcp.set_nodelay(true);
        let mut info = LinkInfo { carrier: upgrade.carrier, remote: Some(remote), exporter: None, certified: false };
        let refused = |error: ws::WsError| UpgradeError::WebSocket { remote, message: error.to_string() };
        let mut link = match (&upgrade.tls, &upgrade.path) {
            (None, None) => Link::new(tcp, info),
            (None, Some(path)) => {
                *stage = "the WebSocket's opening";
                Link::new(ws::accept(path, tcp).await.map_err(refused)?, info)
            }
            (Some(tls), path) => {
                let secured = tls.accept(tcp).await.map_err(|source| UpgradeError::Tls { remote, source })?;
                let (stream, exporter) = secured;
                info.exporter = Some(exporter);
                match path {
                    None => Link::new(stream, info),
                    Some(path) => {
                        *stage = "the WebSocket's opening";
                        Link::new(ws::accept(path, stream).await.map_err(refused)?, info)
                    }
                }
            }
        };
        link.admission = Some(permit);
        Ok(link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    async fn listen(transport: Transport, max_pending: usize) -> Listener {
        let bind = "127.0.0.1:0".parse().unwrap();
        let tls = Some(ServerTls::self_signed(&["localhost".to_owned()], None).unwrap());
        Listener::bind(ListenOptions { transport, bind, path: "/x".to_owned(), tls, max_pending }).await.unwrap()
    }

    #[tokio::test]
    async fn a_silent_client_is_dropped_at_the_deadline() {
        for (transport, awaited) in [(Transport::Tls, "TLS"), (Transport::Ws, "the WebSocket's opening")] {
            let mut listener = listen(transport, 1).await;
            Arc::get_mut(&mut listener.upgrade).unwrap().deadline = Duration::from_millis(30);
            let mut client = TcpStream::connect(listener.local_addr()).await.unwrap();
            let error = listener.accept().await.unwrap().upgrade().await.unwrap_err();
            assert!(matches!(error, UpgradeError::Timeout { stage, .. } if stage == awaited), "{error}");
            assert_eq!(client.read(&mut [0; 16]).await.unwrap_or(0), 0, "the client sees the end");
        }
    }

    #[tokio::test]
    async fn unproven_connections_are_counted() {
        let listener = listen(Transport::Tcp, 1).await;
        let _clients =
            [TcpStream::connect(listener.local_addr()).await, TcpStream::connect(listener.local_addr()).await];
        let first = listener.accept().await.unwrap().upgrade().await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(30), listener.accept()).await.is_err());
        drop(first);
        assert!(tokio::time::timeout(Duration::from_secs(5), listener.accept()).await.is_ok());
    }
}
