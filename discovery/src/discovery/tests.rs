//! Against a real authoritative name server on loopback, by the resolver of every day; [`wire`] has a server that
//! misbehaves, [`script`] and [`scripted`] have none.

pub(crate) mod script;
mod scripted;
mod wire;

use super::*;
use crate::resolution::Said;
use hickory_proto::rr::rdata::{A, AAAA, NAPTR, SRV};
use hickory_proto::rr::{LowerName, Name, RData, Record, rdata::SOA};
use hickory_server::Server;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use longshore_wire::Transport;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;

/// A zone `test.` and its server.
struct Dns {
    zone: Arc<InMemoryZoneHandler>,
    server: Server<Catalog>,
    address: SocketAddr,
}

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap()
}

impl Dns {
    async fn start() -> Self {
        let zone = Arc::new(InMemoryZoneHandler::empty(name("test"), ZoneType::Primary, AxfrPolicy::Deny));
        zone.upsert(
            Record::from_rdata(
                name("test"),
                60,
                RData::SOA(SOA::new(name("ns.test"), name("a.test"), 1, 60, 60, 60, 60)),
            ),
            0,
        )
        .await;
        let mut catalog = Catalog::new();
        catalog.upsert(LowerName::new(&name("test")), vec![zone.clone()]);
        let mut server = Server::new(catalog);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        server.register_socket(socket);
        Self { zone, server, address }
    }

    async fn put(&self, owner: &str, ttl: u32, data: RData) {
        assert!(self.zone.upsert(Record::from_rdata(name(owner), ttl, data), 0).await);
    }

    async fn a(&self, owner: &str, ip: &str) {
        self.put(owner, 60, RData::A(A(ip.parse().unwrap()))).await;
    }

    async fn srv(&self, owner: &str, priority: u16, port: u16, target: &str) {
        self.put(owner, 60, RData::SRV(SRV::new(priority, 1, port, name(target)))).await;
    }

    async fn naptr(&self, owner: &str, rank: (u16, u16), service: &str, replacement: &str) {
        let services = service.as_bytes().to_vec().into_boxed_slice();
        let data = NAPTR::new(rank.0, rank.1, Box::from(*b"s"), services, Box::from(*b""), name(replacement));
        self.put(owner, 60, RData::NAPTR(data)).await;
    }

    fn client(&self) -> Discovery {
        Discovery::new(ResolverOptions {
            nameservers: vec![self.address],
            timeout: Duration::from_secs(2),
            ..ResolverOptions::default()
        })
        .unwrap()
    }

    async fn stop(mut self) {
        self.server.shutdown_gracefully().await.unwrap();
    }
}

