//! Why TLS failed, as sentences for whoever has to mend it.

use longshore_wire::uri::TlsVerify;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};
use std::io;
use std::path::{Path, PathBuf};

const OLD: &str = "it speaks only TLS 1.1 or older, which is broken; let it speak TLS 1.2 or 1.3";
const NO_EMS: &str = "it speaks TLS 1.2 without the extended master secret (RFC 7627), so that nothing can be bound to the connection; update what ends TLS there, or let it speak TLS 1.3";

/// What a dialler asks of a peer's certificate.
pub(super) struct Check {
    pub(super) verify: TlsVerify,
    /// The name that was dialled.
    pub(super) host: String,
    /// The file that holds what vouches.
    pub(super) file: Option<PathBuf>,
}

impl Check {
    /// Whether the certificate vouches for the peer.
    pub(super) fn certifies(&self) -> bool {
        self.verify != TlsVerify::Binding
    }

    /// The sentence for a failed handshake.
    pub(super) fn explain(&self, error: io::Error) -> io::Error {
        told(error, |cause| match cause {
            Error::InvalidCertificate(why) => Some(self.certificate(why)),
            Error::AlertReceived(AlertDescription::ProtocolVersion)
            | Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => Some(OLD.to_owned()),
            Error::PeerIncompatible(PeerIncompatible::ExtendedMasterSecretExtensionRequired) => Some(NO_EMS.to_owned()),
            Error::AlertReceived(AlertDescription::UnrecognisedName) => Some(format!(
                "it knows no name '{}'; dial a name that it serves, or add this one to what ends TLS there",
                self.host
            )),
            Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
                Some("it does not answer with TLS; check the port and the transport".to_owned())
            }
            _ => None,
        })
    }

    fn certificate(&self, why: &CertificateError) -> String {
        let file = self.file.as_deref().unwrap_or_else(|| Path::new("")).display();
        match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired; renew it there, or correct this machine's clock".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet; correct this machine's clock, or the certificate's dates".to_owned()
            }
            CertificateError::NotValidForName => self.other_name("another name"),
            CertificateError::NotValidForNameContext { presented, .. } => self.other_name(&names(presented)),
            // A CA of the same name with another key shows as a bad signature.
            CertificateError::UnknownIssuer | CertificateError::BadSignature if self.verify == TlsVerify::Ca => format!(
                "its certificate comes from no CA in tls.ca_file {file}; add the CA that signed it (behind a firewall that opens TLS: the firewall's own CA)"
            ),
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate comes from no CA in the system's trust store; install the CA there, or set tls.ca_file and tls.verify = \"ca\"".to_owned()
            }
            CertificateError::ApplicationVerificationFailure => format!(
                "its certificate is none of those in tls.pin_file {file}; if it was renewed, add the new one to the file; if not, somebody stands between"
            ),
            other => format!("its certificate cannot be accepted ({other}); have it made anew, or use tls.verify = \"pin\" or \"binding\""),
        }
    }

    fn other_name(&self, named: &str) -> String {
        format!(
            "its certificate is for {named}, not for '{}'; dial a name that it holds, or have one made for this name",
            self.host
        )
    }
}

/// The first names of a certificate: one of a big provider may hold hundreds.
fn names(presented: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut shown: Vec<_> = presented.iter().take(SHOWN).map(|name| bare(name)).collect();
    if presented.len() > SHOWN {
        shown.push("others");
    }
    if shown.is_empty() { "no name at all".to_owned() } else { shown.join(", ") }
}

/// `DnsName("a.example")` is how rustls writes it.
fn bare(name: &str) -> &str {
    let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inside.trim_matches('"')
}

/// The sentence for a client's failed handshake.
pub(super) fn accepting(error: io::Error) -> io::Error {
    told(error, |cause| match cause {
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            // TLS 1.2 began it.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired,
        ) => Some(OLD.to_owned()),
        Error::PeerIncompatible(PeerIncompatible::ExtendedMasterSecretExtensionRequired) => Some(NO_EMS.to_owned()),
        Error::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired),
        ) => Some(format!(
            "it does not accept this node's certificate ({alert:?}); give it the CA or the certificate (its tls.ca_file or tls.pin_file), or renew the certificate here"
        )),
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            Some("it does not speak TLS; check its transport".to_owned())
        }
        _ => None,
    })
}

/// The error with the sentence in place of its text, if there is one.
fn told(error: io::Error, sentence: impl FnOnce(&Error) -> Option<String>) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        let text = "it closed the connection in the middle of the TLS handshake; a firewall may object, or no TLS is spoken at that port";
        return io::Error::new(io::ErrorKind::UnexpectedEof, text);
    }
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match cause.and_then(sentence) {
        Some(text) => io::Error::new(error.kind(), text),
        None => error,
    }
}
