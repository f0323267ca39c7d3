//! Somebody on the line: records, or opens TLS with his own certificate and passes everything on.

use crate::harness::{Cluster, Outcome, client_tls, endpoint, listen, server_tls};
use longshore_transport::{
    Admission, ClientTls, ClientTlsOptions, DialOptions, Link, ListenOptions, Listener, ServerTls, dial,
};
use longshore_wire::handshake::{Binding, Challenge, FromAcceptor, FromDialler, MIN_VERSION, RejectCode};
use longshore_wire::uri::{DEFAULT_WS_PATH, TlsVerify};
use longshore_wire::{ClusterId, NodeId, Role, Transport};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

/// What crossed one end of a link.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorded {
    pub(crate) written: Vec<u8>,
    pub(crate) read: Vec<u8>,
}

/// The link, with a record of all that crosses this end of it.
pub(crate) fn recorded(link: Link) -> (Link, Arc<Mutex<Recorded>>) {
    let record = Arc::<Mutex<Recorded>>::default();
    let info = link.info.clone();
    (Link::new(Recorder { link, record: Arc::clone(&record) }, info), record)
}

struct Recorder {
    link: Link,
    record: Arc<Mutex<Recorded>>,
}

impl AsyncRead for Recorder {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.link.io).poll_read(cx, buf);
        self.record.lock().unwrap().read.extend_from_slice(&buf.filled()[before..]);
        polled
    }
}

impl AsyncWrite for Recorder {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.link.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(length)) = polled {
            self.record.lock().unwrap().written.extend_from_slice(&buf[..length]);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.link.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.link.io).poll_shutdown(cx)
    }
}

/// What the man in the middle does to the dialler's hello.
type Tamper = fn(&mut longshore_wire::handshake::Hello);

/// Whom the dialler meets and how: `outer` to the middle, `inner` from there to the control node.
struct Line {
    outer: Transport,
    inner: Transport,
    middle: ServerTls,
    dialler: ClientTls,
    tamper: Option<Tamper>,
    answer: Option<fn(&mut Challenge)>,
}

impl Line {
    fn new(outer: Transport, inner: Transport) -> Self {
        Self { outer, inner, middle: server_tls(), dialler: client_tls(), tamper: None, answer: None }
    }

    /// A worker with the right secret dials through the middle.
    async fn meet(self) -> (Outcome, Outcome) {
        let cluster = Cluster::new();
        let real = listen(self.inner).await;
        let bind = "127.0.0.1:0".parse().unwrap();
        let path = DEFAULT_WS_PATH.to_owned();
        let tls = Some(self.middle);
        let options = ListenOptions { transport: self.outer, bind, path, tls, admission: Admission::default() };
        let fake = Listener::bind(options).await.unwrap();
        let (to_fake, to_real) = (endpoint(self.outer, fake.local_addr()), endpoint(self.inner, real.local_addr()));

        let mut middle = tokio::task::JoinSet::new();
        middle.spawn(async move {
            let mut victim = fake.accept().await.unwrap().upgrade().await.unwrap();
            let mut onward = dial(&to_real, &DialOptions::new(client_tls())).await.unwrap();
            if let Some(tamper) = self.tamper {
                pass_hello(&mut victim, &mut onward, tamper).await;
            }
            if let Some(change) = self.answer {
                pass_hello(&mut victim, &mut onward, |_| {}).await;
                pass_challenge(&mut onward, &mut victim, change).await;
            }
            let _ = tokio::io::copy_bidirectional(&mut victim.io, &mut onward.io).await;
        });
        let options = DialOptions::new(self.dialler);
        let outcome =
            tokio::join!(async { cluster.dialler().prove(dial(&to_fake, &options).await.unwrap()).await }, async {
                cluster.accept(real.accept().await.unwrap().upgrade().await.unwrap()).await
            },);
        middle.shutdown().await;
        outcome
    }
}

async fn pass_challenge(from: &mut Link, to: &mut Link, change: fn(&mut Challenge)) {
    let mut body = vec![0; from.io.read_u32().await.unwrap() as usize];
    from.io.read_exact(&mut body).await.unwrap();
    let FromAcceptor::Challenge(mut challenge) = longshore_wire::decode(&body).unwrap() else { panic!("no challenge") };
    change(&mut challenge);
    let body = longshore_wire::encode(&FromAcceptor::Challenge(challenge));
    to.io.write_u32(u32::try_from(body.len()).unwrap()).await.unwrap();
    to.io.write_all(&body).await.unwrap();
    to.io.flush().await.unwrap();
}

async fn pass_hello(victim: &mut Link, onward: &mut Link, tamper: Tamper) {
    let mut body = vec![0; victim.io.read_u32().await.unwrap() as usize];
    victim.io.read_exact(&mut body).await.unwrap();
    let FromDialler::Hello(mut hello) = longshore_wire::decode(&body).unwrap() else { panic!("no hello") };
    tamper(&mut hello);
    let body = longshore_wire::encode(&FromDialler::Hello(hello));
    onward.io.write_u32(u32::try_from(body.len()).unwrap()).await.unwrap();
    onward.io.write_all(&body).await.unwrap();
    onward.io.flush().await.unwrap();
}

