//! The proxy through which a node dials: HTTP CONNECT, or SOCKS5.
//!
//! It asks the proxy for a way to an endpoint over a stream that is already there, and takes nothing from the stream that
//! belongs to the peer behind. A proxy's answers are bounded; the dial's deadline bounds the time. The password is sent
//! to the proxy and nowhere else: not into logs, not into errors, not into `Debug`.

mod error;
mod http;
mod socks;

pub use error::ProxyError;

use crate::link::Io;
use crate::tls::ClientTls;
use longshore_wire::Endpoint;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP CONNECT (RFC 9110 §9.3.6). The proxy resolves names.
    Http,
    /// The same over TLS to the proxy.
    Https,
    /// SOCKS version 5 (RFC 1928). Names are resolved here.
    Socks5,
    /// The same; the proxy resolves names.
    Socks5h,
}

impl ProxyKind {
    /// The scheme in URLs.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        }
    }

    /// Whether the proxy resolves the names of endpoints.
    pub const fn resolves(self) -> bool {
        !matches!(self, Self::Socks5)
    }
}

/// Who asks a proxy. Never printed.
#[derive(Clone)]
pub struct Login {
    user: String,
    password: Zeroizing<String>,
}

impl Login {
    /// A user and the password, which may be empty.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: Zeroizing::new(password.into()) }
    }
}

/// Says for which endpoints no proxy is used.
pub type Bypass = dyn Fn(&Endpoint) -> bool + Send + Sync;

/// A proxy and when to use it. Clones are cheap; `Debug` and `Display` hide the login.
#[derive(Clone)]
pub struct Proxy(Arc<Inner>);

struct Inner {
    kind: ProxyKind,
    host: String,
    port: u16,
    login: Option<Login>,
    bypass: Box<Bypass>,
}

impl Proxy {
    /// The proxy at `host` (a name or an IP address without brackets) and `port`, for all endpoints but those that
    /// `bypass` names.
    pub fn new(kind: ProxyKind, host: String, port: u16, login: Option<Login>, bypass: Box<Bypass>) -> Self {
        Self(Arc::new(Inner { kind, host, port, login, bypass }))
    }

    /// Whether this endpoint is reached through the proxy.
    pub fn serves(&self, endpoint: &Endpoint) -> bool {
        !(self.0.bypass)(endpoint)
    }

    /// Whether the proxy can be handed a name that cannot be resolved here.
    pub fn resolves(&self) -> bool {
        self.0.kind.resolves()
    }

    pub(crate) fn wants_tls(&self) -> bool {
        self.0.kind == ProxyKind::Https
    }

    /// Where the proxy is. Its name is one for the system's resolver, as it is for every other program of this machine.
    pub(crate) async fn addresses(&self) -> Result<Vec<SocketAddr>, ProxyError> {
        let found = tokio::net::lookup_host((self.0.host.as_str(), self.0.port)).await;
        found.map(Iterator::collect).map_err(ProxyError::Name)
    }

    /// TLS with the proxy itself: what the system trusts vouches for it, or the configured `ca_file`.
    pub(crate) async fn secure<S: Io>(&self, tls: &ClientTls, stream: S) -> Result<TlsStream<S>, ProxyError> {
        let connector = tls.proxy_connector(&self.0.host).map_err(ProxyError::TlsSettings)?;
        Ok(connector.connect(stream).await.map_err(ProxyError::Tls)?.stream)
    }

    /// Asks for a way to `endpoint`; the stream then ends there.
    pub(crate) async fn open<S: Io>(&self, endpoint: &Endpoint, mut stream: S) -> Result<S, ProxyError> {
        if endpoint.is_unresolved() && !self.resolves() {
            return Err(ProxyError::Unresolved(endpoint.host.clone()));
        }
        let target = Target::of(endpoint, self.0.kind);
        let login = self.0.login.as_ref();
        match self.0.kind {
            ProxyKind::Http | ProxyKind::Https => http::connect(&mut stream, &target, login).await?,
            ProxyKind::Socks5 | ProxyKind::Socks5h => socks::connect(&mut stream, &target, login).await?,
        }
        Ok(stream)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, host, port, .. } = &*self.0;
        write!(f, "{}://{}", kind.scheme(), Authority(host, *port))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the proxy is asked for.
enum Target {
    Name(String, u16),
    Address(SocketAddr),
}

impl Target {
    /// A proxy that resolves gets the name: its rules are about names, and the network behind it may have other
    /// addresses for them.
    fn of(endpoint: &Endpoint, kind: ProxyKind) -> Self {
        let host = endpoint.host.strip_suffix('.').unwrap_or(&endpoint.host);
        match host.parse::<IpAddr>() {
            Err(_) if kind.resolves() => Self::Name(host.to_owned(), endpoint.address.port()),
            _ => Self::Address(endpoint.address),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(host, port) => fmt::Display::fmt(&Authority(host, *port), f),
            Self::Address(address) => fmt::Display::fmt(address, f),
        }
    }
}

/// `host:port`, IPv6 in brackets.
struct Authority<'a>(&'a str, u16);

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}
