//! Cluster URIs and the endpoints that they lead to.
//!
//! `longshore://host[:port][;transport=tcp|tls|ws|wss|quic][;path=/..][;tls_verify=binding|system|ca|pin]`

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Path of the WebSocket when none is given.
pub const DEFAULT_WS_PATH: &str = "/longshore";
/// Longest URI, in bytes.
pub const MAX_URI: usize = 2048;

/// How bytes travel between two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Plain TCP. Must be asked for.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket over plain TCP (RFC 6455). Must be asked for.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// QUIC (RFC 9000) over UDP. Never chosen unless a URI or the DNS zone names it.
    Quic,
}

impl Transport {
    /// All transports.
    pub const ALL: [Self; 5] = [Self::Tcp, Self::Tls, Self::Ws, Self::Wss, Self::Quic];

    /// The name in URIs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Quic => "quic",
        }
    }

    /// The port when neither the URI nor DNS names one.
    pub const fn default_port(self) -> u16 {
        match self {
            // The same number: one is of TCP, the other of UDP.
            Self::Tls | Self::Quic => 8139,
            Self::Tcp => 8140,
            Self::Wss => 8143,
            Self::Ws => 8180,
        }
    }

    /// Whether the bytes are encrypted under way.
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::Wss | Self::Quic)
    }

    /// Whether a WebSocket carries the bytes.
    pub const fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Transport {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        Self::ALL
            .into_iter()
            .find(|transport| transport.name() == text)
            .ok_or_else(|| UriError::new(text, "transports are tcp, tls, ws, wss, quic"))
    }
}

/// What vouches for a TLS peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsVerify {
    /// The handshake's proof is bound to this very TLS connection (RFC 9266): a man in the middle breaks it.
    #[default]
    Binding,
    /// The certificate chains to the system's roots and names the host.
    System,
    /// The certificate chains to the configured `ca_file` and names the host.
    Ca,
    /// The certificate is the configured one.
    Pin,
}

impl TlsVerify {
    const ALL: [Self; 4] = [Self::Binding, Self::System, Self::Ca, Self::Pin];

    /// The name in URIs and configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Binding => "binding",
            Self::System => "system",
            Self::Ca => "ca",
            Self::Pin => "pin",
        }
    }
}

impl FromStr for TlsVerify {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        Self::ALL
            .into_iter()
            .find(|verify| verify.name() == text)
            .ok_or_else(|| UriError::new(text, "tls_verify is binding, system, ca or pin"))
    }
}

/// Why a text is not a cluster URI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}': {why}")]
pub struct UriError {
    text: String,
    why: &'static str,
}

impl UriError {
    fn new(text: &str, why: &'static str) -> Self {
        Self { text: text.chars().take(120).collect(), why }
    }
}

/// Where a cluster can be found, as an operator writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClusterUri {
    /// A DNS name, or an IP address without brackets.
    pub host: String,
    /// The port, when given.
    pub port: Option<u16>,
    /// The transport, when given.
    pub transport: Option<Transport>,
    /// Path of the WebSocket, when given; starts with `/`.
    pub path: Option<String>,
    /// What vouches for the TLS peer, when given.
    pub tls_verify: Option<TlsVerify>,
}

impl ClusterUri {
    /// Whether a peer of this protocol version can read it: version 1 knows no QUIC.
    pub fn is_known_to(&self, version: u16) -> bool {
        version >= 2 || self.transport != Some(Transport::Quic)
    }

    /// The host as an IP address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl FromStr for ClusterUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let fail = |why| UriError::new(text, why);
        if text.len() > MAX_URI {
            return Err(fail("longer than 2048 bytes"));
        }
        let rest =
            text.trim().strip_prefix("longshore://").ok_or_else(|| fail("a cluster URI starts with longshore://"))?;
        let mut parts = rest.split(';');
        let (host, port) = parse_authority(parts.next().unwrap_or_default()).map_err(fail)?;
        let mut uri = Self { host, port, transport: None, path: None, tls_verify: None };
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| fail("options are written ;key=value"))?;
            match key.trim() {
                "transport" if uri.transport.is_none() => uri.transport = Some(value.trim().parse()?),
                "path" if uri.path.is_none() => uri.path = Some(parse_path(value.trim()).map_err(fail)?),
                "tls_verify" if uri.tls_verify.is_none() => uri.tls_verify = Some(value.trim().parse()?),
                "transport" | "path" | "tls_verify" => return Err(fail("an option stands twice")),
                _ => return Err(fail("options are transport, path and tls_verify")),
            }
        }
        Ok(uri)
    }
}

