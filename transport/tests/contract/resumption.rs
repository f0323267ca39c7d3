//! TLS sessions are resumed, which spares a fleet that comes back the signatures; what the handshake binds to is fresh all
//! the same.

use crate::harness::{client_tls, endpoint, listen, soon};
use longshore_transport::{DialOptions, Link, dial};
use longshore_wire::Transport;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn exporter<D>(connection: &rustls::ConnectionCommon<D>) -> [u8; 32] {
    connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).unwrap()
}

/// Reads the one byte that brings the server's tickets with it.
async fn read_ticket(link: &mut Link) {
    let mut byte = [0];
    soon(link.io.read_exact(&mut byte)).await.unwrap();
}

#[tokio::test]
async fn a_dialler_resumes_and_binds_to_the_new_connection() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    for version in VERSIONS {
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.clone_key().into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = endpoint(Transport::Tls, listener.local_addr().unwrap());
        let options = DialOptions::new(client_tls());
        let mut seen = Vec::new();
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (dialled, stream) = soon(async {
                tokio::join!(dial(&target, &options), async {
                    let (tcp, _) = listener.accept().await.unwrap();
                    let mut stream = acceptor.accept(tcp).await.unwrap();
                    stream.write_all(b"x").await.unwrap();
                    stream.flush().await.unwrap();
                    stream
                })
            })
            .await;
            let mut link = dialled.unwrap();
            read_ticket(&mut link).await;
            let connection = stream.get_ref().1;
            assert_eq!(connection.handshake_kind(), Some(kind), "{version:?}");
            assert_eq!(link.info.exporter, Some(exporter(connection)), "both ends have the same");
            seen.push(link.info.exporter);
        }
        assert_ne!(seen[0], seen[1], "{version:?}: a resumed connection has its own exporter");
    }
}

#[tokio::test]
async fn a_listener_lets_diallers_resume() {
    for version in VERSIONS {
        let listener = listen(Transport::Tls).await;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.dangerous().set_certificate_verifier(Arc::new(Anybody));
        let connector = TlsConnector::from(Arc::new(config));
        let mut seen = Vec::new();
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (mut stream, link) = soon(async {
                tokio::join!(
                    async {
                        let tcp = TcpStream::connect(listener.local_addr()).await.unwrap();
                        connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap()
                    },
                    async {
                        let mut link = listener.accept().await.unwrap().upgrade().await.unwrap();
                        link.io.write_all(b"x").await.unwrap();
                        link.io.flush().await.unwrap();
                        link
                    }
                )
            })
            .await;
            soon(stream.read_exact(&mut [0])).await.unwrap();
            let connection = stream.get_ref().1;
            assert_eq!(connection.handshake_kind(), Some(kind), "{version:?}");
            assert_eq!(link.info.exporter, Some(exporter(connection)));
            seen.push(link.info.exporter);
        }
        assert_ne!(seen[0], seen[1]);
    }
}

/// Checks nothing; this is about the other side.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
