//! Why a proxy opened no way: each cause its own sentence.

use crate::tls::TlsError;
use std::io;
use std::net::SocketAddr;

/// Why a proxy opened no way.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The proxy's own name.
    #[error("its name cannot be resolved: {0}; check proxy.url (or HTTPS_PROXY)")]
    Name(io::Error),
    /// The proxy's name exists, without addresses.
    #[error("its name has no address; check proxy.url (or HTTPS_PROXY)")]
    NoAddress,
    /// TCP to the proxy.
    #[error("it does not answer at {address}: {source}; check proxy.url (or HTTPS_PROXY), and whether it runs")]
    Connect {
        /// The proxy's address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// TLS with the proxy itself.
    #[error("no TLS with it: {0}")]
    Tls(io::Error),
    /// This node's TLS settings do not allow it.
    #[error("no TLS with it: {0}")]
    TlsSettings(TlsError),
    /// The connection to the proxy broke.
    #[error("the connection to it broke before it opened the way: {0}")]
    Broken(io::Error),
    /// HTTP 407 or SOCKS without a login.
    #[error("it wants a user and a password{0}; write them into proxy.url: http://user:password@host:port")]
    LoginWanted(&'static str),
    /// HTTP 407 or SOCKS with a login.
    #[error("it refuses the user or the password{0}; correct them in proxy.url")]
    LoginRefused(&'static str),
    /// HTTP 407, and none of the ways is Basic.
    #[error(
        "it wants authentication by {0} (HTTP 407), and only Basic is spoken here; let it take Basic, or use a local helper that speaks to it"
    )]
    Scheme(String),
    /// HTTP 403 or SOCKS 2.
    #[error(
        "it forbids connections to {target}{code}; let its rules allow that host and port (many proxies allow only port 443)"
    )]
    Forbidden {
        /// What was asked for.
        target: String,
        /// What the proxy answered with.
        code: &'static str,
    },
    /// HTTP 502, 503, 504; SOCKS 1, 3 to 6.
    #[error("it cannot reach {target} itself ({said}); check that host and port as seen from the proxy")]
    Unreachable {
        /// What was asked for.
        target: String,
        /// What the proxy answered.
        said: String,
    },
    /// Any other HTTP status.
    #[error("it answered HTTP {0} to CONNECT; check that proxy.url names a forward proxy")]
    Status(u16),
    /// No HTTP at all.
    #[error("it does not answer as an HTTP proxy; check the scheme and the port in proxy.url")]
    NotHttp,
    /// More than a head may hold.
    #[error("its answer is longer than {0} bytes; check that proxy.url names a forward proxy")]
    TooLong(usize),
    /// No SOCKS 5.
    #[error("it does not answer as a SOCKS 5 proxy; check the scheme and the port in proxy.url")]
    NotSocks,
    /// SOCKS 5 without a common method.
    #[error("it takes neither anonymous users nor user and password (SOCKS 5 method 255)")]
    NoMethod,
    /// Any other SOCKS reply.
    #[error("it answered SOCKS 5 reply {0} to CONNECT; check that it allows CONNECT")]
    Reply(u8),
    /// A name that only the proxy could resolve, and it is not to.
    #[error("DNS gives no address for {0} here; write socks5h:// to let the proxy resolve names")]
    Unresolved(String),
    /// A user or password that the protocol cannot carry.
    #[error("SOCKS 5 carries users and passwords of 1 to 255 bytes; correct them in proxy.url")]
    LoginLength,
}