fn parse_authority(text: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, tail) = rest.split_once(']').ok_or("an IPv6 address is written [address]")?;
        if host.contains('%') {
            return Err(
                "an IPv6 address with a zone (%eth0) means something on one machine only; use a global or unique local address, or a name",
            );
        }
        host.parse::<std::net::Ipv6Addr>().map_err(|_| "what stands in [ ] is not an IPv6 address")?;
        match tail {
            "" => (host, None),
            tail => (host, Some(tail.strip_prefix(':').ok_or("behind ] only :port may stand")?)),
        }
    } else {
        if text.parse::<std::net::Ipv6Addr>().is_ok() {
            return Err("an IPv6 address stands in brackets: [::1]");
        }
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let port = port.map(parse_port).transpose()?;
    if host.parse::<IpAddr>().is_err() {
        check_name(host)?;
    }
    Ok((host.to_ascii_lowercase(), port))
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    match text.parse() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err("the port is not a number from 1 to 65535"),
    }
}

/// A host name of RFC 1123, underscores allowed as DNS allows them.
fn check_name(host: &str) -> Result<(), &'static str> {
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.is_empty() || name.len() > 253 {
        return Err("the host name is empty or longer than 253 characters");
    }
    let fine = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if name.split('.').all(fine) { Ok(()) } else { Err("the host is neither a DNS name nor an IP address") }
}

fn parse_path(text: &str) -> Result<String, &'static str> {
    let fine =
        text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte));
    if fine { Ok(text.to_owned()) } else { Err("the path must start with / and hold only characters of a URI") }
}

/// Writes a host and a port, IPv6 in brackets.
fn write_authority(f: &mut fmt::Formatter<'_>, host: &str, port: Option<u16>) -> fmt::Result {
    match host.contains(':') {
        true => write!(f, "[{host}]")?,
        false => f.write_str(host)?,
    }
    port.map_or(Ok(()), |port| write!(f, ":{port}"))
}

impl fmt::Display for ClusterUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("longshore://")?;
        write_authority(f, &self.host, self.port)?;
        if let Some(transport) = self.transport {
            write!(f, ";transport={transport}")?;
        }
        if let Some(path) = &self.path {
            write!(f, ";path={path}")?;
        }
        self.tls_verify.map_or(Ok(()), |verify| write!(f, ";tls_verify={}", verify.name()))
    }
}

impl Serialize for ClusterUri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClusterUri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// One address that can be dialled: what resolution makes of a URI.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// How.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
    /// The name behind the address: for SNI, certificate checks and the Host header. May be an IP address.
    pub host: String,
    /// Path of the WebSocket.
    pub path: String,
    /// What vouches for the TLS peer; `None` leaves it to the node's configuration.
    pub tls_verify: Option<TlsVerify>,
}

impl Endpoint {
    /// Whether only the name and the port are known, since DNS gave no address: `address` is `0.0.0.0` then, and a proxy
    /// has to resolve the name.
    pub fn is_unresolved(&self) -> bool {
        self.address.ip().is_unspecified() && self.host.parse::<IpAddr>().is_err()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unresolved = self.is_unresolved();
        write!(f, "{}://", self.transport)?;
        match unresolved {
            true => write_authority(f, &self.host, Some(self.address.port()))?,
            false => write!(f, "{}", self.address)?,
        }
        if self.transport.is_websocket() {
            f.write_str(&self.path)?;
        }
        if unresolved || self.host == self.address.ip().to_string() { Ok(()) } else { write!(f, " ({})", self.host) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_round_trip() {
        for text in [
            "longshore://cluster.example.com",
            "longshore://10.0.0.1:8143;transport=wss",
            "longshore://[::1]:443;transport=wss;path=/edge/a;tls_verify=system",
            "longshore://[fe80::1]",
            "longshore://edge.example.com:8139;transport=quic",
        ] {
            assert_eq!(text.parse::<ClusterUri>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_with_an_ipv6_address_is_said() {
        for (text, why) in [
            ("longshore://[fe80::1%eth0]", "zone"),
            ("longshore://[fe80::1%25eth0]:8139", "zone"),
            ("longshore://fd00::1", "brackets"),
        ] {
            let error = text.parse::<ClusterUri>().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn quic_is_not_told_to_those_who_cannot_read_it() {
        let uri = |text: &str| text.parse::<ClusterUri>().unwrap();
        let quic = uri("longshore://a;transport=quic");
        assert!(!quic.is_known_to(1) && quic.is_known_to(2));
        assert!(uri("longshore://a;transport=wss").is_known_to(1) && uri("longshore://a").is_known_to(1));
    }

    #[test]
    fn wrong_uris_are_refused() {
        for text in [
            "",
            "http://a",
            "longshore://",
            "longshore://a:0",
            "longshore://a:99999",
            "longshore://a:+1",
            "longshore://::1",
            "longshore://[1.2.3.4]",
            "longshore://[::1]8",
            "longshore://a b",
            "longshore://-a",
            "longshore://a;transport=udp",
            "longshore://a;transport=tcp;transport=tls",
            "longshore://a;path=x",
            "longshore://a;colour=red",
            "longshore://a;path",
        ] {
            assert!(text.parse::<ClusterUri>().is_err(), "{text}");
        }
    }
}
