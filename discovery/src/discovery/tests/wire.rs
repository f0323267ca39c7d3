//! Against a name server that misbehaves: what is on the wire, over UDP and TCP.

use crate::hickory::Hickory;
use crate::{Absent, Discovery, DiscoveryError, Family, Resolve as _, ResolverOptions};
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, NAPTR, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

/// What the server has, and how it behaves.
#[derive(Default, Clone)]
struct Zone {
    records: Vec<Record>,
    /// Answers over UDP are cut short.
    truncate: bool,
    /// Follows aliases itself, as a recursive server does.
    recurse: bool,
    /// Is told instead of any answer.
    refuses: Option<ResponseCode>,
    /// TTL and minimum of the SOA record in negative answers.
    soa: Option<(u32, u32)>,
    /// Questions of this type get no answer.
    silent: Option<RecordType>,
    /// Questions for this name are answered with a record of another.
    stray: Option<&'static str>,
}

/// A running server; its questions are noted as `udp SRV name`.
struct Wire {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    asked: Arc<Mutex<Vec<String>>>,
    _loops: JoinSet<()>,
}

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap()
}

fn record(owner: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(name(owner), ttl, data)
}

fn a(owner: &str, ip: &str) -> Record {
    record(owner, 60, RData::A(A(ip.parse().unwrap())))
}

fn srv(owner: &str, port: u16, target: &str) -> Record {
    record(owner, 60, RData::SRV(SRV::new(0, 1, port, name(target))))
}

fn alias(owner: &str, ttl: u32, target: &str) -> Record {
    record(owner, ttl, RData::CNAME(CNAME(name(target))))
}

impl Zone {
    fn answer(&self, asked: &Message, udp: bool) -> Option<Message> {
        let question = asked.queries[0].clone();
        let mut reply = Message::response(asked.metadata.id, asked.metadata.op_code);
        reply.metadata.message_type = MessageType::Response;
        reply.metadata.recursion_available = true;
        reply.add_query(question.clone());
        if self.silent == Some(question.query_type()) {
            return None;
        }
        if let Some(code) = self.refuses {
            reply.metadata.response_code = code;
            return Some(reply);
        }
        let mut owner = question.name().clone();
        loop {
            let kind = question.query_type();
            reply.add_answers(self.all(&owner, kind));
            let aliases = self.all(&owner, RecordType::CNAME);
            let Some(RData::CNAME(target)) = aliases.first().map(|alias| alias.data.clone()) else { break };
            reply.add_answers(aliases);
            owner = target.0;
            if !self.recurse || reply.answers.len() > 20 {
                break;
            }
        }
        if self.stray.is_some_and(|stray| name(stray) == *question.name()) {
            reply.add_answers([a("other.test", "127.0.0.9")]);
            return Some(reply);
        }
        if reply.answers.is_empty() {
            self.deny(&mut reply, question.name());
        }
        if udp && self.truncate {
            reply.metadata.truncation = true;
            reply.answers.clear();
        }
        Some(reply)
    }

    fn all(&self, owner: &Name, kind: RecordType) -> Vec<Record> {
        let here = |record: &&Record| record.name == *owner && record.record_type() == kind;
        self.records.iter().filter(here).cloned().collect()
    }

    fn deny(&self, reply: &mut Message, asked: &Name) {
        let exists = self.records.iter().any(|record| record.name == *asked);
        reply.metadata.response_code = if exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
        if let Some((ttl, minimum)) = self.soa {
            let soa = SOA::new(name("ns.test"), name("a.test"), 1, 60, 60, 60, minimum);
            reply.add_authority(record("test", ttl, RData::SOA(soa)));
        }
    }
}

impl Wire {
    async fn start(zone: Zone) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), zone).await
    }

    async fn start_at(address: SocketAddr, zone: Zone) -> Self {
        let tcp = TcpListener::bind(address).await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let (zone, asked) = (Arc::new(Mutex::new(zone)), Arc::new(Mutex::new(Vec::new())));
        let reply = {
            let (zone, asked) = (zone.clone(), asked.clone());
            move |bytes: &[u8], over: &str| {
                let message = Message::from_vec(bytes).unwrap();
                let question = &message.queries[0];
                asked.lock().unwrap().push(format!("{over} {} {}", question.query_type(), question.name()));
                let answer = zone.lock().unwrap().answer(&message, over == "udp");
                answer.map(|answer| answer.to_vec().unwrap())
            }
        };
        let mut loops = JoinSet::new();
        loops.spawn(serve_udp(udp, reply.clone()));
        loops.spawn(serve_tcp(tcp, reply));
        Self { address, zone, asked, _loops: loops }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn client(&self) -> Discovery {
        client(&[self.address])
    }

    fn raw(&self) -> Hickory {
        Hickory::new(&options(&[self.address])).unwrap()
    }
}

