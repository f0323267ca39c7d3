//! Through proxies: every transport gets through, a name may be left to the proxy, every refusal has its sentence, and
//! the password goes to the proxy alone.

use crate::harness::{accept, client_tls, endpoint, listen, listen_with, soon};
use crate::trust::{Ca, with_ca};
use longshore_transport::{Carrier, DialError, DialOptions, Login, Proxy, ProxyKind, dial};
use longshore_wire::uri::TlsVerify;
use longshore_wire::{Endpoint, Transport};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const PASSWORD: &str = "s3cr:et";
const TRANSPORTS: [Transport; 4] = [Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];

/// A proxy that takes one connection, notes what it is asked, and answers as it is told.
struct Fake {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<u8>>>,
    _serving: JoinSet<()>,
}

/// What the fake does once it has been asked.
#[derive(Clone)]
enum Then {
    /// Answers with this, then passes bytes on to the address.
    Pass(Vec<u8>, SocketAddr),
    /// Answers with this and waits for the end.
    Say(Vec<u8>),
    /// Answers with this again and again, for ever.
    Babble(Vec<u8>),
}

async fn run(
    mut tcp: impl AsyncRead + AsyncWrite + Unpin,
    asked: &Mutex<Vec<u8>>,
    rounds: Vec<(usize, Vec<u8>)>,
    then: Then,
) -> Option<()> {
    for (length, answer) in rounds {
        note(&mut tcp, asked, length).await?;
        tcp.write_all(&answer).await.ok()?;
    }
    // An HTTP request ends with an empty line; a SOCKS request is short and comes whole.
    let mut request = [0; 2048];
    let got = tcp.read(&mut request).await.ok()?;
    asked.lock().unwrap().extend_from_slice(&request[..got]);
    match then {
        Then::Pass(answer, to) => {
            tcp.write_all(&answer).await.ok()?;
            let mut onward = TcpStream::connect(to).await.ok()?;
            tokio::io::copy_bidirectional(&mut tcp, &mut onward).await.ok()?;
        }
        Then::Say(answer) => {
            tcp.write_all(&answer).await.ok()?;
            tcp.read_to_end(&mut Vec::new()).await.ok()?;
        }
        Then::Babble(answer) => loop {
            tcp.write_all(&answer).await.ok()?;
        },
    }
    Some(())
}

async fn note(tcp: &mut (impl AsyncRead + Unpin), asked: &Mutex<Vec<u8>>, length: usize) -> Option<()> {
    let mut bytes = vec![0; length];
    tcp.read_exact(&mut bytes).await.ok()?;
    asked.lock().unwrap().extend_from_slice(&bytes);
    Some(())
}

impl Fake {
    /// `rounds`: for each, so many bytes are read, and this is answered; then the request is read.
    async fn start(rounds: Vec<(usize, Vec<u8>)>, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<u8>>>::default());
        let mut serving = JoinSet::new();
        let notes = Arc::clone(&asked);
        serving.spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let _ended = run(tcp, &notes, rounds, then).await;
        });
        Self { address, asked, _serving: serving }
    }

    async fn http(answer: &str) -> Self {
        Self::start(Vec::new(), Then::Say(answer.as_bytes().to_vec())).await
    }

    fn asked(&self) -> Vec<u8> {
        self.asked.lock().unwrap().clone()
    }

    fn options(&self, kind: ProxyKind, login: Option<Login>) -> DialOptions {
        let proxy = Proxy::new(kind, self.address.ip().to_string(), self.address.port(), login, Box::new(|_| false));
        DialOptions { proxy: Some(proxy), ..DialOptions::new(client_tls()) }
    }
}

fn login() -> Option<Login> {
    Some(Login::new("me", PASSWORD))
}

/// An endpoint whose name only a proxy knows.
fn nameless(transport: Transport, port: u16) -> Endpoint {
    Endpoint { host: "inside.example".to_owned(), ..endpoint(transport, ([0, 0, 0, 0], port).into()) }
}

const ESTABLISHED: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n";
const SOCKS_DONE: &[u8] = &[5, 0, 0, 3, 4, b'b', b'a', b'c', b'k', 1, 2];

/// The SOCKS rounds before the request, with and without a login.
fn socks_rounds(login: bool) -> Vec<(usize, Vec<u8>)> {
    if login { vec![(4, vec![5, 2]), (2 + 2 + 1 + PASSWORD.len(), vec![1, 0])] } else { vec![(3, vec![5, 0])] }
}

