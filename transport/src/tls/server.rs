//! The accepting side of TLS, and the certificate that a node makes for itself.

use super::{TlsError, certificates, exporter, provider};
use crate::link::Io;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Name of a node's own certificate in its folder: what `verify = "pin"` of its peers wants.
const CERTIFICATE: &str = "tls.crt";
/// Name of the key of that certificate.
const KEY: &str = "tls.key";

/// TLS for listening. Clones are cheap.
#[derive(Clone)]
pub struct ServerTls(Arc<ServerConfig>);

impl ServerTls {
    /// Uses a certificate chain (own certificate first) and its key, both PEM. Does blocking file IO.
    ///
    /// # Errors
    /// When a file cannot be used, or the key does not belong to the certificate.
    pub fn from_files(cert: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsError> {
        let (cert, key) = (cert.as_ref(), key.as_ref());
        let chain = certificates(cert)?;
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::file(key, error))?;
        Self::new(chain, secret).map_err(|error| TlsError::file(cert, error))
    }

    /// Makes a certificate for these names, or takes the one that was made before: in `dir` it is kept as `tls.crt` and
    /// `tls.key` (readable by the owner only), so that peers may pin it. It never expires; what vouches for the node is the
    /// handshake bound to the connection. Does blocking file IO.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate, or the files cannot be read or written.
    pub fn self_signed(names: &[String], dir: Option<&Path>) -> Result<Self, TlsError> {
        let kept = dir.map(|dir| (dir.join(CERTIFICATE), dir.join(KEY)));
        if let Some((cert, key)) = &kept
            && cert.exists()
            && key.exists()
        {
            return Self::from_files(cert, key);
        }
        let made = rcgen::generate_simple_self_signed(names)?;
        if let Some((cert, key)) = &kept {
            // The key first: a certificate without key is never found alone.
            write(key, made.signing_key.serialize_pem().as_bytes(), 0o600)?;
            write(cert, made.cert.pem().as_bytes(), 0o644)?;
        }
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        Self::new(vec![made.cert.der().clone()], key.into())
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        // In TLS 1.2 the exporter is only unique to the connection with the extended master secret (RFC 9266 §4.2).
        config.require_ems = true;
        Ok(Self(Arc::new(config)))
    }

    /// The settings for TLS inside QUIC.
    pub(crate) fn for_quic(&self, protocol: &[u8]) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(&self.0);
        config.alpn_protocols = vec![protocol.to_vec()];
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }

    /// Opens TLS; yields the stream and its exporter.
    pub(crate) async fn accept<S: Io>(&self, stream: S) -> std::io::Result<(TlsStream<S>, [u8; 32])> {
        let stream = TlsAcceptor::from(Arc::clone(&self.0)).accept(stream).await?;
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
