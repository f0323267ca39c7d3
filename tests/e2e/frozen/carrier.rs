//! FROZEN, never to be changed: what carried version 1: plain TCP, TLS, and a WebSocket over TLS. The rest of the frozen
//! peer sees plain TCP, whose other end is here. No certificate is looked at: the proof is bound to the connection instead.

use futures_util::{SinkExt as _, StreamExt as _};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// Time to open it.
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Carrier {
    Tcp,
    Tls,
    Wss,
}

/// A connection, and what it is known by at both ends if TLS carries it.
pub(crate) struct Line {
    pub(crate) stream: TcpStream,
    pub(crate) exporter: Option<[u8; 32]>,
}

type Exporter = io::Result<[u8; 32]>;
type Secured = TlsStream<tokio::net::TcpStream>;

pub(crate) fn connect(carrier: Carrier, address: SocketAddr) -> io::Result<Line> {
    if carrier == Carrier::Tcp {
        return Ok(Line { stream: TcpStream::connect(address)?, exporter: None });
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    let (near, _) = listener.accept()?;
    near.set_nonblocking(true)?;
    let (opened, open) = sync_channel(1);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let near = tokio::net::TcpStream::from_std(near).unwrap();
            if let Err(error) = carry(carrier, address, near, &opened).await {
                // Nobody waits for it once it stands: what follows is the end of a connection.
                let _ = opened.try_send(Err(error));
            }
        });
    });
    let exporter = open.recv_timeout(DEADLINE).map_err(io::Error::other)??;
    Ok(Line { stream, exporter: Some(exporter) })
}

async fn carry(
    carrier: Carrier,
    address: SocketAddr,
    mut near: tokio::net::TcpStream,
    opened: &SyncSender<Exporter>,
) -> io::Result<()> {
    near.set_nodelay(true)?;
    let mut secured = secure(address).await?;
    let (label, context) = (b"EXPORTER-Channel-Binding", Some(&b""[..]));
    let exporter = secured.get_ref().1.export_keying_material([0; 32], label, context).map_err(io::Error::other)?;
    if carrier == Carrier::Tls {
        let _ = opened.try_send(Ok(exporter));
        return tokio::io::copy_bidirectional(&mut near, &mut secured).await.map(drop);
    }
    let opening = client_async(format!("wss://{address}/longshore"), secured).await;
    let (socket, _) = opening.map_err(io::Error::other)?;
    let _ = opened.try_send(Ok(exporter));
    messages(near, socket).await
}

async fn secure(address: SocketAddr) -> io::Result<Secured> {
    let tcp = tokio::net::TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Anybody)).with_no_client_auth();
    TlsConnector::from(Arc::new(config)).connect(ServerName::from(address.ip()), tcp).await
}

/// Binary messages, whose borders mean nothing.
async fn messages(near: tokio::net::TcpStream, mut socket: WebSocketStream<Secured>) -> io::Result<()> {
    let (mut reading, mut writing) = near.into_split();
    let mut bytes = vec![0; 64 * 1024];
    loop {
        tokio::select! {
            read = reading.read(&mut bytes) => match read? {
                0 => return socket.close(None).await.map_err(io::Error::other),
                length => socket.send(Message::binary(bytes[..length].to_vec())).await.map_err(io::Error::other)?,
            },
            came = socket.next() => match came {
                Some(Ok(Message::Binary(part))) => writing.write_all(&part).await?,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return Ok(()),
            },
        }
    }
}

/// Looks at no certificate.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
