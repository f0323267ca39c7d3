//! Dial, listen, authenticate, multiplex.
//!
//! ```text
//! dial ─┐                       ┌─ prove ──┐
//!       ├─▶ Link (byte stream) ─┤          ├─▶ Proven (link + who the peer is) ─▶ Session
//! accept┘                       └─ verify ─┘
//! ```
//!
//! It owns every socket between nodes, the proof of who is at the other end, and the session on top. It never resolves
//! names (but a proxy's), never decides what a proven peer may do beyond its role, and never writes a secret into a log.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod auth;
pub mod backoff;
mod dial;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod handshake;
mod link;
mod listen;
mod memory;
mod proxy;
mod quic;
mod race;
mod session;
mod tcp;
mod tls;
mod trace;
mod ws;

pub use auth::{Keyring, Known, KnownSecret, Secret, SecretError, Verifiers, make_verifier, verifier_with};
pub use backoff::Backoff;
pub use dial::{DialError, DialOptions, dial};
pub use handshake::{HandshakeError, Identity, Peer, Proven, answer, call, prove, verify};
pub use link::{Carrier, Io, Link, LinkInfo};
pub use listen::admission::{Admission, AdmissionLimits};
pub use listen::{ListenError, ListenOptions, Listener, Pending, UpgradeError};
pub use memory::memory_pair;
pub use proxy::{Bypass, Login, Proxy, ProxyError, ProxyKind};
pub use race::{Dialled, Race};
pub use session::{
    Ending, First, Handler, Heard, Inbound, Incoming, Onward, Request, Rescue, Session, SessionOptions, Stream,
    Traffic, failure_of,
};
pub use tcp::set as set_tcp;
pub use tls::{ClientTls, ClientTlsOptions, ServerTls, TlsError, When};
pub use trace::{Stage, dial_traced};
