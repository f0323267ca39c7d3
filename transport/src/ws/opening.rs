//! How a WebSocket is opened, both sides.

use super::{WsIo, config};
use crate::link::Io;
use longshore_wire::{Endpoint, Transport};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::handshake::server::{Callback, ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};

/// Why no WebSocket was opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WsError {
    /// An HTTP answer that opens none.
    #[error("answered with HTTP {0}")]
    Status(u16),
    /// Not even that.
    #[error("{0}")]
    Other(String),
}

impl From<Error> for WsError {
    fn from(error: Error) -> Self {
        match error {
            Error::Http(response) => Self::Status(response.status().as_u16()),
            other => Self::Other(other.to_string()),
        }
    }
}

/// Opens a WebSocket to an endpoint over a stream that is already there.
pub(crate) async fn connect<S: Io>(endpoint: &Endpoint, stream: S) -> Result<WsIo<S>, WsError> {
    let uri = format!("{}://{}{}", endpoint.transport, host_header(endpoint), endpoint.path);
    let (socket, _) = tokio_tungstenite::client_async_with_config(uri, stream, Some(config())).await?;
    Ok(WsIo::new(socket))
}

/// Host and port as RFC 6455 §4.1 wants them in the `Host` header: the port only where the scheme has another one. Balancers
/// compare the text.
fn host_header(endpoint: &Endpoint) -> String {
    let host = endpoint.host.strip_suffix('.').unwrap_or(&endpoint.host);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    match (endpoint.transport, endpoint.address.port()) {
        (Transport::Ws, 80) | (Transport::Wss, 443) => host,
        (_, port) => format!("{host}:{port}"),
    }
}

/// Takes a WebSocket at `path`; any other path gets a 404.
pub(crate) async fn accept<S: Io>(path: &str, stream: S) -> Result<WsIo<S>, WsError> {
    let at = AtPath { path: path.to_owned() };
    let socket = tokio_tungstenite::accept_hdr_async_with_config(stream, at, Some(config())).await?;
    Ok(WsIo::new(socket))
}

struct AtPath {
    path: String,
}

impl Callback for AtPath {
    fn on_request(self, request: &Request, response: Response) -> Result<Response, ErrorResponse> {
        if request.uri().path() == without_query(&self.path) { Ok(response) } else { Err(not_found()) }
    }
}

/// A dialler's path may carry a query for a balancer before us; it never counts here.
fn without_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

fn not_found() -> ErrorResponse {
    let body = "no such path\n";
    let mut response = ErrorResponse::new(Some(body.to_owned()));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_header_names_a_port_only_where_it_is_not_the_schemes() {
        let header = |transport: Transport, host: &str, port: u16| {
            let (host, path) = (host.to_owned(), "/".to_owned());
            host_header(&Endpoint { transport, address: ([10, 0, 0, 1], port).into(), host, path, tls_verify: None })
        };
        assert_eq!(header(Transport::Wss, "a.example.", 443), "a.example");
        assert_eq!(header(Transport::Ws, "a.example", 80), "a.example");
        assert_eq!(header(Transport::Wss, "a.example", 80), "a.example:80");
        assert_eq!(header(Transport::Ws, "fd00::1", 8180), "[fd00::1]:8180");
    }
}
