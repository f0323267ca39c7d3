//! Notices that this machine reaches the peer from another address than before.
//!
//! The peer finds us at our new address as soon as we send from it; but who only receives sends nothing when nothing
//! comes. So the dialler looks which source address the system would take, and moves to a new socket when that changes:
//! quinn then sends at once. It sends no packet itself.

use quinn::Endpoint;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Time between two looks: four system calls each.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A socket that takes part from any address of this machine.
pub(super) fn any(remote: SocketAddr) -> io::Result<UdpSocket> {
    let ip = if remote.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    UdpSocket::bind((ip, 0))
}

/// The address that packets to `remote` would leave from; `None` without a way there.
pub(super) fn source(remote: SocketAddr) -> Option<IpAddr> {
    let socket = any(remote).ok()?;
    socket.connect(remote).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Moves the endpoint whenever the source address changes. Ends with the task that holds it.
pub(super) async fn run(endpoint: Endpoint, remote: SocketAddr, mut present: Option<IpAddr>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let now = source(remote);
        if now == present {
            continue;
        }
        // Without any address there is nowhere to move to; the way back is a change as well.
        let Some(address) = now else {
            tracing::debug!(%remote, "there is no way to the peer of a QUIC connection at present");
            present = None;
            continue;
        };
        match any(remote).and_then(|socket| endpoint.rebind(socket)) {
            Ok(()) => {
                tracing::info!(%remote, from = %address, "this node's address has changed; the QUIC connection moves along");
                present = now;
            }
            Err(error) => tracing::warn!(%remote, %error, "the QUIC connection cannot move to this node's new address"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_that_of_the_route() {
        assert_eq!(source("127.0.0.9:9".parse().unwrap()), Some(IpAddr::from(Ipv4Addr::LOCALHOST)));
    }
}
