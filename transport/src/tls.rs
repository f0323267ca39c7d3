//! TLS 1.2 and 1.3 by rustls with ring, and what vouches for the peer.
//!
//! It owns every rustls type of the workspace. It never relies on a process-wide default provider, and never skips the
//! check that the peer holds the key of the certificate it shows.

mod client;
mod describe;
mod explain;
mod files;
mod server;
mod trust;

pub(crate) use client::Connector;
pub use client::{ClientTls, ClientTlsOptions};
pub(crate) use describe::describe;
pub use files::When;
pub use server::ServerTls;

use rustls::ConnectionCommon;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be used.
    #[error("cannot use {path}: {message}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// `verify = "ca"` without a CA.
    #[error("tls_verify=ca needs tls.ca_file")]
    NoCaFile,
    /// `verify = "pin"` without a certificate.
    #[error("tls_verify=pin needs tls.pin_file")]
    NoPinFile,
    /// The system's trust store is empty or unreadable.
    #[error("tls_verify=system: the system's trust store cannot be used: {0}")]
    System(String),
    /// The host cannot stand in a certificate.
    #[error("'{0}' is neither a DNS name nor an IP address, so TLS cannot be opened to it")]
    Name(String),
    /// rustls refuses the settings.
    #[error("the TLS settings do not work: {0}")]
    Settings(#[from] rustls::Error),
    /// No certificate could be made.
    #[error("cannot make a certificate for this node: {0}")]
    Generate(#[from] rcgen::Error),
}

impl TlsError {
    fn file(path: &Path, why: impl std::fmt::Display) -> Self {
        Self::File { path: path.to_owned(), message: why.to_string() }
    }
}

/// The cryptography, named explicitly: another library in the process may set another default.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}

/// All certificates of a PEM file; at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = read.map_err(|error| TlsError::file(path, error))?;
    if found.is_empty() { Err(TlsError::file(path, "it holds no PEM certificate")) } else { Ok(found) }
}

/// RFC 9266 `tls-exporter`: 32 bytes that only the two ends of this very connection know.
fn exporter<Data>(connection: &ConnectionCommon<Data>) -> std::io::Result<[u8; 32]> {
    connection
        .export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b""))
        .map_err(|error| std::io::Error::other(format!("no TLS exporter: {error}")))
}
