//! The accepting side of TLS, the certificate that a node makes for itself, and its replacement while the node runs.

use super::files::{Files, When};
use super::{TlsError, certificates, explain, exporter, provider};
use crate::link::Io;
use rustls::ServerConfig;
use rustls::crypto::ring::Ticketer;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Name of a node's own certificate in its folder: what `verify = "pin"` of its peers wants.
const CERTIFICATE: &str = "tls.crt";
/// Name of the key of that certificate.
const KEY: &str = "tls.key";

/// TLS for listening. Clones are cheap and share the certificate, which [`Self::reload`] replaces.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    shown: Arc<Shown>,
    origin: Option<Arc<Origin>>,
}

/// Where the certificate came from.
struct Origin {
    cert: PathBuf,
    key: PathBuf,
    files: Files,
}

impl Origin {
    fn read(&self) -> Result<CertifiedKey, TlsError> {
        let chain = certificates(&self.cert)?;
        let secret = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| TlsError::file(&self.key, error))?;
        CertifiedKey::from_der(chain, secret, &provider()).map_err(|error| TlsError::file(&self.cert, error))
    }
}

/// The certificate that new handshakes show.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl Shown {
    fn get(&self) -> Arc<CertifiedKey> {
        // A poisoned lock still holds a whole certificate.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, shown: CertifiedKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(shown);
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }
}

impl ServerTls {
    /// Uses a certificate chain (own certificate first) and its key, both PEM. Does blocking file IO.
    ///
    /// # Errors
    /// When a file cannot be used, or the key does not belong to the certificate.
    pub fn from_files(cert: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsError> {
        let (cert, key) = (cert.as_ref().to_owned(), key.as_ref().to_owned());
        let files = Files::new([cert.clone(), key.clone()]);
        let origin = Origin { cert, key, files };
        let shown = origin.read()?;
        Ok(Self { origin: Some(Arc::new(origin)), ..Self::new(shown)? })
    }

    /// Makes a certificate for these names, or takes the one that was made before: in `dir` it is kept as `tls.crt` and
    /// `tls.key` (readable by the owner only), so that peers may pin it. It never expires; what vouches for the node is the
    /// handshake bound to the connection. Does blocking file IO.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate, or the files cannot be read or written.
    pub fn self_signed(names: &[String], dir: Option<&Path>) -> Result<Self, TlsError> {
        let kept = dir.map(|dir| (dir.join(CERTIFICATE), dir.join(KEY)));
        if let Some((cert, key)) = kept.as_ref().filter(|(cert, key)| cert.exists() && key.exists()) {
            return Self::from_files(cert, key);
        }
        let made = rcgen::generate_simple_self_signed(names)?;
        if let Some((cert, key)) = &kept {
            // The key first: a certificate without key is never found alone.
            write(key, made.signing_key.serialize_pem().as_bytes(), 0o600)?;
            write(cert, made.cert.pem().as_bytes(), 0o644)?;
            return Self::from_files(cert, key);
        }
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        Self::new(CertifiedKey::from_der(vec![made.cert.der().clone()], key.into(), &provider())?)
    }

    fn new(shown: CertifiedKey) -> Result<Self, TlsError> {
        let shown = Arc::new(Shown(RwLock::new(Arc::new(shown))));
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Shown>::clone(&shown);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        // In TLS 1.2 the exporter is only unique to the connection with the extended master secret (RFC 9266 §4.2).
        config.require_ems = true;
        // A fleet that comes back at once resumes its sessions, which saves both sides the signatures. The tickets hold
        // all that is needed, so nothing is kept per worker. The exporter stays fresh: with TLS 1.3 by the new key
        // exchange, with TLS 1.2 by the new random numbers of both sides under a secret that is this client's alone.
        // The tickets' keys die with the process. Kept on disk they would let whoever reads them open recorded sessions of
        // TLS 1.2, and save a fleet whose control node was killed a seventh of its handshakes, no more.
        config.ticketer = Ticketer::new()?;
        config.send_tls13_tickets = 1;
        Ok(Self { config: Arc::new(config), shown, origin: None })
    }

    /// Reads the files again; from now on, handshakes show what they hold. Connections that stand are not touched. Says
    /// whether something was read. Does blocking file IO.
    ///
    /// # Errors
    /// When a file cannot be used, or the key does not belong to the certificate. The one before stays in use then.
    pub fn reload(&self, when: When) -> Result<bool, TlsError> {
        let Some(origin) = self.origin.as_ref().filter(|origin| origin.files.due(when)) else { return Ok(false) };
        self.shown.set(origin.read()?);
        Ok(true)
    }

    /// When the certificate that is shown now ends, in seconds since the Unix epoch; `None` when it cannot be read.
    pub fn not_after(&self) -> Option<i64> {
        let shown = self.shown.get();
        let (_, certificate) = x509_parser::parse_x509_certificate(shown.cert.first()?).ok()?;
        Some(certificate.validity().not_after.timestamp())
    }

    /// Opens TLS for something else than sessions, such as HTTP.
    ///
    /// # Errors
    /// When the peer does not shake hands.
    pub async fn open<S: Io>(&self, stream: S) -> std::io::Result<Box<dyn Io>> {
        Ok(Box::new(self.accept(stream).await?.0))
    }

    /// The settings for TLS inside QUIC.
    pub(crate) fn for_quic(&self, protocol: &[u8]) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(&self.config);
        config.alpn_protocols = vec![protocol.to_vec()];
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }

    /// Opens TLS; yields the stream and its exporter.
    pub(crate) async fn accept<S: Io>(&self, stream: S) -> std::io::Result<(TlsStream<S>, [u8; 32])> {
        let stream = TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await.map_err(explain::accepting)?;
        let exporter = exporter(stream.get_ref().1)?;
        Ok((stream, exporter))
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls(..)")
    }
}

/// Writes a whole file or none: beside, synced, then renamed.
fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), TlsError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let beside = path.with_extension("tmp");
    let written = || -> std::io::Result<()> {
        // A leftover of a crash may have other rights; the mode only counts for a new file.
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    written().map_err(|error| TlsError::file(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn an_own_certificate_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["control-1".to_owned(), "127.0.0.1".to_owned()];
        ServerTls::self_signed(&names, Some(dir.path())).unwrap();
        let read = || std::fs::read(dir.path().join(CERTIFICATE)).unwrap();
        let first = read();
        ServerTls::self_signed(&names, Some(dir.path())).unwrap();
        assert_eq!(read(), first);
        let mode = std::fs::metadata(dir.path().join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn unusable_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty.pem");
        std::fs::write(&path, "").unwrap();
        let error = ServerTls::from_files(&path, &path).unwrap_err().to_string();
        assert!(error.contains("empty.pem") && error.contains("no PEM certificate"), "{error}");
    }
}
