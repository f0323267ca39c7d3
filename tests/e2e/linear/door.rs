//! The HTTP API of one control node, over its Unix socket: no network namespace hides that, and no partition.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Nobody took the request.
    Unsent,
    /// It may have been carried out.
    Unanswered,
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) revision: Option<u64>,
    pub(crate) body: Bytes,
    /// Whether the answer itself says that it may be stale.
    pub(crate) stale: bool,
}

impl Reply {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Headers of a request.
pub(crate) type Headers<'a> = &'a [(&'a str, String)];

/// A kept connection to one node.
pub(crate) struct Door {
    socket: PathBuf,
    sender: Option<SendRequest<Full<Bytes>>>,
    /// What moves the bytes of the connections.
    drivers: JoinSet<()>,
}

impl Door {
    pub(crate) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), sender: None, drivers: JoinSet::new() }
    }

    /// Another connection to the same node.
    pub(crate) fn another(&self) -> Self {
        Self::new(&self.socket)
    }

    /// Asks, and waits for the whole answer at most so long.
    pub(crate) async fn ask(
        &mut self,
        patience: Duration,
        line: (&str, &str),
        headers: Headers<'_>,
        body: impl Into<Bytes>,
    ) -> Result<Reply, Lost> {
        // Taken out: a connection whose answer did not come whole is of no use any more.
        let mut sender = self.connected(patience).await?;
        let request = request(line, headers, body.into());
        let answering = async {
            let response = sender.send_request(request).await.map_err(|_| Lost::Unanswered)?;
            let (head, body) = response.into_parts();
            let number = |name: &str| head.headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
            let body = body.collect().await.map_err(|_| Lost::Unanswered)?.to_bytes();
            let stale = head.headers.get("x-longshore-consistency").is_some_and(|value| value == "local");
            Ok(Reply { status: head.status.as_u16(), revision: number("x-longshore-revision"), body, stale })
        };
        let reply = timeout(patience, answering).await.unwrap_or(Err(Lost::Unanswered))?;
        self.sender = Some(sender);
        Ok(reply)
    }

    /// Asks on a connection of its own for an answer that goes on.
    pub(crate) async fn open(
        &mut self,
        patience: Duration,
        path: &str,
        headers: Headers<'_>,
    ) -> Result<Response<Incoming>, Lost> {
        self.sender = None;
        let mut sender = self.connected(patience).await?;
        let answering = sender.send_request(request(("GET", path), headers, Bytes::new()));
        let response = timeout(patience, answering).await.map_err(|_| Lost::Unanswered)?;
        let response = response.map_err(|_| Lost::Unanswered)?;
        // The connection lives as long as this does.
        self.sender = Some(sender);
        if response.status().is_success() { Ok(response) } else { Err(Lost::Unsent) }
    }

    async fn connected(&mut self, patience: Duration) -> Result<SendRequest<Full<Bytes>>, Lost> {
        if let Some(mut sender) = self.sender.take()
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        while self.drivers.try_join_next().is_some() {}
        let connecting = async {
            let stream = UnixStream::connect(&self.socket).await.map_err(|_| Lost::Unsent)?;
            let (sender, driver) = handshake(TokioIo::new(stream)).await.map_err(|_| Lost::Unsent)?;
            // It ends with the sender, or with the node; both show in the requests.
            self.drivers.spawn(async move { drop(driver.await) });
            Ok(sender)
        };
        timeout(patience, connecting).await.unwrap_or(Err(Lost::Unsent))
    }
}

fn request((method, path): (&str, &str), headers: Headers<'_>, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    request.body(Full::new(body)).expect("the test writes a request as it should be")
}
