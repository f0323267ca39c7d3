//! Dials QUIC: one endpoint of its own for each connection, so that it can move by itself.

use super::lane::Lane;
use super::lanes::{self, Lanes};
use super::{ALPN, CONTROL_LANE, exporter, into_io, roam, transport};
use crate::link::{Carrier, Link, LinkInfo};
use crate::tls::Connector;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectError, Connection, ConnectionError, Endpoint, EndpointConfig, TokioRuntime};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Streams that the acceptor may open before the session says how many.
const STREAMS: u32 = 0;

/// Why there is no QUIC connection.
#[derive(Debug)]
pub(crate) enum QuicError {
    /// No packet can be sent, or the peer declines.
    Connect(io::Error),
    /// TLS inside QUIC failed.
    Tls(io::Error),
}

/// Connects, proves TLS, and opens the control lane. The caller sets the deadline.
pub(crate) async fn dial(remote: SocketAddr, connector: Connector) -> Result<Link, QuicError> {
    let (config, name, certified) = connector.for_quic(ALPN);
    // Asked before the first packet leaves, so that no change goes unnoticed.
    let source = roam::source(remote);
    let (endpoint, connection) = connect(remote, config, &name).await?;
    let exporter = exporter(&connection).map_err(QuicError::Tls)?;
    let (mut send, recv) = connection.open_bi().await.map_err(connection_error)?;
    send.write_all(&[CONTROL_LANE]).await.map_err(|error| QuicError::Connect(error.into()))?;
    // Ends with the last stream of the connection.
    let mut roaming = JoinSet::new();
    roaming.spawn(roam::run(endpoint, remote, source));
    lanes::prefer(&send);
    let keep = Arc::new(roaming);
    let lanes = Lanes::new(connection, keep.clone());
    let info = LinkInfo { carrier: Carrier::Quic, remote: Some(remote), exporter: Some(exporter), certified };
    Ok(Link { lanes: Some(lanes), ..Link::new(Lane::new(send, recv, keep), info) })
}

/// A connection that has proven TLS, and the socket under it.
pub(super) async fn connect(
    remote: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    name: &str,
) -> Result<(Endpoint, Connection), QuicError> {
    let suite = QuicClientConfig::try_from(tls).map_err(|error| QuicError::Tls(io::Error::other(error)))?;
    let mut config = ClientConfig::new(Arc::new(suite));
    config.transport_config(transport(STREAMS));
    let endpoint = roam::any(remote)
        .and_then(|socket| Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime)))
        .map_err(QuicError::Connect)?;
    let connecting = endpoint.connect_with(config, remote, name).map_err(start_error)?;
    let connection = connecting.await.map_err(connection_error)?;
    Ok((endpoint, connection))
}

fn start_error(error: ConnectError) -> QuicError {
    QuicError::Connect(io::Error::other(error))
}

/// TLS alerts travel as transport errors of the numbers 0x100 to 0x1ff (RFC 9001 §4.8).
fn connection_error(error: ConnectionError) -> QuicError {
    let tls = match &error {
        ConnectionError::TransportError(error) => is_tls(error.code),
        ConnectionError::ConnectionClosed(close) => is_tls(close.error_code),
        _ => false,
    };
    if tls { QuicError::Tls(io::Error::other(error)) } else { QuicError::Connect(into_io(error)) }
}

fn is_tls(code: quinn::TransportErrorCode) -> bool {
    (0x100..0x200).contains(&u64::from(code))
}