#[tokio::test]
async fn every_transport_goes_through_every_kind() {
    for transport in TRANSPORTS {
        for kind in [ProxyKind::Http, ProxyKind::Socks5, ProxyKind::Socks5h] {
            let real = listen(transport).await;
            let (rounds, answer) = match kind {
                ProxyKind::Http => (Vec::new(), ESTABLISHED),
                _ => (socks_rounds(true), SOCKS_DONE),
            };
            let fake = Fake::start(rounds, Then::Pass(answer.to_vec(), real.local_addr())).await;
            let options = fake.options(kind, login());
            let target = endpoint(transport, real.local_addr());
            let (mut link, mut far) =
                soon(async { tokio::join!(dial(&target, &options), accept(&real)) }).await.into_ok();
            assert_eq!(link.info.carrier, Carrier::from(transport));
            assert_eq!(link.info.remote, Some(fake.address), "the remote address is the proxy's");
            far.io.write_all(b"hello").await.unwrap();
            far.io.flush().await.unwrap();
            let mut heard = [0; 5];
            soon(link.io.read_exact(&mut heard)).await.unwrap();
            assert_eq!(&heard, b"hello");
        }
    }
}

/// A dial that must succeed, beside what accepted it.
trait IntoOk<T, U> {
    fn into_ok(self) -> (T, U);
}

impl<T, U> IntoOk<T, U> for (Result<T, DialError>, U) {
    fn into_ok(self) -> (T, U) {
        (self.0.unwrap(), self.1)
    }
}

#[tokio::test]
async fn a_name_is_handed_over_and_an_address_where_the_proxy_shall_not_resolve() {
    let real = listen(Transport::Tcp).await;
    let pass = |answer: &[u8]| Then::Pass(answer.to_vec(), real.local_addr());

    let fake = Fake::start(Vec::new(), pass(ESTABLISHED)).await;
    let options = fake.options(ProxyKind::Http, login());
    soon(dial(&nameless(Transport::Tcp, 443), &options)).await.unwrap();
    let asked = String::from_utf8(fake.asked()).unwrap();
    assert!(asked.starts_with("CONNECT inside.example:443 HTTP/1.1\r\nHost: inside.example:443\r\n"), "{asked}");
    assert!(asked.contains("\r\nProxy-Authorization: Basic bWU6czNjcjpldA==\r\n"), "{asked}");
    assert!(!format!("{options:?}").contains("s3cr"), "{options:?}");

    // What the peer says may come glued to the proxy's answer.
    let fake = Fake::start(Vec::new(), Then::Say([ESTABLISHED, b"hello"].concat())).await;
    let options = fake.options(ProxyKind::Http, None);
    let mut link = soon(dial(&nameless(Transport::Tcp, 443), &options)).await.unwrap();
    let mut heard = [0; 5];
    soon(link.io.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"hello");

    let fake = Fake::start(socks_rounds(false), pass(SOCKS_DONE)).await;
    soon(dial(&nameless(Transport::Tcp, 443), &fake.options(ProxyKind::Socks5h, None))).await.unwrap();
    assert_eq!(fake.asked(), b"\x05\x01\x00\x05\x01\x00\x03\x0einside.example\x01\xbb");

    let fake = Fake::start(socks_rounds(true), pass(SOCKS_DONE)).await;
    let v6 =
        Endpoint { host: "inside.example".to_owned(), ..endpoint(Transport::Tcp, "[fd00::1]:443".parse().unwrap()) };
    soon(dial(&v6, &fake.options(ProxyKind::Socks5, login()))).await.unwrap();
    let asked = fake.asked();
    assert!(asked.starts_with(b"\x05\x02\x00\x02\x01\x02me\x07s3cr:et\x05\x01\x00\x04\xfd\x00"), "{asked:?}");

    let fake = Fake::start(Vec::new(), pass(ESTABLISHED)).await;
    let v6 = endpoint(Transport::Tcp, "[fd00::1]:443".parse().unwrap());
    let v6 = Endpoint { host: "fd00::1".to_owned(), ..v6 };
    soon(dial(&v6, &fake.options(ProxyKind::Http, None))).await.unwrap();
    assert!(fake.asked().starts_with(b"CONNECT [fd00::1]:443 HTTP/1.1\r\n"));
}

