//! `[proxy]`: the HTTP proxy through which a worker dials. The one place where a secret may stand in the configuration.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::str::FromStr;

/// `[proxy]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proxy {
    /// Where it is.
    pub url: ProxyUrl,
}

/// `http://[user:password@]host:port`. `Debug`, `Display` and serialization hide the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port; 3128 when the URL names none.
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
        const SHAPE: &str = "a proxy is written http://user:password@host:port";
        let rest = text.strip_prefix("http://").ok_or(SHAPE)?;
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
        Ok(Self { host: uri.host, port: uri.port.unwrap_or(3128), user, password: password.filter(|p| !p.is_empty()) })
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
        let digits = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok()).ok_or(WRONG)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| WRONG)?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| WRONG)
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("http://")?;
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
