//! How both ends' sockets are set, as the system sees them.

use crate::harness::{accept, client_tls, endpoint, listen};
use longshore_transport::{DialOptions, dial};
use longshore_wire::Transport;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::Socket;
use std::collections::HashMap;
use std::net::SocketAddr;

/// Bytes that may wait unsent in the kernel, in front of control frames.
const UNSENT: u32 = 64 * 1024;

/// This process's sockets whose local or remote end has that address, by both ends.
fn sockets_at(address: SocketAddr) -> HashMap<(SocketAddr, SocketAddr), Socket> {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let numbers = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let numbers: Vec<i32> = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let copies = numbers.into_iter().filter_map(|number| pidfd_getfd(&own, number, PidfdGetfdFlags::empty()).ok());
    let connected = copies.filter_map(|copy| {
        let socket = Socket::from(copy);
        let ends = (socket.local_addr().ok()?.as_socket()?, socket.peer_addr().ok()?.as_socket()?);
        Some((ends, socket))
    });
    connected.filter(|((local, remote), _)| *local == address || *remote == address).collect()
}

#[tokio::test]
async fn little_waits_unsent_on_either_side() {
    for transport in [Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss] {
        let listener = listen(transport).await;
        let endpoint = endpoint(transport, listener.local_addr());
        let options = DialOptions::new(client_tls());
        let (dialled, _accepted) = tokio::join!(dial(&endpoint, &options), accept(&listener));
        let _dialled = dialled.unwrap();
        let sockets = sockets_at(listener.local_addr());
        assert_eq!(sockets.len(), 2, "{sockets:?}");
        for ((local, remote), socket) in sockets {
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT, "{transport}: {local} to {remote}");
            assert!(socket.tcp_nodelay().unwrap(), "{transport}: {local} to {remote}");
        }
    }
}
