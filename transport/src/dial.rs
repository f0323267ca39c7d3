//! Dials one endpoint, layer upon layer: TCP, a way through a proxy, TLS, a WebSocket, each where it is asked for.
//!
//! ```text
//! TCP to the endpoint ────────────────────┐
//!                                         ├─▶ TLS? ─▶ WebSocket? ─▶ Link
//! TCP to the proxy ─ TLS? ─ CONNECT/SOCKS ┘
//! QUIC to the endpoint ─────────────────────────────────▶ Link
//! ```
//!
//! It resolves no name of a node and tries nothing twice, and one deadline spans the whole.

mod error;

pub use error::DialError;

use crate::link::{Carrier, Io, Link, LinkInfo};
use crate::proxy::{Proxy, ProxyError};
use crate::quic;
use crate::tcp;
use crate::tls::{self, ClientTls, Connector, TlsError};
use crate::trace;
use crate::ws;
use longshore_wire::{Endpoint, Transport};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

/// Time for connecting, the proxy, TLS and the WebSocket's opening together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How to dial.
#[derive(Debug, Clone)]
pub struct DialOptions {
    /// Time for TCP, the proxy, TLS and the WebSocket's opening together.
    pub connect_timeout: Duration,
    /// What vouches for TLS peers.
    pub tls: ClientTls,
    /// What to go through.
    pub proxy: Option<Proxy>,
    /// Address of this machine that TCP without proxy comes from; the system chooses unless it is given.
    pub source: Option<IpAddr>,
}

impl DialOptions {
    /// The default deadline, this TLS, no proxy, any address.
    pub const fn new(tls: ClientTls) -> Self {
        Self { connect_timeout: CONNECT_TIMEOUT, tls, proxy: None, source: None }
    }
}

/// Dials an endpoint.
///
/// # Errors
/// When TCP, the proxy, TLS or the WebSocket fails, or together they take longer than the options allow.
pub async fn dial(endpoint: &Endpoint, options: &DialOptions) -> Result<Link, DialError> {
    let mut dial = Dial { endpoint, tls: &options.tls, source: options.source, stage: "" };
    match tokio::time::timeout(options.connect_timeout, dial.open(options.proxy.as_ref())).await {
        Ok(result) => result,
        Err(_) => {
            let (endpoint, stage) = (endpoint.clone(), dial.stage);
            Err(DialError::Timeout { endpoint, stage, after: options.connect_timeout })
        }
    }
}

/// One dial under way.
struct Dial<'a> {
    endpoint: &'a Endpoint,
    tls: &'a ClientTls,
    source: Option<IpAddr>,
    /// What is being done, for whoever has to say that it took too long.
    stage: &'static str,
}

