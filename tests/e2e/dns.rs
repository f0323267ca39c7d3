//! An authoritative DNS server for test zones, on a loopback address of its own.

use hickory_server::Server;
use hickory_server::proto::rr::Name;
use hickory_server::proto::serialize::txt::Parser;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

/// A running DNS server; stops when dropped.
pub(crate) struct Dns {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    /// Serves `records` (zone-file lines below `cluster.test.`) on port 5353 of `ip`.
    pub(crate) fn serve(ip: IpAddr, records: &str) -> Self {
        let address = SocketAddr::new(ip, 5353);
        let zone = format!(
            "$ORIGIN cluster.test.\n$TTL 1\n@ IN SOA ns.cluster.test. admin.cluster.test. 1 60 60 60 1\n@ IN NS ns\nns IN A {ip}\n{records}"
        );
        let stop = CancellationToken::new();
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let token = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run(address, &zone, ready, token));
        });
        started.recv_timeout(Duration::from_secs(10)).expect("the DNS server starts");
        Self { address, stop, thread: Some(thread) }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Dns {
    /// Its port is free afterwards.
    fn drop(&mut self) {
        self.stop.cancel();
        drop(self.thread.take().map(JoinHandle::join));
    }
}

async fn run(address: SocketAddr, zone: &str, ready: std::sync::mpsc::SyncSender<()>, stop: CancellationToken) {
    let origin = Name::from_str("cluster.test.").unwrap();
    let (_, records) = Parser::new(zone, None, Some(origin.clone())).parse().expect("the zone is well-formed");
    let handler: InMemoryZoneHandler =
        InMemoryZoneHandler::new(origin.clone(), records, ZoneType::Primary, AxfrPolicy::Deny)
            .expect("the zone is valid");
    let mut catalog = Catalog::new();
    catalog.upsert(origin.into(), vec![Arc::new(handler)]);
    let mut server = Server::new(catalog);
    server.register_socket(UdpSocket::bind(address).await.expect("the DNS port is free"));
    server.register_listener(
        TcpListener::bind(address).await.expect("the DNS port is free"),
        Duration::from_secs(5),
        4096,
    );
    ready.send(()).unwrap();
    tokio::select! {
        () = stop.cancelled() => {}
        result = server.block_until_done() => panic!("the DNS server ended: {result:?}"),
    }
}
