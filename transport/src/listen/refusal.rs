//! What a connection hears that is not taken in: one attempt to say so, without waiting and without reading on.

use super::Upgrade;
use longshore_wire::handshake::{FromAcceptor, Reject, RejectCode};
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::time::Duration;
use tokio::net::TcpStream;

/// When to come back: by then those before it are proven or gone.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Bytes of the client that are read so that closing does not overtake the refusal.
const DRAINED: usize = 4096;

impl Upgrade {
    /// Says in the listener's own language that there are too many. Where TLS would have to stand first, it says nothing:
    /// a handshake for each refusal would be work that strangers can order.
    pub(super) fn refuse(&self, tcp: TcpStream) {
        // All of it is an attempt: whoever does not hear it sees the connection end.
        let Ok(mut tcp) = tcp.into_std() else { return };
        let refusal = match (&self.tls, &self.path) {
            (Some(_), _) => return,
            (None, None) => message(),
            (None, Some(_)) => http(),
        };
        if tcp.write_all(&refusal).is_ok() {
            let _ = tcp.shutdown(Shutdown::Write);
            let _ = tcp.read(&mut [0; DRAINED]);
        }
    }
}

fn message() -> Vec<u8> {
    let reject = FromAcceptor::Reject(Reject {
        code: RejectCode::Busy,
        message: "too many connections from your address have not proven themselves; come back later".to_owned(),
        retry_after_ms: u64::try_from(RETRY_AFTER.as_millis()).ok(),
    });
    let body = longshore_wire::encode(&reject);
    let length = u32::try_from(body.len()).expect("a refusal is short");
    [&length.to_be_bytes(), body.as_slice()].concat()
}

fn http() -> Vec<u8> {
    let seconds = RETRY_AFTER.as_secs();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {seconds}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .into_bytes()
}