impl Dial<'_> {
    async fn open(&mut self, proxy: Option<&Proxy>) -> Result<Link, DialError> {
        let quic = self.endpoint.transport == Transport::Quic;
        match proxy.filter(|proxy| proxy.serves(self.endpoint)) {
            Some(proxy) if quic => {
                let (endpoint, proxy) = (self.endpoint.clone(), proxy.to_string());
                Err(DialError::NoUdpProxy { endpoint, proxy })
            }
            Some(proxy) => self.through(proxy).await,
            None if self.endpoint.is_unresolved() => Err(DialError::NoAddress { endpoint: self.endpoint.clone() }),
            None if quic => self.quic().await,
            None => {
                let address = self.endpoint.address;
                self.enter("TCP");
                let tcp = connect(address, self.source).await.map_err(|source| self.unconnected(source))?;
                self.upgrade(tcp, address).await
            }
        }
    }

    fn enter(&mut self, stage: &'static str) {
        self.stage = stage;
        trace::begin(stage);
    }

    fn unconnected(&self, source: std::io::Error) -> DialError {
        DialError::Connect { endpoint: self.endpoint.clone(), source }
    }

    async fn quic(&mut self) -> Result<Link, DialError> {
        self.enter("QUIC; a firewall may drop UDP");
        let connector = self.connector().map_err(|source| self.unset(source))?;
        quic::dial(self.endpoint.address, connector).await.map_err(|error| match error {
            quic::QuicError::Connect(source) => self.unconnected(source),
            quic::QuicError::Tls(source) => DialError::Tls { endpoint: self.endpoint.clone(), source },
        })
    }

    fn connector(&self) -> Result<Connector, TlsError> {
        self.tls.connector(self.endpoint)
    }

    fn unset(&self, source: TlsError) -> DialError {
        DialError::TlsSettings { endpoint: self.endpoint.clone(), source: Box::new(source) }
    }

    /// Goes through a proxy. What is known as the link's remote address is the proxy's.
    async fn through(&mut self, proxy: &Proxy) -> Result<Link, DialError> {
        let endpoint = self.endpoint;
        let failed = |source| {
            let (endpoint, proxy) = (endpoint.clone(), proxy.to_string());
            DialError::Proxy { endpoint, proxy, source: Box::new(source) }
        };
        self.enter("TCP to the proxy");
        let (tcp, remote) = reach(proxy).await.map_err(failed)?;
        if proxy.wants_tls() {
            self.enter("TLS with the proxy");
            let secured = proxy.secure(self.tls, tcp).await.map_err(failed)?;
            self.enter("the proxy's answer");
            let way = proxy.open(endpoint, secured).await.map_err(failed)?;
            return self.upgrade(way, remote).await;
        }
        self.enter("the proxy's answer");
        trace::tell(|| proxy.to_string());
        let way = proxy.open(endpoint, tcp).await.map_err(failed)?;
        self.upgrade(way, remote).await
    }

    /// TLS and a WebSocket over a stream that ends at the endpoint.
    async fn upgrade<S: Io>(&mut self, stream: S, remote: SocketAddr) -> Result<Link, DialError> {
        let endpoint = self.endpoint;
        let carrier = Carrier::from(endpoint.transport);
        let mut info = LinkInfo { carrier, remote: Some(remote), exporter: None, certified: false };
        if !endpoint.transport.is_encrypted() {
            return self.websocket(stream, info).await;
        }
        self.enter("TLS");
        let secured = self
            .connector()
            .map_err(|source| self.unset(source))?
            .connect(stream)
            .await
            .map_err(|source| DialError::Tls { endpoint: endpoint.clone(), source })?;
        trace::tell(|| tls::describe(secured.stream.get_ref().1, self.tls.verify(endpoint)));
        info.exporter = Some(secured.exporter);
        info.certified = secured.certified;
        self.websocket(secured.stream, info).await
    }

    /// The last layer: a WebSocket, or the stream as it is.
    async fn websocket<S: Io>(&mut self, stream: S, info: LinkInfo) -> Result<Link, DialError> {
        if !self.endpoint.transport.is_websocket() {
            return Ok(Link::new(stream, info));
        }
        self.enter("WebSocket");
        let opened = ws::connect(self.endpoint, stream).await.map_err(|error| match error {
            ws::WsError::Status(status) => DialError::Status { endpoint: self.endpoint.clone(), status },
            ws::WsError::Other(message) => DialError::WebSocket { endpoint: self.endpoint.clone(), message },
        })?;
        trace::tell(|| format!("HTTP 101 at {}", self.endpoint.path));
        Ok(Link::new(opened, info))
    }
}

async fn connect(address: SocketAddr, source: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let tcp = match source {
        None => TcpStream::connect(address).await?,
        Some(source) => {
            let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.bind((source, 0).into())?;
            socket.connect(address).await?
        }
    };
    tcp::set(&tcp)?;
    Ok(tcp)
}

/// Connects to the first of the proxy's addresses that answers.
async fn reach(proxy: &Proxy) -> Result<(TcpStream, SocketAddr), ProxyError> {
    let mut failure = ProxyError::NoAddress;
    for address in proxy.addresses().await? {
        match connect(address, None).await {
            Ok(tcp) => return Ok((tcp, address)),
            Err(source) => failure = ProxyError::Connect { address, source },
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_dial_comes_from_the_address_that_was_given() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let source: IpAddr = "127.9.8.7".parse().unwrap();
        let dialled = connect(listener.local_addr().unwrap(), Some(source));
        let (tcp, accepted) = tokio::join!(dialled, listener.accept());
        assert_eq!((tcp.unwrap().local_addr().unwrap().ip(), accepted.unwrap().1.ip()), (source, source));
    }
}
