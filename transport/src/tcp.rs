//! How our TCP sockets are set: what is small leaves at once, and little waits unsent in the kernel.

use socket2::SockRef;
use std::io;
use tokio::net::TcpStream;

/// Bytes that may wait in the kernel unsent; more than that stays with the session, where control frames overtake it. At
/// 100 Mbit/s this is 5 ms. What is sent and not yet acknowledged does not count, so no path is slowed down.
pub(crate) const UNSENT: u32 = 64 * 1024;

/// Sets a socket of either side: without Nagle's delay (RFC 896), and with at most 64 KiB in the kernel that are not sent yet
/// (`TCP_NOTSENT_LOWAT`), so that a peer which takes nothing is noticed soon and costs little.
///
/// # Errors
/// When the system refuses the first of the two; where it does not know the second, the socket is used without it.
pub fn set(tcp: &TcpStream) -> io::Result<()> {
    // Small frames must not wait for the acknowledgement of the ones before.
    tcp.set_nodelay(true)?;
    if let Err(error) = SockRef::from(tcp).set_tcp_notsent_lowat(UNSENT) {
        tracing::debug!(%error, "TCP_NOTSENT_LOWAT cannot be set; control frames may wait behind bulk in the kernel");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn little_waits_unsent_in_the_kernel() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        set(&tcp).unwrap();
        assert_eq!(SockRef::from(&tcp).tcp_notsent_lowat().unwrap(), UNSENT);
        assert!(tcp.nodelay().unwrap());
    }
}
