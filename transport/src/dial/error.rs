//! Why an endpoint was not reached: what, where, what to do.

use crate::proxy::ProxyError;
use crate::tls::TlsError;
use longshore_wire::Endpoint;
use std::time::Duration;

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
    /// Only a proxy could resolve the name, and none is to be used.
    #[error(
        "cannot connect to {endpoint}: DNS gives no address here, and no proxy that could is used for this host; correct DNS, or proxy.url and proxy.no_proxy"
    )]
    NoAddress {
        /// Where.
        endpoint: Endpoint,
    },
    /// The proxy did not open a way.
    #[error("cannot reach {endpoint} through the proxy {proxy}: {source}")]
    Proxy {
        /// Where.
        endpoint: Endpoint,
        /// The proxy, without its password.
        proxy: String,
        /// Why.
        source: Box<ProxyError>,
    },
    /// QUIC where a proxy is to be used.
    #[error(
        "cannot reach {endpoint}: QUIC does not pass the proxy {proxy}; use wss for this cluster, or name the host in proxy.no_proxy"
    )]
    NoUdpProxy {
        /// Where.
        endpoint: Endpoint,
        /// The proxy, without its password.
        proxy: String,
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
        source: Box<TlsError>,
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

impl DialError {
    /// Why, without saying where once more.
    pub fn reason(&self) -> String {
        match self {
            Self::Connect { source, .. } | Self::Tls { source, .. } => {
                let text = source.to_string();
                // The system's number says no more than its words.
                text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
            }
            Self::NoAddress { .. } => "DNS gives no address here, and no proxy is used for this host".to_owned(),
            Self::Proxy { source, .. } => source.to_string(),
            Self::Timeout { after, .. } => format!("no answer within {after:?}"),
            Self::TlsSettings { source, .. } => source.to_string(),
            Self::Status { status, .. } => format!("HTTP {status} instead of a WebSocket"),
            Self::WebSocket { message, .. } => message.clone(),
            Self::NoUdpProxy { .. } => "QUIC passes no proxy".to_owned(),
        }
    }
}
