//! What is dialled without the proxy: `proxy.no_proxy` and `NO_PROXY`.
//!
//! ```text
//! *                       everything
//! example.com             that name and all names below it; a leading dot or *. means the same
//! 10.1.2.3  [fd00::1]     that address
//! 10.0.0.0/8  fd00::/8    the addresses of that network
//! ….:8143                 any of them but *, and only that port
//! ```
//!
//! As with curl, loopback is no exception by itself. Unlike there, an address rule counts for the address that a name
//! has, too: a name found by DNS is dialled by its address.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// One exception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoProxyRule {
    what: What,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    All,
    /// Lower case, without dots at its ends.
    Name(String),
    Net(IpAddr, u8),
}

impl NoProxyRule {
    fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        let here = match &self.what {
            What::All => true,
            What::Name(name) => {
                let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
                host.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            What::Net(net, prefix) => address.is_some_and(|address| within(address.to_canonical(), *net, *prefix)),
        };
        here && self.port.is_none_or(|only| only == port)
    }
}

/// Whether the first `prefix` bits are the same.
fn within(address: IpAddr, net: IpAddr, prefix: u8) -> bool {
    let same = |left: u128, right: u128, width: u32| {
        let loose = width - u32::from(prefix);
        left.checked_shr(loose).unwrap_or(0) == right.checked_shr(loose).unwrap_or(0)
    };
    match (address, net) {
        (IpAddr::V4(address), IpAddr::V4(net)) => same(address.to_bits().into(), net.to_bits().into(), 32),
        (IpAddr::V6(address), IpAddr::V6(net)) => same(address.to_bits(), net.to_bits(), 128),
        _ => false,
    }
}

impl FromStr for NoProxyRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = "an exception is *, a name, .suffix, an address, or address/bits, each but * with :port if wanted";
        let wrong = || format!("'{text}': {shape}");
        if text == "*" {
            return Ok(Self { what: What::All, port: None });
        }
        // A bare IPv6 address or network is full of colons that begin no port.
        if let Ok(what) = network(text) {
            return Ok(Self { what, port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?)),
            None => (text, None),
        };
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(what) = network(bare) {
            return Ok(Self { what, port });
        }
        let name = host.strip_prefix("*.").or_else(|| host.strip_prefix('.')).unwrap_or(host);
        let name = name.strip_suffix('.').unwrap_or(name);
        // The grammar of a cluster URI's host.
        let uri: longshore_wire::ClusterUri = format!("longshore://{name}").parse().map_err(|_| wrong())?;
        let bare = uri.host.eq_ignore_ascii_case(name) && !name.contains(['/', ';']);
        if bare { Ok(Self { what: What::Name(uri.host), port }) } else { Err(wrong()) }
    }
}

fn network(text: &str) -> Result<What, ()> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().map_err(drop)?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let prefix = bits.map_or(Ok(width), str::parse).map_err(drop)?;
    if prefix <= width { Ok(What::Net(address, prefix)) } else { Err(()) }
}

impl fmt::Display for NoProxyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::All => f.write_str("*")?,
            What::Name(name) => f.write_str(name)?,
            What::Net(net, prefix) => {
                let whole = u8::from(net.is_ipv4()) * 32 + u8::from(net.is_ipv6()) * 128;
                let brackets = self.port.is_some() && net.is_ipv6();
                f.write_str(if brackets { "[" } else { "" })?;
                write!(f, "{net}")?;
                if *prefix != whole {
                    write!(f, "/{prefix}")?;
                }
                f.write_str(if brackets { "]" } else { "" })?;
            }
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Serialize for NoProxyRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NoProxyRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// All exceptions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct NoProxy {
    rules: Vec<NoProxyRule>,
}

impl NoProxy {
    pub(crate) const fn new(rules: Vec<NoProxyRule>) -> Self {
        Self { rules }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether `host` is dialled without the proxy; `address` is what its name resolves to, if that is known.
    pub fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        self.rules.iter().any(|rule| rule.covers(host, address, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(rules: &str, host: &str, port: u16) -> bool {
        let rules = rules.split(' ').map(|rule| rule.parse().unwrap()).collect();
        NoProxy::new(rules).covers(host, host.parse().ok(), port)
    }

    #[test]
    fn names_and_suffixes() {
        for rule in ["example.com", ".example.com", "*.example.com", "Example.COM."] {
            assert!(covers(rule, "example.com", 1) && covers(rule, "a.b.EXAMPLE.com.", 1), "{rule}");
            assert!(!covers(rule, "badexample.com", 1) && !covers(rule, "example.com.evil", 1), "{rule}");
        }
        assert!(covers("a b *", "anything", 1));
    }

    #[test]
    fn addresses_and_networks() {
        assert!(covers("10.0.0.0/8", "10.255.1.1", 1) && !covers("10.0.0.0/8", "11.0.0.1", 1));
        assert!(covers("fd00::/8", "fd12::1", 1) && !covers("fd00::/8", "fe80::1", 1));
        assert!(covers("10.1.2.3", "10.1.2.3", 1) && !covers("10.1.2.3", "10.1.2.4", 1));
        assert!(covers("0.0.0.0/0", "1.2.3.4", 1) && !covers("0.0.0.0/0", "::1", 1));
        assert!(covers("10.0.0.0/8", "::ffff:10.0.0.1", 1), "an IPv4 address in IPv6 clothes");
        let rules = NoProxy::new(vec!["10.0.0.0/8".parse().unwrap()]);
        assert!(rules.covers("node.example.com", Some([10, 0, 0, 1].into()), 1), "what the name resolves to");
        assert!(!rules.covers("node.example.com", None, 1));
        assert!(!covers("example.com", "127.0.0.1", 1), "loopback is no exception by itself");
    }

    #[test]
    fn ports() {
        for rule in ["a.example:8143", "[fd00::1]:8143", "10.0.0.0/8:8143"] {
            let host = ["a.example", "fd00::1", "10.9.9.9"].into_iter().find(|host| covers(rule, host, 8143));
            assert!(host.is_some_and(|host| !covers(rule, host, 443)), "{rule}");
        }
    }

    #[test]
    fn what_is_written_is_shown_and_slips_are_refused() {
        for text in ["*", "example.com:8143", "10.0.0.0/8", "fd00::/8", "[fd00::1]:443", "::1", "10.1.2.3:80"] {
            assert_eq!(text.parse::<NoProxyRule>().unwrap().to_string(), text);
        }
        for wrong in ["", ":80", "10.0.0.0/33", "a b", "a:0", "a:x", "http://a", "a/8", "*a", "a;path=/x", "*:80"] {
            assert!(wrong.parse::<NoProxyRule>().is_err(), "{wrong}");
        }
    }
}
