//! The URL of a proxy. `Debug`, `Display` and serialization hide the password.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::str::FromStr;

const SHAPE: &str = "a proxy is written http://user:password@host:port; other schemes are https, socks5 and socks5h";

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyScheme {
    /// HTTP CONNECT.
    Http,
    /// HTTP CONNECT over TLS to the proxy.
    Https,
    /// SOCKS 5, names resolved here.
    Socks5,
    /// SOCKS 5, names resolved at the proxy.
    Socks5h,
}

impl ProxyScheme {
    const ALL: [Self; 4] = [Self::Http, Self::Https, Self::Socks5, Self::Socks5h];

    const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        }
    }

    /// The port when the URL names none.
    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 3128,
            Self::Https => 443,
            Self::Socks5 | Self::Socks5h => 1080,
        }
    }

    const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }
}

/// `scheme://[user:password@]host[:port]`. `Debug`, `Display` and serialization hide the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    /// What it speaks.
    pub scheme: ProxyScheme,
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port; 3128, 443 or 1080 when the URL names none.
    pub port: u16,
    /// Who asks.
    pub user: Option<String>,
    /// Secret.
    pub password: Option<String>,
}

impl FromStr for ProxyUrl {
    type Err = &'static str;

    /// The error never repeats the text, since that may hold the password.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or(SHAPE)?;
        let scheme =
            ProxyScheme::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(scheme)).ok_or(SHAPE)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (Some(unescape(user)?), Some(unescape(password)?)),
            None => (None, None),
        };
        // The authority has the grammar of a cluster URI's.
        let uri: longshore_wire::ClusterUri = format!("longshore://{place}").parse().map_err(|_| SHAPE)?;
        if uri.transport.is_some() || uri.path.is_some() || uri.tls_verify.is_some() {
            return Err(SHAPE);
        }
        let port = uri.port.unwrap_or_else(|| scheme.default_port());
        let url = Self { scheme, host: uri.host, port, user, password: password.filter(|text| !text.is_empty()) };
        url.check_login()?;
        Ok(url)
    }
}

impl ProxyUrl {
    /// What the protocols can carry (RFC 7617 §2, RFC 1929 §2).
    fn check_login(&self) -> Result<(), &'static str> {
        let Some(user) = &self.user else { return Ok(()) };
        let password = self.password.as_deref().unwrap_or_default();
        if user.is_empty() {
            return Err("the proxy's user is empty; write http://user:password@host:port, or no @ at all");
        }
        if user.chars().chain(password.chars()).any(char::is_control) {
            return Err("the proxy's user or password holds a control character");
        }
        if self.scheme.is_http() {
            let colon = "the proxy's user holds a colon, which Basic authentication cannot carry";
            return if user.contains(':') { Err(colon) } else { Ok(()) };
        }
        let fits = |text: &str| (1..=255).contains(&text.len());
        let length = "a SOCKS proxy takes a user and a password of 1 to 255 bytes each";
        if fits(user) && fits(password) { Ok(()) } else { Err(length) }
    }
}

/// Undoes percent-encoding (RFC 3986 §2.1).
fn unescape(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "the proxy's user or password has a % that is not followed by two hexadecimal digits of UTF-8";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = tail.get(..2).filter(|pair| pair.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|pair| std::str::from_utf8(pair).ok()).ok_or(WRONG)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| WRONG)?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| WRONG)
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.name())?;
        if let Some(user) = &self.user {
            write!(f, "{user}{}@", if self.password.is_some() { ":REDACTED" } else { "" })?;
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ProxyUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ProxyUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