async fn shown(client: &Discovery, uri: &str) -> Vec<String> {
    client.resolve(&uri.parse().unwrap()).await.unwrap().endpoints.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn naptr_goes_by_order_then_preference_in_both_families() {
    let dns = Dns::start().await;
    for (rank, service, label) in [
        ((20, 1), "LS+D2T", "d"),
        ((10, 20), "NKS+D2T", "b"),
        ((10, 10), "lss+d2w", "a"),
        ((10, 30), "NK+D2W", "c"),
        ((1, 1), "SIP+D2U", "other"),
    ] {
        dns.naptr("c.test", rank, service, &format!("srv-{label}.test")).await;
        dns.srv(&format!("srv-{label}.test"), 0, 4000 + rank.1, &format!("host-{label}.test")).await;
        dns.a(&format!("host-{label}.test"), "127.0.0.1").await;
    }
    let found = dns.client().resolve(&"longshore://c.test;path=/edge".parse().unwrap()).await.unwrap();
    let order: Vec<_> = found.endpoints.iter().map(|e| (e.transport, e.address.port(), e.host.as_str())).collect();
    assert_eq!(
        order,
        [
            (Transport::Wss, 4010, "host-a.test"),
            (Transport::Tls, 4020, "host-b.test"),
            (Transport::Ws, 4030, "host-c.test"),
            (Transport::Tcp, 4001, "host-d.test"),
        ]
    );
    assert!(found.endpoints.iter().all(|endpoint| endpoint.path == "/edge"));
    assert_eq!(
        found.trails[0],
        ["NAPTR 10 10 \"s\" \"lss+d2w\" srv-a.test", "SRV 0 1 4010 host-a.test", "A 127.0.0.1"]
    );
    assert_eq!(found.steps.len(), 13, "NAPTR, and SRV, AAAA and A of each");
    let told: Vec<String> = found.steps.iter().take(2).map(ToString::to_string).collect();
    assert!(told[0].contains("SIP+D2U\" srv-other.test (skipped: not a service of ours)"), "{told:?}");
    assert_eq!(told[1], "SRV srv-a.test: 0 1 4010 host-a.test");
    assert!(!found.stale);
    dns.stop().await;
}

#[tokio::test]
async fn without_naptr_tls_by_srv_then_by_address() {
    let dns = Dns::start().await;
    dns.a("c.test", "127.0.0.7").await;
    let client = dns.client();
    assert_eq!(shown(&client, "longshore://c.test").await, ["tls://127.0.0.7:8139 (c.test)"]);
    // Changed answers count at the next call, whatever the TTL of the earlier ones; what was absent, when its time is over.
    let client = dns.client();
    dns.srv("_longshore._tls.c.test", 20, 7002, "two.test").await;
    dns.srv("_longshore._tls.c.test", 10, 7001, "one.test").await;
    dns.a("one.test", "127.0.0.1").await;
    dns.put("two.test", 5, RData::AAAA(AAAA("::1".parse().unwrap()))).await;
    assert_eq!(
        shown(&client, "longshore://c.test").await,
        ["tls://127.0.0.1:7001 (one.test)", "tls://[::1]:7002 (two.test)"]
    );
    // The shortest TTL limits the whole.
    let found = client.resolve(&"longshore://c.test".parse().unwrap()).await.unwrap();
    assert_eq!(found.ttl, Some(Duration::from_secs(5)));
    dns.stop().await;
}

#[tokio::test]
async fn uri_decides_before_dns() {
    let dns = Dns::start().await;
    dns.a("c.test", "127.0.0.7").await;
    dns.naptr("c.test", (1, 1), "LS+D2T", "_longshore._tcp.c.test").await;
    dns.srv("_longshore._tcp.c.test", 0, 7001, "c.test").await;
    dns.srv("_longshore._wss.c.test", 0, 7003, "c.test").await;
    let client = dns.client();
    for (uri, expected) in [
        ("longshore://10.0.0.1", "tls://10.0.0.1:8139"),
        ("longshore://[::1]:9;transport=ws", "ws://[::1]:9/longshore"),
        ("longshore://c.test:443", "tls://127.0.0.7:443 (c.test)"),
        ("longshore://c.test:443;transport=tcp", "tcp://127.0.0.7:443 (c.test)"),
        ("longshore://c.test;transport=wss", "wss://127.0.0.7:7003/longshore (c.test)"),
        ("longshore://c.test;transport=ws", "ws://127.0.0.7:8180/longshore (c.test)"),
        ("longshore://c.test", "tcp://127.0.0.7:7001 (c.test)"),
    ] {
        assert_eq!(shown(&client, uri).await, [expected], "{uri}");
    }
    dns.stop().await;
}

#[tokio::test]
async fn what_dns_denies_is_not_found() {
    let dns = Dns::start().await;
    let error = dns.client().resolve(&"longshore://nowhere.test".parse().unwrap()).await.unwrap_err();
    assert!(
        matches!(&error, DiscoveryError::NotFound { tried, .. } if tried.contains("NAPTR nowhere.test: no such name")),
        "{error}"
    );
    dns.stop().await;
}

#[tokio::test]
async fn dns_down_gives_the_last_known_good_marked_stale() {
    let dns = Dns::start().await;
    dns.naptr("c.test", (1, 1), "LSS+D2W", "_longshore._wss.c.test").await;
    dns.srv("_longshore._wss.c.test", 0, 7003, "c.test").await;
    dns.a("c.test", "127.0.0.7").await;
    let options = ResolverOptions {
        nameservers: vec![dns.address],
        timeout: Duration::from_millis(300),
        ..ResolverOptions::default()
    };
    let client = Discovery::new(options).unwrap();
    let uri: ClusterUri = "longshore://c.test".parse().unwrap();
    let fresh = client.resolve(&uri).await.unwrap();
    dns.stop().await;
    let stale = client.resolve(&uri).await.unwrap();
    assert!(!fresh.stale && stale.stale);
    assert_eq!(stale.endpoints, fresh.endpoints, "no guess of a default port, no other transport");
    assert_eq!(stale.trails, fresh.trails);
    assert!(fresh.age.is_none() && stale.age.is_some_and(|age| age < Duration::from_secs(60)), "{:?}", stale.age);
    assert!(matches!(stale.steps[0].answer, Said::Failed(_)), "the failed question is told");
    let unknown = client.resolve(&"longshore://other.test".parse().unwrap()).await.unwrap_err();
    assert!(matches!(unknown, DiscoveryError::Unreachable { .. }), "{unknown}");
}

#[tokio::test]
async fn several_uris_spread_and_fail_only_together() {
    let dns = Dns::start().await;
    dns.a("a.test", "127.0.0.1").await;
    let client = dns.client();
    let uris = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<ClusterUri>>();
    let some =
        uris(&["longshore://a.test:1", "longshore://nowhere.test", "longshore://127.0.0.2", "longshore://127.0.0.2"]);
    let mut firsts = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let found = client.resolve_all(&some).await.unwrap();
        assert_eq!(found.endpoints.len(), 2, "none twice, one failed URI spoils nothing");
        firsts.insert(found.endpoints[0].to_string());
    }
    assert_eq!(firsts.len(), 2, "the order of the URIs is drawn anew");
    let none = client.resolve_all(&uris(&["longshore://x.test", "longshore://y.test"])).await.unwrap_err();
    assert!(matches!(none, DiscoveryError::AllFailed(_)), "{none}");
    assert_eq!(client.resolve_all(&[]).await, Err(DiscoveryError::NoUris));
    dns.stop().await;
}

#[tokio::test]
async fn a_name_without_address_can_be_left_to_a_proxy() {
    let nowhere: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let timeout = Duration::from_millis(300);
    let options = |nameless| ResolverOptions { nameservers: vec![nowhere], timeout, nameless };
    let uri: ClusterUri = "longshore://inside.example:443;transport=wss;path=/x".parse().unwrap();
    assert!(Discovery::new(options(Nameless::Fail)).unwrap().resolve(&uri).await.is_err());
    let found = Discovery::new(options(Nameless::LeaveToProxy)).unwrap().resolve_all(&[uri]).await.unwrap();
    let [endpoint] = found.endpoints.as_slice() else { panic!("{found:?}") };
    assert!(endpoint.is_unresolved() && endpoint.transport == Transport::Wss);
    assert_eq!(endpoint.to_string(), "wss://inside.example:443/x");
}
