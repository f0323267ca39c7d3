//! Accepts connections on one address, and makes links of them.
//!
//! Accepting and upgrading are apart: whoever accepts never waits for a slow client, nor for one address's crowd (see
//! [`admission`]). It owns the listening socket; who a client is, is the handshake's affair.

pub(crate) mod admission;
mod refusal;

use crate::link::{Carrier, Link, LinkInfo};
use crate::quic;
use crate::tls::ServerTls;
use crate::ws;
use admission::{Admission, Ticket};
use futures_util::FutureExt as _;
use longshore_wire::Transport;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

/// Time for a client's TLS and the WebSocket's opening; on plain TCP, where there is neither, for its whole handshake. It
/// counts from the accept, with the wait for a place.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after the system could not accept (no file descriptors, no memory): long enough for something to be freed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that the system completes before they are accepted (it takes the smaller of this and `net.core.somaxconn`):
/// a fleet that comes back at once must not be dropped into the retries of TCP.
const BACKLOG: u32 = 4096;
/// Descriptors that are kept for files and for the API: a connection that would take one of them is closed.
const RESERVED_DESCRIPTORS: u64 = 64;

/// Where and how to listen.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// What clients speak.
    pub transport: Transport,
    /// The address; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// Path of the WebSocket.
    pub path: String,
    /// Certificate and key; needed for TLS, WSS and QUIC.
    pub tls: Option<ServerTls>,
    /// Places of unproven connections; a clone shares them with another listener.
    pub admission: Admission,
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
    /// Too many others of its address were before it.
    #[error("{remote} waited {after:?} for its turn: too many connections from its address have not proven themselves")]
    Busy {
        /// The client.
        remote: SocketAddr,
        /// How long it waited.
        after: Duration,
    },
    /// It did not wait for its turn.
    #[error("{remote} has gone before its turn came")]
    Gone {
        /// The client.
        remote: SocketAddr,
    },
    /// TLS failed.
    #[error("no TLS with {remote}: {source}")]
    Tls {
        /// The client.
        remote: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// QUIC failed.
    #[error("no QUIC with {remote}: {source}")]
    Quic {
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
    socket: Socket,
    local: SocketAddr,
    admission: Admission,
    descriptors: Option<u64>,
    upgrade: Arc<Upgrade>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Quic(quic::Server),
}

/// A connection as the socket gives it.
#[derive(Debug)]
enum Arrival {
    Tcp(TcpStream),
    Quic(Box<quic::Arriving>),
}

impl Socket {
    /// The next connection. While the places are crowded, QUIC clients must first prove their address.
    async fn next(&self, admission: &Admission) -> io::Result<(Arrival, SocketAddr)> {
        match self {
            Self::Tcp(tcp) => tcp.accept().await.map(|(tcp, remote)| (Arrival::Tcp(tcp), remote)),
            Self::Quic(server) => {
                let arriving = server.accept(|| admission.is_crowded()).await?;
                let remote = arriving.remote();
                Ok((Arrival::Quic(Box::new(arriving)), remote))
            }
        }
    }
}

impl Arrival {
    /// Whether the client has hung up, as far as that is known here: what it sent before is not worth any work then.
    fn is_gone(&self) -> bool {
        match self {
            Self::Tcp(tcp) => {
                let ready = tcp.ready(Interest::READABLE).now_or_never();
                ready.is_some_and(|ready| ready.is_ok_and(|ready| ready.is_read_closed()))
            }
            Self::Quic(_) => false,
        }
    }

    /// The number of its own file descriptor; QUIC connections share the listener's.
    fn descriptor(&self) -> Option<u64> {
        match self {
            Self::Tcp(tcp) => Some(u64::try_from(tcp.as_raw_fd()).unwrap_or(u64::MAX)),
            Self::Quic(_) => None,
        }
    }
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
        let ListenOptions { transport, bind, path, tls, admission } = options;
        if transport.is_encrypted() && tls.is_none() {
            return Err(ListenError::NoTls { bind, transport });
        }
        let failed = |source| ListenError::Bind { bind, source };
        let (socket, local) = match (transport, &tls) {
            (Transport::Quic, Some(tls)) => {
                let server = quic::Server::bind(bind, tls).map_err(failed)?;
                let local = server.local_addr().map_err(failed)?;
                (Socket::Quic(server), local)
            }
            _ => {
                let tcp = listen(bind).map_err(failed)?;
                let local = tcp.local_addr().map_err(failed)?;
                (Socket::Tcp(tcp), local)
            }
        };
        let upgrade = Upgrade {
            carrier: Carrier::from(transport),
            tls: tls.filter(|_| transport.is_encrypted()),
            path: transport.is_websocket().then_some(path),
            deadline: UPGRADE_TIMEOUT,
        };
        // A descriptor's number is the lowest that is free, so it tells how many are in use.
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let descriptors = limit.map(|limit| limit.saturating_sub(RESERVED_DESCRIPTORS.min(limit / 4)));
        Ok(Self { socket, local, admission, descriptors, upgrade: Arc::new(upgrade) })
    }

    /// The address, with the port that the system chose.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The next connection that is taken in; those that are not are turned away here, without waiting. Cancel safe.
    ///
    /// # Errors
    /// When the listening socket itself is broken.
    pub async fn accept(&self) -> io::Result<Pending> {
        loop {
            match self.socket.next(&self.admission).await {
                Ok((arrival, remote)) => {
                    if let Some(pending) = self.take_in(arrival, remote) {
                        return Ok(pending);
                    }
                }
                Err(error) if is_fatal(&error) => return Err(error),
                Err(error) => {
                    tracing::warn!(local = %self.local, %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn take_in(&self, arrival: Arrival, remote: SocketAddr) -> Option<Pending> {
        if arrival.descriptor().zip(self.descriptors).is_some_and(|(number, most)| number >= most) {
            tracing::warn!(%remote, "a connection was turned away: this process has too few file descriptors left; raise its limit (ulimit -n, LimitNOFILE)");
            return None;
        }
        match self.admission.enter(remote.ip()) {
            Some(ticket) => {
                let upgrade = Arc::clone(&self.upgrade);
                Some(Pending { remote, arrival, ticket, deadline: Instant::now() + upgrade.deadline, upgrade })
            }
            None => {
                self.upgrade.turn_away(arrival);
                None
            }
        }
    }
}

/// As tokio's own, but for the longer queue.
fn listen(bind: SocketAddr) -> io::Result<TcpListener> {
    let socket = if bind.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(bind)?;
    socket.listen(BACKLOG)
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
    arrival: Arrival,
    ticket: Ticket,
    deadline: Instant,
    upgrade: Arc<Upgrade>,
}

impl Pending {
    /// Waits for its turn, then opens TLS and the WebSocket where the listener wants them; all within 5 s of the accept.
    /// Run it apart from the accepting loop.
    ///
    /// # Errors
    /// When the client does not do its part in time or hangs up, or too many others of its address are before it.
    pub async fn upgrade(mut self) -> Result<Link, UpgradeError> {
        let (remote, deadline, after) = (self.remote, self.deadline, self.upgrade.deadline);
        // A turn that comes too late for a handshake is worth less than word that there is none.
        let patience = after - after / 5;
        if timeout_at(deadline - after / 5, self.ticket.turn()).await.is_err() {
            self.upgrade.turn_away(self.arrival);
            return Err(UpgradeError::Busy { remote, after: patience });
        }
        if self.arrival.is_gone() {
            return Err(UpgradeError::Gone { remote });
        }
        let Self { arrival, ticket, upgrade, .. } = self;
        let mut stage = "TLS";
        let mut link = match arrival {
            Arrival::Tcp(tcp) if upgrade.is_bare() => upgrade.bare(tcp, remote, deadline),
            // Boxed: whoever only waits shall not pay for what comes later.
            arrival => timeout_at(deadline, Box::pin(upgrade.open(arrival, remote, &mut stage)))
                .await
                .map_err(|_| UpgradeError::Timeout { remote, stage, after })??,
        };
        link.admission = Some(ticket);
        Ok(link)
    }
}

impl Upgrade {
    fn turn_away(&self, arrival: Arrival) {
        match arrival {
            Arrival::Tcp(tcp) => self.refuse(tcp),
            Arrival::Quic(arriving) => arriving.refuse(),
        }
    }

    /// Whether a TCP connection is a link as it is.
    const fn is_bare(&self) -> bool {
        self.tls.is_none() && self.path.is_none()
    }

    fn info(&self, remote: SocketAddr) -> LinkInfo {
        LinkInfo { carrier: self.carrier, remote: Some(remote), exporter: None, certified: false }
    }

    fn bare(&self, tcp: TcpStream, remote: SocketAddr, deadline: Instant) -> Link {
        // A failure shows at the next use.
        let _ = crate::tcp::set(&tcp);
        Link { prove_by: Some(deadline), ..Link::new(tcp, self.info(remote)) }
    }

    async fn open(&self, arrival: Arrival, remote: SocketAddr, stage: &mut &'static str) -> Result<Link, UpgradeError> {
        let tcp = match arrival {
            Arrival::Tcp(tcp) => tcp,
            Arrival::Quic(arriving) => {
                *stage = "QUIC";
                return arriving.open(stage).await.map_err(|source| UpgradeError::Quic { remote, source });
            }
        };
        // A failure shows at the next use.
        let _ = crate::tcp::set(&tcp);
        let mut info = self.info(remote);
        let refused = |error: ws::WsError| UpgradeError::WebSocket { remote, message: error.to_string() };
        Ok(match (&self.tls, &self.path) {
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
        })
    }
}

#[cfg(test)]
mod tests;
