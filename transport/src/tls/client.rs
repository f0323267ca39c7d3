//! The dialling side of TLS.

use super::explain::Check;
use super::files::{Files, When};
use super::trust::{Accept, WithoutCa};
use super::{TlsError, certificates, exporter, provider};
use crate::link::Io;
use longshore_wire::Endpoint;
use longshore_wire::uri::TlsVerify;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What vouches for the TLS peers of a node.
#[derive(Debug, Clone, Default)]
pub struct ClientTlsOptions {
    /// For endpoints that do not say.
    pub verify: TlsVerify,
    /// PEM file with the roots of `verify = "ca"`.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the peers' own certificates for `verify = "pin"`; several during a change of certificate.
    pub pin_file: Option<PathBuf>,
}

/// TLS for dialling, all ways of verification ready. Clones are cheap and share what [`Self::reload`] reads.
#[derive(Clone)]
pub struct ClientTls(Arc<Shared>);

struct Shared {
    options: ClientTlsOptions,
    files: Files,
    modes: RwLock<Arc<Modes>>,
}

struct Modes {
    binding: Arc<ClientConfig>,
    ca: Option<Arc<ClientConfig>>,
    pin: Option<Arc<ClientConfig>>,
    /// Read when first needed: the system's store holds a hundred and more certificates.
    system: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl ClientTls {
    /// Reads the files and prepares every way of verification that they allow. Does blocking file IO.
    ///
    /// # Errors
    /// When a file cannot be used, or the default way of verification needs one that is not given.
    pub fn new(options: ClientTlsOptions) -> Result<Self, TlsError> {
        let files = Files::new([&options.ca_file, &options.pin_file].into_iter().flatten().cloned());
        let modes = RwLock::new(Arc::new(Modes::read(&options)?));
        Ok(Self(Arc::new(Shared { options, files, modes })))
    }

    /// Reads the files again; from now on, peers are checked against what they hold. Connections that stand are not
    /// touched. Says whether something was read. Does blocking file IO.
    ///
    /// # Errors
    /// When a file cannot be used. What was read before stays in use then.
    pub fn reload(&self, when: When) -> Result<bool, TlsError> {
        if !self.0.files.due(when) {
            return Ok(false);
        }
        // A poisoned lock still holds whole modes. New ones have no memory of former sessions: each peer shows its
        // certificate again.
        let fresh = Arc::new(Modes::read(&self.0.options)?);
        *self.0.modes.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(true)
    }

    /// What is needed to open TLS to a proxy itself: no proof of ours will vouch for it, so a CA must.
    pub(crate) fn proxy_connector(&self, host: &str) -> Result<Connector, TlsError> {
        let verify = if self.0.options.ca_file.is_some() { TlsVerify::Ca } else { TlsVerify::System };
        self.connector_to(host, verify)
    }

    /// What has to vouch for this endpoint.
    pub(crate) fn verify(&self, endpoint: &Endpoint) -> TlsVerify {
        endpoint.tls_verify.unwrap_or(self.0.options.verify)
    }

    /// What is needed to open TLS to this endpoint.
    pub(crate) fn connector(&self, endpoint: &Endpoint) -> Result<Connector, TlsError> {
        self.connector_to(&endpoint.host, self.verify(endpoint))
    }

    fn connector_to(&self, host: &str, verify: TlsVerify) -> Result<Connector, TlsError> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let name = server_name(host)?;
        let modes = Arc::clone(&self.0.modes.read().unwrap_or_else(PoisonError::into_inner));
        let file = match verify {
            TlsVerify::Ca => self.0.options.ca_file.clone(),
            TlsVerify::Pin => self.0.options.pin_file.clone(),
            TlsVerify::Binding | TlsVerify::System => None,
        };
        let check = Check { verify, host: host.to_owned(), file };
        Ok(Connector { config: modes.config(verify)?, name, check })
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientTls").field(&self.0.options).finish()
    }
}

impl Modes {
    fn read(options: &ClientTlsOptions) -> Result<Self, TlsError> {
        let modes = Self {
            binding: without_ca(Accept::Any)?,
            ca: options.ca_file.as_deref().map(with_ca).transpose()?,
            pin: options.pin_file.as_deref().map(with_pin).transpose()?,
            system: OnceLock::new(),
        };
        modes.config(options.verify)?;
        Ok(modes)
    }

    fn config(&self, verify: TlsVerify) -> Result<Arc<ClientConfig>, TlsError> {
        match verify {
            TlsVerify::Binding => Ok(Arc::clone(&self.binding)),
            TlsVerify::Ca => self.ca.clone().ok_or(TlsError::NoCaFile),
            TlsVerify::Pin => self.pin.clone().ok_or(TlsError::NoPinFile),
            TlsVerify::System => self.system.get_or_init(with_system).clone().map_err(TlsError::System),
        }
    }
}

/// The name for SNI and the certificate; an IP address is checked, but never sent as SNI (RFC 6066 §3).
fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))
}

/// One TLS connection to be opened.
pub(crate) struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    check: Check,
}

/// An open TLS connection.
pub(crate) struct Secured<S> {
    pub(crate) stream: TlsStream<S>,
    pub(crate) exporter: [u8; 32],
    pub(crate) certified: bool,
}

impl Connector {
    /// The settings for TLS inside QUIC, the name to ask for, and whether a certificate is checked. Without tickets:
    /// every connection proves its certificate anew, and nothing is ever sent before that.
    pub(crate) fn for_quic(self, protocol: &[u8]) -> (Arc<ClientConfig>, String, bool) {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![protocol.to_vec()];
        config.resumption = Resumption::disabled();
        (Arc::new(config), self.name.to_str().into_owned(), self.check.certifies())
    }

    pub(crate) async fn connect<S: Io>(self, stream: S) -> std::io::Result<Secured<S>> {
        let opened = TlsConnector::from(self.config).connect(self.name, stream).await;
        let stream = opened.map_err(|error| self.check.explain(error))?;
        let exporter = exporter(stream.get_ref().1)?;
        Ok(Secured { stream, exporter, certified: self.check.certifies() })
    }
}

fn without_ca(accept: Accept) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(WithoutCa::new(accept, provider())))
        .with_no_client_auth();
    // In TLS 1.2 the exporter is only unique to the connection with the extended master secret (RFC 9266 §4.2).
    config.require_ems = true;
    Ok(Arc::new(config))
}

fn with_roots(roots: RootCertStore) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.require_ems = true;
    Ok(Arc::new(config))
}

fn with_ca(path: &Path) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::file(path, error))?;
    }
    with_roots(roots)
}

fn with_pin(path: &Path) -> Result<Arc<ClientConfig>, TlsError> {
    without_ca(Accept::Only(certificates(path)?))
}

fn with_system() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(if errors.is_empty() { "it is empty".to_owned() } else { errors.join("; ") });
    }
    with_roots(roots).map_err(|error| error.to_string())
}