#[tokio::test]
async fn a_tls_man_in_the_middle_is_detected() {
    for transport in [Transport::Tls, Transport::Wss] {
        let (dialled, accepted) = Line::new(transport, transport).meet().await;
        let (theirs, ours) = (dialled.unwrap_err(), accepted.unwrap_err());
        assert_eq!((theirs.code(), ours.code()), (Some(RejectCode::Credential), Some(RejectCode::Credential)));
        assert!(theirs.to_string().contains("opens their TLS"), "{theirs}");
    }
}

#[tokio::test]
async fn the_binding_cannot_be_taken_out_under_way() {
    let mut line = Line::new(Transport::Tls, Transport::Tls);
    line.tamper = Some(|hello| hello.binding = Binding::None);
    let (dialled, accepted) = line.meet().await;
    assert!(dialled.is_err());
    assert_eq!(accepted.unwrap_err().code(), Some(RejectCode::Credential));
}

/// Neither the role, nor the cluster, nor the versions, nor anything else that the two say to each other.
#[tokio::test]
async fn attack_05_no_field_of_the_hello_can_be_changed_under_way() {
    let tampers: [(&str, Tamper); 10] = [
        ("versions: a step down", |hello| hello.versions = (hello.versions.0 - 1, hello.versions.0)),
        ("versions: a step up", |hello| hello.versions = (hello.versions.0, hello.versions.1 + 1)),
        ("node", |hello| hello.node = NodeId::from_u128(77)),
        ("role", |hello| hello.role = Role::Client),
        ("peer_role", |hello| hello.peer_role = Role::Worker),
        ("cluster", |hello| hello.cluster.push('x')),
        ("cluster_id", |hello| hello.cluster_id = Some(ClusterId::from_u128(7))),
        ("credential", |hello| hello.credential = "control".to_owned()),
        ("nonce", |hello| hello.nonce[0] ^= 1),
        ("release", |hello| hello.release.push('x')),
    ];
    for (what, tamper) in tampers {
        let mut line = Line::new(Transport::Tcp, Transport::Tcp);
        line.tamper = Some(tamper);
        let (dialled, accepted) = line.meet().await;
        assert!(dialled.is_err() && accepted.is_err(), "{what}");
    }
}

#[tokio::test]
async fn attack_05_no_field_of_the_challenge_can_be_changed_under_way() {
    type Change = fn(&mut Challenge);
    let changes: [(&str, Change); 9] = [
        ("version: a step down", |challenge| challenge.version = MIN_VERSION - 1),
        ("version: a step up", |challenge| challenge.version = u16::MAX),
        ("node", |challenge| challenge.node = NodeId::from_u128(77)),
        ("role", |challenge| challenge.role = Role::Worker),
        ("cluster", |challenge| challenge.cluster.push('x')),
        ("cluster_id", |challenge| challenge.cluster_id = Some(ClusterId::from_u128(7))),
        ("nonce", |challenge| challenge.nonce[0] ^= 1),
        ("iterations: the fewest that are taken", |challenge| challenge.iterations = 4097),
        ("salt", |challenge| challenge.salt[0] ^= 1),
    ];
    for (what, change) in changes {
        let mut line = Line::new(Transport::Tcp, Transport::Tcp);
        line.answer = Some(change);
        let (dialled, accepted) = line.meet().await;
        assert!(dialled.is_err() && accepted.is_err(), "{what}");
    }
}

#[tokio::test]
async fn a_balancer_that_ends_tls_is_named() {
    let (dialled, accepted) = Line::new(Transport::Wss, Transport::Ws).meet().await;
    let theirs = dialled.unwrap_err();
    assert_eq!((theirs.code(), accepted.unwrap_err().code()), (Some(RejectCode::Binding), Some(RejectCode::Binding)));
    assert!(theirs.to_string().contains("balancer"), "{theirs}");
}

#[tokio::test]
async fn a_balancer_with_a_trusted_certificate_may_end_tls() {
    for (outer, inner) in [(Transport::Wss, Transport::Ws), (Transport::Tls, Transport::Tls)] {
        let dir = tempfile::tempdir().unwrap();
        let middle = ServerTls::self_signed(&["localhost".to_owned()], Some(dir.path())).unwrap();
        let pin_file = Some(dir.path().join("tls.crt"));
        let options = ClientTlsOptions { verify: TlsVerify::Pin, ca_file: None, pin_file };
        let dialler = ClientTls::new(options).unwrap();
        let (dialled, accepted) = Line { middle, dialler, ..Line::new(outer, inner) }.meet().await;
        assert!(dialled.is_ok() && accepted.is_ok(), "{dialled:?} {accepted:?}");
    }
}
