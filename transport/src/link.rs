//! One byte stream to a peer, whatever carries it, and what is known of it.
//!
//! It owns the common shape of all carriers. It says nothing of who the peer is: that is the handshake's word.

use crate::listen::admission::Ticket;
use crate::quic::Lanes;
use std::fmt;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

/// An ordered, reliable byte stream in both directions. After `poll_shutdown` only what is under way from the peer may
/// still be read: carriers differ in whether the peer can answer (a WebSocket cannot), so nobody may rely on it.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// What carries the bytes of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket over plain TCP.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// QUIC over UDP.
    Quic,
    /// Two ends in one process.
    Memory,
    /// A stream of another session.
    Tunnel,
}

impl Carrier {
    /// The carrier's name in logs and listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Quic => "quic",
            Self::Memory => "memory",
            Self::Tunnel => "tunnel",
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl From<longshore_wire::Transport> for Carrier {
    fn from(transport: longshore_wire::Transport) -> Self {
        match transport {
            longshore_wire::Transport::Tcp => Self::Tcp,
            longshore_wire::Transport::Tls => Self::Tls,
            longshore_wire::Transport::Ws => Self::Ws,
            longshore_wire::Transport::Wss => Self::Wss,
            longshore_wire::Transport::Quic => Self::Quic,
        }
    }
}

/// What is known of a link before the peer has proven anything.
#[derive(Clone)]
pub struct LinkInfo {
    /// What carries it.
    pub carrier: Carrier,
    /// The address at the other end; that of a proxy or balancer where one stands between. `None` without a socket.
    pub remote: Option<SocketAddr>,
    /// The TLS exporter of RFC 9266, where the carrier has TLS: equal at both ends only without a man in the middle.
    pub exporter: Option<[u8; 32]>,
    /// Whether a CA or a pin vouched for the TLS peer. Never so at the accepting end.
    pub certified: bool,
}

impl fmt::Debug for LinkInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkInfo")
            .field("carrier", &self.carrier)
            .field("remote", &self.remote)
            .field("bound", &self.exporter.is_some())
            .field("certified", &self.certified)
            .finish()
    }
}

/// One byte stream to a peer.
pub struct Link {
    /// The stream.
    pub io: Box<dyn Io>,
    /// What is known of it.
    pub info: LinkInfo,
    /// The place among a listener's unproven connections; given back when the peer is proven or the link is dropped.
    pub(crate) admission: Option<Ticket>,
    /// When the peer must have proven itself, where that is sooner than the handshake's own deadline.
    pub(crate) prove_by: Option<Instant>,
    /// Further streams of the carrier, where it has some; the link is their control lane.
    pub(crate) lanes: Option<Lanes>,
}

impl Link {
    /// A link over any stream.
    pub fn new(io: impl Io, info: LinkInfo) -> Self {
        Self { io: Box::new(io), info, admission: None, prove_by: None, lanes: None }
    }

    /// A link inside a stream of another session. It needs its own proof: the session around it may be another peer's.
    pub fn tunnel(io: impl Io) -> Self {
        Self::new(io, LinkInfo { carrier: Carrier::Tunnel, remote: None, exporter: None, certified: false })
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("info", &self.info).finish_non_exhaustive()
    }
}
