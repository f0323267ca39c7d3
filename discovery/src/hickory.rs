//! The resolver of every day: hickory, with its cache switched off.

use std::net::SocketAddr;
use std::time::Duration;

/// Whom to ask, and how long to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverOptions {
    /// DNS servers; empty for those of the system (`/etc/resolv.conf`).
    pub nameservers: Vec<SocketAddr>,
    /// For one question, all attempts included.
    pub timeout: Duration,
}

impl Default for ResolverOptions {
    fn default() -> Self {
        Self { nameservers: Vec::new(), timeout: Duration::from_secs(3) }
    }
}
