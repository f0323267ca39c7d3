//! Where the API is, and how to get there.

use longshore_transport::{ClientTls, ClientTlsOptions, DialOptions, Io, dial};
use longshore_wire::uri::TlsVerify;
use longshore_wire::{ClusterUri, Endpoint, Transport};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};

/// Data folder of a node that is configured nowhere else.
const SOCKET: &str = "/var/lib/longshore/api.sock";
/// Port of the API.
const PORT: u16 = 8138;
/// Time for a connection to an API over TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A byte stream to the API.
pub(super) type Stream = Box<dyn Io>;

/// Where the API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A socket of this machine.
    Unix(PathBuf),
    /// Plain HTTP.
    Http(Place),
    /// HTTP over TLS; a proxy in front of the node has a certificate of the system's roots.
    Https(Place),
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    host: String,
    port: u16,
}

impl Target {
    /// Where to look when the operator does not say.
    pub(super) fn defaults() -> Vec<Self> {
        let local = Self::Http(Place { host: "127.0.0.1".to_owned(), port: PORT });
        let socket = PathBuf::from(SOCKET);
        if socket.exists() { vec![Self::Unix(socket), local] } else { vec![local] }
    }

    /// Whether nobody between here and there can read along.
    pub(super) fn keeps_secrets(&self) -> bool {
        match self {
            Self::Unix(_) | Self::Https(_) => true,
            Self::Http(place) => {
                place.host == "localhost" || place.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }

    /// What stands in the `Host` header.
    pub(super) fn host(&self) -> String {
        match self {
            Self::Unix(_) => "localhost".to_owned(),
            Self::Http(place) | Self::Https(place) => place.to_string(),
        }
    }

    pub(super) async fn connect(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Self::Http(place) => {
                let stream = TcpStream::connect((place.host.as_str(), place.port)).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Self::Https(place) => connect_tls(place).await?,
        })
    }
}

async fn connect_tls(place: &Place) -> io::Result<Stream> {
    let options = ClientTlsOptions { verify: TlsVerify::System, ca_file: None, pin_file: None };
    let tls = ClientTls::new(options).map_err(io::Error::other)?;
    let options = DialOptions { connect_timeout: CONNECT_TIMEOUT, ..DialOptions::new(tls) };
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host((place.host.as_str(), place.port)).await? {
        let endpoint = Endpoint {
            transport: Transport::Tls,
            address,
            host: place.host.clone(),
            path: String::new(),
            tls_verify: Some(TlsVerify::System),
        };
        match dial(&endpoint, &options).await {
            Ok(link) => return Ok(link.io),
            Err(error) => failure = io::Error::other(error),
        }
    }
    Err(failure)
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no API address; write unix:///PATH, http://HOST:PORT or https://HOST:PORT");
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(wrong()) };
        }
        let place = |rest: &str, port: u16| {
            // The authority has the grammar of a cluster URI's.
            let uri: ClusterUri = format!("longshore://{}", rest.trim_end_matches('/')).parse().map_err(|_| wrong())?;
            let bare = uri.transport.is_none() && uri.path.is_none() && uri.tls_verify.is_none();
            if bare { Ok(Place { host: uri.host, port: uri.port.unwrap_or(port) }) } else { Err(wrong()) }
        };
        match text.split_once("://") {
            Some(("http", rest)) => place(rest, PORT).map(Self::Http),
            Some(("https", rest)) => place(rest, 443).map(Self::Https),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Http(place) => write!(f, "http://{place}"),
            Self::Https(place) => write!(f, "https://{place}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for text in ["unix:///run/l.sock", "http://127.0.0.1:8138", "http://[::1]:80", "https://api.example.com:443"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        assert_eq!("http://host/".parse::<Target>().unwrap().to_string(), "http://host:8138");
        for wrong in ["", "host:80", "unix://relative", "ftp://a", "http://", "http://a/b"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn where_a_token_may_go() {
        let keeps = |text: &str| text.parse::<Target>().unwrap().keeps_secrets();
        assert!(keeps("http://127.0.0.1:1") && keeps("https://a") && keeps("unix:///a"));
        assert!(!keeps("http://10.0.0.1"));
    }
}