#[tokio::test]
async fn tls_with_the_proxy_itself_keeps_the_login_from_listeners() {
    let ca = Ca::new();
    for (roots, through) in [(with_ca(&ca.file("ca.pem")), true), (with_ca(&Ca::new().file("ca.pem")), false)] {
        let real = listen(Transport::Wss).await;
        let outer = listen_with(Transport::Tls, ca.server()).await;
        let asked = Arc::<Mutex<Vec<u8>>>::default();
        let (notes, address, to) = (Arc::clone(&asked), outer.local_addr(), real.local_addr());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let link = outer.accept().await.unwrap().upgrade().await.ok()?;
            run(link.io, &notes, Vec::new(), Then::Pass(ESTABLISHED.to_vec(), to)).await
        });
        let proxy = Proxy::new(ProxyKind::Https, "localhost".to_owned(), address.port(), login(), Box::new(|_| false));
        let options = DialOptions { proxy: Some(proxy), ..DialOptions::new(roots) };
        // What vouches for the endpoint behind is its own affair.
        let target = Endpoint { tls_verify: Some(TlsVerify::Binding), ..nameless(Transport::Wss, 443) };
        if through {
            let (link, _far) = soon(async { tokio::join!(dial(&target, &options), accept(&real)) }).await.into_ok();
            assert!(link.info.exporter.is_some() && !link.info.certified);
            assert!(asked.lock().unwrap().starts_with(b"CONNECT inside.example:443 HTTP/1.1\r\n"));
        } else {
            let text = soon(dial(&target, &options)).await.unwrap_err().to_string();
            assert!(text.contains("no TLS with it") && text.contains("no CA in tls.ca_file"), "{text}");
            assert!(asked.lock().unwrap().is_empty(), "nothing is said to a proxy that does not prove itself");
        }
    }
}

#[tokio::test]
async fn exceptions_are_dialled_directly() {
    let real = listen(Transport::Tcp).await;
    let bypass = Box::new(|endpoint: &Endpoint| endpoint.host == "localhost");
    // Nobody listens at the proxy.
    let proxy = Proxy::new(ProxyKind::Http, "127.0.0.1".to_owned(), 1, None, bypass);
    let options = DialOptions { proxy: Some(proxy), ..DialOptions::new(client_tls()) };
    let target = endpoint(Transport::Tcp, real.local_addr());
    let (link, _far) = soon(async { tokio::join!(dial(&target, &options), accept(&real)) }).await.into_ok();
    assert_eq!(link.info.remote, Some(real.local_addr()));
    let other = Endpoint { host: "other.example".to_owned(), ..target };
    let error = dial(&other, &options).await.unwrap_err().to_string();
    assert!(error.contains("through the proxy http://127.0.0.1:1") && error.contains("proxy.url"), "{error}");
    let lost = Endpoint { host: "localhost".to_owned(), ..nameless(Transport::Tcp, 443) };
    let error = dial(&lost, &options).await.unwrap_err().to_string();
    assert!(error.contains("tcp://localhost:443") && error.contains("no_proxy"), "{error}");
}

/// Dials through a proxy that answers so, and gives the sentence.
async fn said(fake: Fake, kind: ProxyKind, login: Option<Login>) -> String {
    let options = fake.options(kind, login);
    let error = soon(dial(&nameless(Transport::Wss, 8143), &options)).await.unwrap_err();
    let text = error.to_string();
    for shown in [text.clone(), format!("{error:?}")] {
        assert!(!shown.contains("s3cr") && !shown.contains("bWU6"), "the password is in {shown}");
    }
    assert!(text.contains("wss://inside.example:8143/longshore"), "where: {text}");
    text
}

