//! `[[listen]]`: where a node accepts connections, and under which address others find it. A worker has none unless it is
//! to be dialled by its control nodes.

use longshore_wire::uri::DEFAULT_WS_PATH;
use longshore_wire::{ClusterUri, Transport};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Entry", into = "Entry")]
pub struct Listen {
    /// How peers connect.
    pub transport: Transport,
    /// The local address.
    pub bind: SocketAddr,
    /// Path of the WebSocket.
    pub path: String,
    /// What other nodes are told to dial. Without the key: the bound address, or the node's name if that is a wildcard;
    /// `None` if the node's name is no DNS name.
    pub advertise: Option<ClusterUri>,
}

/// As it stands in the file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    uri: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    advertise: Option<String>,
}

impl TryFrom<Entry> for Listen {
    type Error = String;

    fn try_from(entry: Entry) -> Result<Self, String> {
        let uri: ClusterUri = entry.uri.parse().map_err(|error| format!("listen.uri: {error}"))?;
        let ip = uri.ip().ok_or_else(|| {
            format!("listen.uri: '{}' is not an IP address; bind to 0.0.0.0, [::] or one of the host's, and put names into advertise", uri.host)
        })?;
        if uri.tls_verify.is_some() {
            return Err("listen.uri: tls_verify belongs to dialled URIs, not to a listener".to_owned());
        }
        let transport = uri.transport.unwrap_or(Transport::Tls);
        let mut listen = Self {
            transport,
            bind: SocketAddr::new(ip, uri.port.unwrap_or_else(|| transport.default_port())),
            path: uri.path.unwrap_or_else(|| DEFAULT_WS_PATH.to_owned()),
            advertise: None,
        };
        listen.advertise = entry.advertise.map(|text| listen.reading(&text)).transpose()?;
        Ok(listen)
    }
}

impl From<Listen> for Entry {
    fn from(listen: Listen) -> Self {
        let uri = listen.uri(listen.bind.ip().to_string(), listen.bind.port());
        Self { uri: uri.to_string(), advertise: listen.advertise.map(|uri| uri.to_string()) }
    }
}

impl Listen {
    /// The listener of a control node that names none.
    pub(crate) fn standard() -> Self {
        let transport = Transport::Tls;
        let bind = SocketAddr::from(([0, 0, 0, 0], transport.default_port()));
        Self { transport, bind, path: DEFAULT_WS_PATH.to_owned(), advertise: None }
    }

    /// Fills in what is advertised when the file does not say.
    pub(crate) fn with_default_advertise(mut self, node_name: &str) -> Self {
        if self.advertise.is_none() {
            let host = if self.bind.ip().is_unspecified() { node_name.to_owned() } else { self.bind.ip().to_string() };
            // Goes through text, since a node's name need not be a name that DNS can hold.
            self.advertise = self.uri(host, self.bind.port()).to_string().parse().ok();
        }
        self
    }

    /// Reads `host`, `host:port` or a whole URI; what it leaves open is as the listener has it.
    fn reading(&self, text: &str) -> Result<ClusterUri, String> {
        let whole = if text.contains("://") { text.to_owned() } else { format!("longshore://{text}") };
        let uri: ClusterUri = whole.parse().map_err(|error| format!("listen.advertise: {error}"))?;
        if uri.ip().is_some_and(|ip| ip.is_unspecified()) {
            return Err(format!("listen.advertise: nobody can dial {}; write the address that others see", uri.host));
        }
        let defaults = self.uri(String::new(), self.bind.port());
        Ok(ClusterUri {
            port: uri.port.or(defaults.port),
            transport: uri.transport.or(defaults.transport),
            path: uri.path.or(defaults.path),
            ..uri
        })
    }

    fn uri(&self, host: String, port: u16) -> ClusterUri {
        let path = (self.transport.is_websocket() && self.path != DEFAULT_WS_PATH).then(|| self.path.clone());
        ClusterUri { host, port: Some(port), transport: Some(self.transport), path, tls_verify: None }
    }
}
