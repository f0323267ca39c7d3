//! Dials one endpoint: TCP, then TLS and a WebSocket where the transport asks for them; or QUIC.
//!
//! It resolves nothing and tries nothing twice: the endpoint's address is the one, and one deadline spans the whole.

use crate::link::{Carrier, Link, LinkInfo};
use crate::quic;
use crate::tls::{ClientTls, TlsError};
use crate::ws;
use longshore_wire::{Endpoint, Transport};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// Time for connecting, TLS and the WebSocket's opening together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How to dial.
#[derive(Debug, Clone)]
pub struct DialOptions {
    /// Time for TCP, TLS and the WebSocket's opening together.
    pub connect_timeout: Duration,
    /// What vouches for TLS peers.
    pub tls: ClientTls,
}

impl DialOptions {
    /// The default deadline, and this TLS.
    pub const fn new(tls: ClientTls) -> Self {
        Self { connect_timeout: CONNECT_TIMEOUT, tls }
    }
}

/// Why an endpoint was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// TCP failed.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        source: std::io::Error,
    },
    /// Too slow.
    #[error("{endpoint} did not answer within {after:?} ({stage})")]
    Timeout {
        /// Where.
        endpoint: Endpoint,
        /// What was being done.
        stage: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// TLS failed.
    #[error("no TLS with {endpoint}: {source}")]
    Tls {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        source: std::io::Error,
    },
    /// This node's TLS settings do not allow it.
    #[error("no TLS with {endpoint}: {source}")]
    TlsSettings {
        /// Where.
        endpoint: Endpoint,
        /// What to correct.
        source: TlsError,
    },
    /// The server answered HTTP, but did not open a WebSocket.
    #[error(
        "{endpoint} answered HTTP {status} instead of opening a WebSocket; check the path and what stands before it"
    )]
    Status {
        /// Where.
        endpoint: Endpoint,
        /// HTTP status.
        status: u16,
    },
    /// The server does not speak WebSocket.
    #[error("no WebSocket with {endpoint}: {message}")]
    WebSocket {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        message: String,
    },
}

/// Dials an endpoint.
///
/// # Errors
/// When TCP, TLS or the WebSocket fails, or together they take longer than the options allow.
pub async fn dial(endpoint: &Endpoint, options: &DialOptions) -> Result<Link, DialError> {
    let mut stage = "TCP";
    match tokio::time::timeout(options.connect_timeout, open(endpoint, &options.tls, &mut stage)).await {
        Ok(result) => result,
        Err(_) => Err(DialError::Timeout { endpoint: endpoint.clone(), stage, after: options.connect_timeout }),
    }
}

async fn open(endpoint: &Endpoint, tls: &ClientTls, stage: &mut &'static str) -> Result<Link, DialError> {
    if endpoint.transport == Transport::Quic {
        *stage = "QUIC; a firewall may drop UDP";
        return open_quic(endpoint, tls).await;
    }
    let tcp =
        connect(endpoint.address).await.map_err(|source| DialError::Connect { endpoint: endpoint.clone(), source })?;
    let mut info = LinkInfo {
        carrier: Carrier::from(endpoint.transport),
        remote: Some(endpoint.address),
        exporter: None,
        certified: false,
    };
    if !endpoint.transport.is_encrypted() {
        *stage = "WebSocket";
        return if endpoint.transport == Transport::Ws {
            Ok(Link::new(open_websocket(endpoint, tcp).await?, info))
        } else {
            Ok(Link::new(tcp, info))
        };
    }
    *stage = "TLS";
    let connector =
        tls.connector(endpoint).map_err(|source| DialError::TlsSettings { endpoint: endpoint.clone(), source })?;
    let secured =
        connector.connect(tcp).await.map_err(|source| DialError::Tls { endpoint: endpoint.clone(), source })?;
    info.exporter = Some(secured.exporter);
    info.certified = secured.certified;
    *stage = "WebSocket";
    if endpoint.transport.is_websocket() {
        Ok(Link::new(open_websocket(endpoint, secured.stream).await?, info))
    } else {
        Ok(Link::new(secured.stream, info))
    }
}

async fn open_quic(endpoint: &Endpoint, tls: &ClientTls) -> Result<Link, DialError> {
    let connector =
        tls.connector(endpoint).map_err(|source| DialError::TlsSettings { endpoint: endpoint.clone(), source })?;
    quic::dial(endpoint.address, connector).await.map_err(|error| match error {
        quic::QuicError::Connect(source) => DialError::Connect { endpoint: endpoint.clone(), source },
        quic::QuicError::Tls(source) => DialError::Tls { endpoint: endpoint.clone(), source },
    })
}

async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let tcp = TcpStream::connect(address).await?;
    // Small frames must not wait for the acknowledgement of the ones before.
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

async fn open_websocket<S: crate::link::Io>(endpoint: &Endpoint, stream: S) -> Result<ws::WsIo<S>, DialError> {
    ws::connect(endpoint, stream).await.map_err(|error| match error {
        ws::WsError::Status(status) => DialError::Status { endpoint: endpoint.clone(), status },
        ws::WsError::Other(message) => DialError::WebSocket { endpoint: endpoint.clone(), message },
    })
}
