//! What vouches for a TLS peer.

use crate::harness::{accept, client_tls, endpoint, listen, listen_with};
use longshore_transport::{ClientTls, ClientTlsOptions, DialError, DialOptions, Link, ServerTls, TlsError, dial};
use longshore_wire::uri::TlsVerify;
use longshore_wire::{Endpoint, Transport};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A CA, and a certificate of it for `localhost`, in files.
pub(crate) struct Ca {
    dir: TempDir,
}

impl Ca {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    /// As [`Self::new`], with a change to the certificate for `localhost`.
    fn with(change: fn(&mut rcgen::CertificateParams)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        change(&mut params);
        let cert = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        std::fs::write(dir.path().join("cert.pem"), cert.pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
        Self { dir }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn server(&self) -> ServerTls {
        ServerTls::from_files(self.file("cert.pem"), self.file("key.pem")).unwrap()
    }
}

pub(crate) fn with_ca(file: &Path) -> ClientTls {
    let ca_file = Some(file.to_owned());
    ClientTls::new(ClientTlsOptions { verify: TlsVerify::Ca, ca_file, pin_file: None }).unwrap()
}

pub(crate) fn with_pin(file: &Path) -> ClientTls {
    let pin_file = Some(file.to_owned());
    ClientTls::new(ClientTlsOptions { verify: TlsVerify::Pin, ca_file: None, pin_file }).unwrap()
}

/// Dials a server with this certificate, under this name.
async fn try_dial(server: ServerTls, client: ClientTls, change: fn(&mut Endpoint)) -> Result<Link, DialError> {
    let listener = listen_with(Transport::Tls, server).await;
    let mut endpoint = endpoint(Transport::Tls, listener.local_addr());
    change(&mut endpoint);
    let options = DialOptions::new(client);
    let (dialled, _) =
        tokio::join!(dial(&endpoint, &options), async { listener.accept().await.unwrap().upgrade().await });
    dialled
}

#[tokio::test]
async fn a_ca_vouches_for_name_and_certificate() {
    let ca = Ca::new();
    let link = try_dial(ca.server(), with_ca(&ca.file("ca.pem")), |_| ()).await.unwrap();
    assert!(link.info.certified);
    let other = try_dial(ca.server(), with_ca(&ca.file("ca.pem")), |at| at.host = "example.com".to_owned()).await;
    assert!(matches!(other, Err(DialError::Tls { .. })), "another name");
    let stranger = try_dial(ca.server(), with_ca(&Ca::new().file("ca.pem")), |_| ()).await;
    assert!(matches!(stranger, Err(DialError::Tls { .. })), "another CA");
}

#[tokio::test]
async fn every_refusal_of_a_certificate_says_what_to_do() {
    let good = Ca::new();
    let past = Ca::with(|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
    let future = Ca::with(|params| params.not_before = rcgen::date_time_ymd(2999, 1, 1));
    let as_is: fn(&mut Endpoint) = |_| ();
    let renamed: fn(&mut Endpoint) = |at| at.host = "other.example".to_owned();
    let (ca, pin) = (with_ca(&good.file("ca.pem")), with_pin(&Ca::new().file("cert.pem")));
    type Change = fn(&mut Endpoint);
    let cases: [(&Ca, ClientTls, Change, &[&str]); 5] = [
        (&past, with_ca(&past.file("ca.pem")), as_is, &["has expired", "renew it there", "clock"]),
        (&future, with_ca(&future.file("ca.pem")), as_is, &["not valid yet", "clock"]),
        (&good, ca.clone(), renamed, &["is for localhost, not for 'other.example'", "dial a name"]),
        (&Ca::new(), ca, as_is, &["no CA in tls.ca_file", "ca.pem", "the firewall's own CA"]),
        (&good, pin, as_is, &["none of those in tls.pin_file", "cert.pem", "renewed"]),
    ];
    for (server, client, change, parts) in cases {
        let text = try_dial(server.server(), client, change).await.unwrap_err().to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{parts:?}: {text}");
    }
    // A pin and the binding do not look at dates and names.
    let pinned = try_dial(past.server(), with_pin(&past.file("cert.pem")), renamed).await.unwrap();
    let bound = try_dial(past.server(), client_tls(), renamed).await.unwrap();
    assert!(pinned.info.certified && !bound.info.certified);
}

#[tokio::test]
async fn the_systems_roots_do_not_vouch_for_strangers() {
    let any = try_dial(Ca::new().server(), client_tls(), |at| at.tls_verify = Some(TlsVerify::System)).await;
    assert!(matches!(any, Err(DialError::Tls { .. } | DialError::TlsSettings { .. })), "{any:?}");
}

#[tokio::test]
async fn a_pin_is_one_certificate() {
    let (ca, other) = (Ca::new(), Ca::new());
    let change: fn(&mut Endpoint) = |at| at.host = "10.0.0.1".to_owned();
    let link = try_dial(ca.server(), with_pin(&ca.file("cert.pem")), change).await.unwrap();
    assert!(link.info.certified);
    let wrong = try_dial(ca.server(), with_pin(&other.file("cert.pem")), change).await;
    assert!(matches!(wrong, Err(DialError::Tls { .. })), "{wrong:?}");
    let issuer = try_dial(ca.server(), with_pin(&ca.file("ca.pem")), change).await;
    assert!(matches!(issuer, Err(DialError::Tls { .. })), "a pin is no CA: {issuer:?}");
}

#[tokio::test]
async fn a_way_without_its_file_is_refused_in_words() {
    let dialled = try_dial(Ca::new().server(), client_tls(), |at| at.tls_verify = Some(TlsVerify::Pin)).await;
    let message = dialled.unwrap_err().to_string();
    assert!(message.contains("tls.pin_file"), "{message}");
    let options = ClientTlsOptions { verify: TlsVerify::Ca, ..ClientTlsOptions::default() };
    assert!(matches!(ClientTls::new(options), Err(TlsError::NoCaFile)));
}

/// A bare rustls server on one connection; yields what the dialler got.
async fn dial_bare(config: rustls::ServerConfig) -> (Result<Link, DialError>, Option<[u8; 32]>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = endpoint(Transport::Tls, listener.local_addr().unwrap());
    let options = DialOptions::new(client_tls());
    tokio::join!(dial(&endpoint, &options), async {
        let (tcp, _) = listener.accept().await.unwrap();
        let stream = TlsAcceptor::from(Arc::new(config)).accept(tcp).await.ok()?;
        stream.get_ref().1.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).ok()
    })
}

pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[tokio::test]
async fn tls_1_2_binds_as_well() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.clone_key().into())
            .unwrap();
        let (link, theirs) = dial_bare(config).await;
        assert_eq!(link.unwrap().info.exporter, Some(theirs.unwrap()));
    }
}

