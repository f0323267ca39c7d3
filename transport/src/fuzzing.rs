//! What the fuzz targets need beside the public interface: the openings that a WebSocket and a proxy want, over any stream.
//! Built only for them.

use crate::link::{Carrier, Io, Link, LinkInfo};
use crate::proxy::Proxy;
use crate::ws;
use longshore_wire::Endpoint;

fn link(io: impl Io) -> Link {
    Link::new(io, LinkInfo { carrier: Carrier::Ws, remote: None, exporter: None, certified: false })
}

/// Takes a WebSocket at `path`.
///
/// # Errors
/// Why none was opened.
pub async fn accept_websocket(path: &str, io: impl Io) -> Result<Link, String> {
    ws::accept(path, io).await.map(link).map_err(|error| error.to_string())
}

/// Opens a WebSocket to `endpoint` over a stream that is there already.
///
/// # Errors
/// Why none was opened.
pub async fn open_websocket(endpoint: &Endpoint, io: impl Io) -> Result<Link, String> {
    ws::connect(endpoint, io).await.map(link).map_err(|error| error.to_string())
}

/// Asks a proxy for a way to `endpoint` over a stream that is there already.
///
/// # Errors
/// Why there is none.
pub async fn ask_proxy(proxy: &Proxy, endpoint: &Endpoint, io: impl Io) -> Result<Link, String> {
    proxy.open(endpoint, io).await.map(link).map_err(|error| error.to_string())
}