#[tokio::test]
async fn every_http_refusal_has_its_sentence() {
    let negotiate = "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nproxy-authenticate: NTLM\r\n\r\n";
    let basic = "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n";
    let cases: [(&str, Option<Login>, &[&str]); 13] = [
        (basic, None, &["wants a user and a password (HTTP 407)", "proxy.url"]),
        (basic, login(), &["refuses the user or the password (HTTP 407)"]),
        ("HTTP/1.0 401 Unauthorized\r\n\r\n", login(), &["refuses the user or the password (HTTP 401)"]),
        (negotiate, login(), &["Negotiate, NTLM", "only Basic"]),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", None, &["forbids connections to inside.example:8143", "HTTP 403", "443"]),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", None, &["cannot reach inside.example:8143 itself (HTTP 502)"]),
        ("HTTP/1.1 503 x\r\n\r\n", None, &["cannot reach inside.example:8143 itself (HTTP 503)"]),
        ("HTTP/1.1 405 x\r\n\r\n", None, &["HTTP 405 to CONNECT", "forward proxy"]),
        ("SSH-2.0-OpenSSH\r\n", None, &["does not answer as an HTTP proxy", "scheme"]),
        ("HTTP/1.1 2000\r\n\r\n", None, &["does not answer as an HTTP proxy"]),
        ("HTTP/1.1 20\r\n\r\n", None, &["does not answer as an HTTP proxy"]),
        ("HTTP/1.1\n\n", None, &["does not answer as an HTTP proxy"]),
        ("\x05\x00", None, &["does not answer as an HTTP proxy"]),
    ];
    for (answer, login, parts) in cases {
        let text = said(Fake::http(answer).await, ProxyKind::Http, login).await;
        assert!(parts.iter().all(|part| text.contains(part)), "{answer:?}: {text}");
    }
}

#[tokio::test]
async fn every_socks_refusal_has_its_sentence() {
    let reply = |code: u8| Then::Say(vec![5, code, 0, 1, 0, 0, 0, 0, 0, 0]);
    let first = |answer: &[u8]| vec![(3, answer.to_vec())];
    type Script = Vec<(usize, Vec<u8>)>;
    let cases: [(Script, Then, Option<Login>, &str); 8] = [
        (first(&[5, 255]), reply(0), None, "wants a user and a password"),
        (vec![(4, vec![5, 255])], reply(0), login(), "takes neither"),
        (vec![(4, vec![5, 2]), (12, vec![1, 1])], reply(0), login(), "refuses the user or the password"),
        (first(&[5, 0]), reply(2), None, "forbids connections to inside.example:8143"),
        (first(&[5, 0]), reply(5), None, "cannot reach inside.example:8143 itself (SOCKS reply 5: connection refused)"),
        (first(&[5, 0]), reply(7), None, "SOCKS 5 reply 7"),
        (first(b"HT"), reply(0), None, "does not answer as a SOCKS 5 proxy"),
        (first(&[4, 0]), reply(0), None, "does not answer as a SOCKS 5 proxy"),
    ];
    for (rounds, then, login, part) in cases {
        let text = said(Fake::start(rounds, then).await, ProxyKind::Socks5h, login).await;
        assert!(text.contains(part), "{part}: {text}");
    }
    let fake = Fake::start(Vec::new(), reply(0)).await;
    let text = said(fake, ProxyKind::Socks5, None).await;
    assert!(text.contains("inside.example") && text.contains("socks5h://"), "{text}");
}

#[tokio::test]
async fn an_answer_is_bounded_in_size_and_time() {
    let fake = Fake::start(Vec::new(), Then::Babble(b"HTTP/1.1 200 OK\r\nX: y\r\n".to_vec())).await;
    let text = said(fake, ProxyKind::Http, None).await;
    assert!(text.contains("longer than 16384 bytes"), "{text}");

    // Interim answers count against the same bound.
    let fake = Fake::start(Vec::new(), Then::Babble(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())).await;
    let text = said(fake, ProxyKind::Http, None).await;
    assert!(text.contains("longer than 16384 bytes"), "{text}");

    for kind in [ProxyKind::Http, ProxyKind::Socks5h, ProxyKind::Https] {
        let fake = Fake::start(Vec::new(), Then::Say(Vec::new())).await;
        let options = DialOptions { connect_timeout: Duration::from_millis(50), ..fake.options(kind, None) };
        let target = Endpoint { tls_verify: None, ..nameless(Transport::Wss, 443) };
        let error = soon(dial(&target, &options)).await.unwrap_err();
        let timeout = matches!(&error, DialError::Timeout { stage, .. } if stage.contains("proxy"));
        // Without a trust store on this machine there is no TLS with a proxy, and no wait either.
        assert!(timeout || kind == ProxyKind::Https && error.to_string().contains("trust store"), "{error}");
    }
}