/// Shows somebody else's certificate with a key of his own.
#[derive(Debug)]
struct Borrowed(Arc<CertifiedKey>);

impl ResolvesServerCert for Borrowed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused_even_where_any_is_taken() {
    let make = || rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (theirs, own) = (make(), make());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    let signer = provider().key_provider.load_private_key(key).unwrap();
    let shown = CertifiedKey::new(vec![theirs.cert.der().clone()], signer);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Borrowed(Arc::new(shown.clone()))));
        let (link, _) = dial_bare(config).await;
        assert!(matches!(link, Err(DialError::Tls { .. })), "{link:?}");
    }
}

#[tokio::test]
async fn plaintext_and_tls_do_not_mix() {
    let tls = listen(Transport::Tls).await;
    let options = DialOptions::new(client_tls());
    let ws = endpoint(Transport::Ws, tls.local_addr());
    let (dialled, _) = tokio::join!(dial(&ws, &options), async { tls.accept().await.unwrap().upgrade().await });
    assert!(matches!(dialled, Err(DialError::WebSocket { .. })), "{dialled:?}");

    let plain = listen(Transport::Ws).await;
    let wss = endpoint(Transport::Wss, plain.local_addr());
    let (dialled, _) = tokio::join!(dial(&wss, &options), async { plain.accept().await.unwrap().upgrade().await });
    assert!(matches!(dialled, Err(DialError::Tls { .. })), "{dialled:?}");
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let address: SocketAddr = {
        let listener = listen(Transport::Tcp).await;
        let (_, _) = tokio::join!(
            async {
                dial(&endpoint(Transport::Tcp, listener.local_addr()), &DialOptions::new(client_tls())).await.unwrap()
            },
            accept(&listener)
        );
        listener.local_addr()
    };
    let error = dial(&endpoint(Transport::Tcp, address), &DialOptions::new(client_tls())).await.unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}
