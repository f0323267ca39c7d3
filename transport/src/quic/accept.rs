//! Accepts QUIC connections on one UDP socket.
//!
//! While few places are left, an address must first prove by a Retry token that packets reach it (RFC 9000 §8.1.2): a
//! flood under borrowed addresses costs one packet each and no memory.

use super::lane::Lane;
use super::lanes::{self, Lanes};
use super::{ALPN, CONTROL_LANE, exporter, into_io, transport};
use crate::link::{Carrier, Link, LinkInfo};
use crate::tls::ServerTls;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime, ValidationTokenConfig};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

/// First packets that wait for a place; further ones are refused.
const QUEUED: usize = 4096;
/// Bytes of packets behind a first one that are kept until it has a place, and of all of them together.
const QUEUED_BYTES: (u64, u64) = (16 * 1024, 8 * 1024 * 1024);
/// Streams that a dialler may open before it has proven itself: the control lane.
const STREAMS: u32 = 1;

/// The listening socket.
#[derive(Debug)]
pub(crate) struct Server {
    endpoint: Endpoint,
}

/// A first packet.
#[derive(Debug)]
pub(crate) struct Arriving(Incoming);

impl Server {
    pub(crate) fn bind(bind: SocketAddr, tls: &ServerTls) -> io::Result<Self> {
        let config = server_config(tls)?;
        let socket = UdpSocket::bind(bind)?;
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))?;
        Ok(Self { endpoint })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// The next connection; `wary` demands a Retry token first. Cancel safe.
    pub(crate) async fn accept(&self, wary: impl Fn() -> bool) -> io::Result<Arriving> {
        loop {
            let Some(incoming) = self.endpoint.accept().await else {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the UDP socket of the listener is gone"));
            };
            if wary() && incoming.may_retry() && !incoming.remote_address_validated() {
                // Cannot fail: that it may be sent was just asked.
                let _ = incoming.retry();
                continue;
            }
            return Ok(Arriving(incoming));
        }
    }
}

impl Arriving {
    pub(crate) fn remote(&self) -> SocketAddr {
        self.0.remote_address()
    }

    /// Tells the client to go away: one packet.
    pub(crate) fn refuse(self) {
        self.0.refuse();
    }

    /// Opens TLS and takes the control lane. The caller sets the deadline, and is told how far it came.
    pub(crate) async fn open(self, stage: &mut &'static str) -> io::Result<Link> {
        let connection = self.0.accept().map_err(into_io)?.await.map_err(into_io)?;
        *stage = "the control lane";
        let exporter = exporter(&connection)?;
        let (send, mut recv) = connection.accept_bi().await.map_err(into_io)?;
        let mut kind = [0];
        recv.read_exact(&mut kind).await.map_err(io::Error::other)?;
        if kind != [CONTROL_LANE] {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the first stream is no control lane"));
        }
        let remote = Some(connection.remote_address());
        let info = LinkInfo { carrier: Carrier::Quic, remote, exporter: Some(exporter), certified: false };
        lanes::prefer(&send);
        let lanes = Lanes::new(connection, Arc::new(()));
        Ok(Link { lanes: Some(lanes), ..Link::new(Lane::new(send, recv, ()), info) })
    }
}

fn server_config(tls: &ServerTls) -> io::Result<ServerConfig> {
    let suite = QuicServerConfig::try_from(tls.for_quic(ALPN)).map_err(io::Error::other)?;
    let mut config = ServerConfig::with_crypto(Arc::new(suite));
    // Nobody comes back with one: every dial is an endpoint of its own.
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0);
    config
        .transport_config(transport(STREAMS))
        .validation_token_config(tokens)
        .migration(true)
        .max_incoming(QUEUED)
        .incoming_buffer_size(QUEUED_BYTES.0)
        .incoming_buffer_size_total(QUEUED_BYTES.1);
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{ClientTls, ClientTlsOptions};
    use longshore_wire::{Endpoint, Transport};

    async fn connect(remote: SocketAddr, protocol: &[u8]) -> Result<quinn::Connection, super::super::QuicError> {
        let (host, path) = ("localhost".to_owned(), String::new());
        let endpoint = Endpoint { transport: Transport::Quic, address: remote, host, path, tls_verify: None };
        let connector = ClientTls::new(ClientTlsOptions::default()).unwrap().connector(&endpoint).unwrap();
        let (config, name, _) = connector.for_quic(protocol);
        super::super::dial::connect(remote, config, &name).await.map(|(_, connection)| connection)
    }

    fn server() -> (Server, SocketAddr) {
        let tls = ServerTls::self_signed(&["localhost".to_owned()], None).unwrap();
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), &tls).unwrap();
        let address = server.local_addr().unwrap();
        (server, address)
    }

    #[tokio::test]
    async fn a_wary_listener_demands_a_token() {
        for wary in [false, true] {
            let (server, address) = server();
            let accept = async {
                let arriving = server.accept(|| wary).await.unwrap();
                assert_eq!(arriving.0.remote_address_validated(), wary);
                arriving.0.accept().unwrap().await.unwrap()
            };
            let (dialled, _accepted) = tokio::join!(connect(address, ALPN), accept);
            dialled.unwrap();
        }
    }

    #[tokio::test]
    async fn another_protocol_is_not_let_in() {
        let (server, address) = server();
        let open = async { server.accept(|| false).await.unwrap().open(&mut "").await };
        let (dialled, opened) = tokio::join!(connect(address, b"h3"), open);
        assert!(matches!(dialled, Err(super::super::QuicError::Tls(_))) && opened.is_err());
    }

    #[tokio::test]
    async fn the_first_stream_is_the_control_lane_and_the_only_one_of_a_stranger() {
        let (server, address) = server();
        let stranger = async {
            let connection = connect(address, ALPN).await.unwrap();
            let (mut send, recv) = connection.open_bi().await.unwrap();
            let second = tokio::time::timeout(std::time::Duration::from_millis(200), connection.open_bi()).await;
            assert!(second.is_err(), "a second stream is open");
            send.write_all(b"?").await.unwrap();
            connection.closed().await;
            drop((send, recv));
        };
        let mut stage = "";
        let open = async { server.accept(|| false).await.unwrap().open(&mut stage).await };
        let (error, ()) = tokio::join!(open, stranger);
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(stage, "the control lane");
    }
}
