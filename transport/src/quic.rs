//! QUIC (RFC 9000) over UDP as one more carrier.
//!
//! The dialler opens one bidirectional stream and writes [`CONTROL_LANE`] on it: what follows are the bytes that TCP would
//! carry, but for the data of streams: each of those is a QUIC stream of its own ([`lanes`]). It owns every quinn type of the workspace. It never sends anything before TLS is done (no 0-RTT), and never
//! gives an unproven peer more than one stream and a small window.

mod accept;
mod dial;
mod lane;
mod lanes;
mod roam;

pub(crate) use accept::{Arriving, Server};
pub(crate) use dial::{QuicError, dial};
pub(crate) use lanes::{Broken, Bulk, Lanes};

use quinn::{Connection, ConnectionError, IdleTimeout, TransportConfig, VarInt};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What both sides name in the TLS handshake; without it nobody is let in.
const ALPN: &[u8] = b"longshore";
/// First byte of the first stream: it is the control lane. It also makes the stream known to the acceptor.
const CONTROL_LANE: u8 = 1;
/// First byte of all others.
const BULK: u8 = 2;
/// The control lane's, above that of the others, which is 0.
const CONTROL_PRIORITY: i32 = 1;
/// Bytes that a peer may send before they are read, on one stream.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// Bytes that a peer may send before they are read, on all streams of a connection that nobody has widened.
const WINDOW: u32 = 256 * 1024;
/// Silence after which the connection is dropped. Sessions notice far earlier; this ends what no session watches.
const IDLE: Duration = Duration::from_secs(120);
/// Before anything is known of the path; the RFC's 333 ms would make a lost first packet cost a second.
const INITIAL_RTT: Duration = Duration::from_millis(150);

/// How both sides use QUIC; `streams` is how many the peer may open.
fn transport(streams: u32) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .initial_rtt(INITIAL_RTT)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE.as_millis() as u32))));
    Arc::new(config)
}

/// RFC 9266 `tls-exporter`, as over TCP.
fn exporter(connection: &Connection) -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    connection
        .export_keying_material(&mut key, b"EXPORTER-Channel-Binding", b"")
        .map_err(|_| io::Error::other("no TLS exporter"))?;
    Ok(key)
}

/// What a user of a byte stream expects to see.
fn into_io(error: ConnectionError) -> io::Error {
    let kind = match error {
        ConnectionError::TimedOut => io::ErrorKind::TimedOut,
        ConnectionError::ApplicationClosed(_) | ConnectionError::ConnectionClosed(_) | ConnectionError::Reset => {
            io::ErrorKind::ConnectionReset
        }
        ConnectionError::LocallyClosed => io::ErrorKind::BrokenPipe,
        ConnectionError::VersionMismatch | ConnectionError::TransportError(_) | ConnectionError::CidsExhausted => {
            io::ErrorKind::Other
        }
    };
    io::Error::new(kind, error)
}