async fn serve_udp(socket: UdpSocket, reply: impl Fn(&[u8], &str) -> Option<Vec<u8>>) {
    let mut buffer = [0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        if let Some(answer) = reply(&buffer[..length], "udp") {
            socket.send_to(&answer, from).await.unwrap();
        }
    }
}

async fn serve_tcp(listener: TcpListener, reply: impl Fn(&[u8], &str) -> Option<Vec<u8>> + Clone + Send + 'static) {
    let mut open = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let reply = reply.clone();
        open.spawn(async move {
            while let Ok(length) = stream.read_u16().await {
                let mut question = vec![0; length.into()];
                stream.read_exact(&mut question).await.unwrap();
                let Some(answer) = reply(&question, "tcp") else { continue };
                stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
    }
}

fn options(servers: &[SocketAddr]) -> ResolverOptions {
    ResolverOptions { nameservers: servers.to_vec(), timeout: Duration::from_secs(10), ..ResolverOptions::default() }
}

fn client(servers: &[SocketAddr]) -> Discovery {
    Discovery::new(options(servers)).unwrap()
}

async fn shown(client: &Discovery, uri: &str) -> Vec<String> {
    client.resolve(&uri.parse().unwrap()).await.unwrap().endpoints.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn an_answer_cut_short_is_asked_for_again_over_tcp() {
    let mut records = vec![a("h.test", "127.0.0.1")];
    records.extend((0..1000).map(|port| srv("_longshore._tls.c.test", port + 1, "h.test")));
    let wire = Wire::start(Zone { records, truncate: true, ..Zone::default() }).await;
    assert_eq!(shown(&wire.client(), "longshore://c.test;transport=tls").await.len(), 32);
    let asked = wire.asked();
    assert_eq!(asked[..2], ["udp SRV _longshore._tls.c.test.", "tcp SRV _longshore._tls.c.test."], "{asked:?}");
}

#[tokio::test]
async fn aliases_are_followed_at_every_step() {
    let rule = NAPTR::new(1, 1, Box::from(*b"s"), Box::from(*b"LSS+D2W"), Box::from(*b""), name("s.test"));
    let records = vec![
        alias("c.test", 50, "d.test"),
        record("d.test", 60, RData::NAPTR(rule)),
        alias("s.test", 40, "t.test"),
        alias("t.test", 30, "u.test"),
        srv("u.test", 7001, "h.test"),
        srv("u.test", 7001, "i.test"),
        alias("h.test", 20, "j.test"),
        a("j.test", "127.0.0.1"),
        a("i.test", "127.0.0.2"),
    ];
    for recurse in [false, true] {
        let wire = Wire::start(Zone { records: records.clone(), recurse, ..Zone::default() }).await;
        let found = wire.client().resolve(&"longshore://c.test".parse().unwrap()).await.unwrap();
        let mut shown: Vec<String> = found.endpoints.iter().map(ToString::to_string).collect();
        shown.sort();
        // Certificates name what the SRV record names, not what that stands for.
        assert_eq!(shown, ["wss://127.0.0.1:7001/longshore (h.test)", "wss://127.0.0.2:7001/longshore (i.test)"]);
        let aliases: Vec<_> = found.steps.iter().take(2).map(|step| step.aliases.clone()).collect();
        assert_eq!(aliases, [vec!["d.test"], vec!["t.test", "u.test"]]);
        let ttls: Vec<_> = found.steps.iter().take(2).map(|step| step.ttl.unwrap().as_secs()).collect();
        assert_eq!(ttls, [50, 30], "the shortest of the chain");
        assert_eq!(found.ttl, Some(Duration::from_secs(20)));
    }
}

#[tokio::test]
async fn aliases_in_a_circle_and_without_end_are_an_error() {
    let circle = [("c.test", "d.test"), ("d.test", "c.test"), ("self.test", "self.test")];
    let mut records: Vec<Record> = circle.iter().map(|(owner, target)| alias(owner, 60, target)).collect();
    records.extend((0..30).map(|number| alias(&format!("n{number}.test"), 60, &format!("n{}.test", number + 1))));
    for recurse in [false, true] {
        let wire = Wire::start(Zone { records: records.clone(), recurse, ..Zone::default() }).await;
        for host in ["c.test", "self.test", "n0.test"] {
            let error = wire.client().resolve(&format!("longshore://{host}:1").parse().unwrap()).await.unwrap_err();
            assert!(error.to_string().contains("lead on and on"), "{error}");
        }
        assert!(wire.asked().len() < 80, "{}", wire.asked().len());
    }
}

#[tokio::test]
async fn absence_is_dated_by_the_zone() {
    let records = vec![a("c.test", "127.0.0.1"), alias("dangling.test", 9, "nowhere.test")];
    let wire = Wire::start(Zone { records, soa: Some((300, 20)), ..Zone::default() }).await;
    let raw = wire.raw();
    for (name, why, ttl) in
        [("nowhere.test", Absent::Name, 20), ("c.test", Absent::Record, 20), ("dangling.test", Absent::Name, 9)]
    {
        let answer = raw.srv(name).await.unwrap();
        assert_eq!((answer.absent, answer.ttl), (Some(why), Some(Duration::from_secs(ttl))), "{name}");
    }
    wire.zone.lock().unwrap().soa = Some((7, 3600));
    let ttl = raw.naptr("c.test").await.unwrap().ttl;
    assert_eq!(ttl, Some(Duration::from_secs(7)), "the SOA record's own TTL counts too");
    wire.zone.lock().unwrap().soa = None;
    let undated = raw.addresses("c.test", Family::Aaaa).await.unwrap();
    assert_eq!((undated.absent, undated.ttl), (Some(Absent::Record), None));
}

#[tokio::test]
async fn an_answer_to_another_question_is_an_absence_that_is_not_kept() {
    let records = vec![alias("c.test", 50, "d.test")];
    let wire = Wire::start(Zone { records, stray: Some("d.test"), ..Zone::default() }).await;
    let answer = wire.raw().addresses("c.test", Family::A).await.unwrap();
    assert!(answer.records.is_empty(), "{answer:?}");
    assert_eq!((answer.absent, answer.ttl), (Some(Absent::Record), None), "the alias says nothing of it");
}

#[tokio::test]
async fn a_server_that_refuses_or_is_silent_does_not_hide_one_that_answers() {
    let records = vec![a("c.test", "127.0.0.7")];
    let good = Wire::start(Zone { records, ..Zone::default() }).await;
    let bad = Wire::start(Zone::default()).await;
    for zone in [
        Zone { refuses: Some(ResponseCode::ServFail), ..Zone::default() },
        Zone { refuses: Some(ResponseCode::Refused), ..Zone::default() },
        Zone { silent: Some(RecordType::A), ..Zone::default() },
    ] {
        *bad.zone.lock().unwrap() = zone;
        let client = client(&[bad.address, good.address]);
        assert_eq!(shown(&client, "longshore://c.test:1").await, ["tls://127.0.0.7:1 (c.test)"]);
    }
    *bad.zone.lock().unwrap() = Zone { refuses: Some(ResponseCode::ServFail), ..Zone::default() };
    let error = bad.client().resolve(&"longshore://c.test:1".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains(&format!("{}: it answers", bad.address)), "{error}");
}

#[tokio::test]
async fn dns_may_come_up_later() {
    let held = Wire::start(Zone::default()).await;
    let address = held.address;
    drop(held);
    let options = ResolverOptions {
        nameservers: vec![address],
        timeout: Duration::from_millis(500),
        ..ResolverOptions::default()
    };
    let client = Discovery::new(options).unwrap();
    let uri = "longshore://c.test:1".parse().unwrap();
    let error = client.resolve(&uri).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Unreachable { .. }), "{error}");
    let wire = Wire::start_at(address, Zone { records: vec![a("c.test", "127.0.0.7")], ..Zone::default() }).await;
    assert!(!client.resolve(&uri).await.unwrap().stale);
    wire.zone.lock().unwrap().records = vec![a("c.test", "127.0.0.8")];
    assert_eq!(shown(&client, "longshore://c.test:1").await, ["tls://127.0.0.8:1 (c.test)"], "a change counts at once");
}

#[tokio::test]
async fn names_too_long_for_dns_are_no_outage() {
    let long = format!("{}.test", vec!["x".repeat(60); 4].join("."));
    let wire = Wire::start(Zone { records: vec![a(&long, "127.0.0.7")], ..Zone::default() }).await;
    let uri = format!("longshore://{long};transport=tcp");
    let found = wire.client().resolve(&uri.parse().unwrap()).await.unwrap();
    assert!(!found.stale && found.endpoints.len() == 1);
    assert!(found.steps[0].to_string().ends_with("longer than DNS allows"), "{:?}", found.steps[0]);
}

#[tokio::test]
async fn localhost_is_here_without_asking() {
    let wire = Wire::start(Zone::default()).await;
    assert_eq!(
        shown(&wire.client(), "longshore://localhost:1").await,
        ["tls://[::1]:1 (localhost)", "tls://127.0.0.1:1 (localhost)"]
    );
    assert!(wire.asked().is_empty());
}
