//! A link without a socket, for two nodes in one process and for tests.

use crate::link::{Carrier, Link, LinkInfo};

/// Bytes that one end may write before the other reads: about what a socket's buffer holds.
const BUFFER: usize = 64 * 1024;

/// Two ends of one link.
pub fn memory_pair() -> (Link, Link) {
    let (a, b) = tokio::io::duplex(BUFFER);
    let info = LinkInfo { carrier: Carrier::Memory, remote: None, exporter: None, certified: false };
    (Link::new(a, info.clone()), Link::new(b, info))
}
