//! An open TLS connection in one line, for people.

use longshore_wire::uri::TlsVerify;
use ring::digest::{SHA256, digest};
use rustls::{CommonState, ProtocolVersion};
use std::fmt::Write as _;

/// Bytes of a fingerprint that are shown: enough to tell two certificates apart.
const SHOWN: usize = 8;
/// Tags of DER (ITU-T X.690).
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;

/// Protocol, certificate, and what vouches for it.
pub(crate) fn describe(connection: &CommonState, verify: TlsVerify) -> String {
    let protocol = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS",
    };
    let vouched = match verify {
        TlsVerify::Binding => "taken as it is: the proof is bound to the connection (tls_verify=binding)",
        TlsVerify::System => "vouched for by the system's roots (tls_verify=system)",
        TlsVerify::Ca => "vouched for by tls.ca_file (tls_verify=ca)",
        TlsVerify::Pin => "the one in tls.pin_file (tls_verify=pin)",
    };
    let Some(certificate) = connection.peer_certificates().and_then(<[_]>::first) else { return protocol.to_owned() };
    let mut shown = format!("{protocol}, certificate ");
    for byte in &digest(&SHA256, certificate).as_ref()[..SHOWN] {
        write!(shown, "{byte:02x}").expect("writing to a String cannot fail");
    }
    if let Some(until) = valid_until(certificate) {
        write!(shown, " valid until {until}").expect("writing to a String cannot fail");
    }
    format!("{shown}, {vouched}")
}

/// The day on which a certificate ends (RFC 5280 §4.1.2.5).
fn valid_until(certificate: &[u8]) -> Option<String> {
    let (certificate, _) = take(certificate, SEQUENCE)?;
    let (mut rest, _) = take(certificate, SEQUENCE)?;
    if let Some((_, behind)) = take(rest, VERSION) {
        rest = behind;
    }
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, rest) = take(rest, tag)?;
    }
    let (validity, _) = take(rest, SEQUENCE)?;
    let (_, behind) = time(validity)?;
    let (until, _) = time(behind)?;
    Some(until)
}

/// A day as 2027-03-01, and what stands behind it.
fn time(der: &[u8]) -> Option<(String, &[u8])> {
    let (text, rest, century) = match take(der, GENERALIZED_TIME) {
        Some((text, rest)) => (text, rest, ""),
        None => {
            let (text, rest) = take(der, UTC_TIME)?;
            (text, rest, if *text.first()? < b'5' { "20" } else { "19" })
        }
    };
    let digits = format!("{century}{}", std::str::from_utf8(text).ok()?);
    Some((format!("{}-{}-{}", digits.get(..4)?, digits.get(4..6)?, digits.get(6..8)?), rest))
}

/// The content of one value with this tag, and what stands behind it.
fn take(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, mut rest) = rest.split_first().filter(|_| *found == tag)?;
    let mut length = usize::from(*first);
    if length >= 0x80 {
        let bytes = rest.get(..length & 0x7f).filter(|bytes| bytes.len() <= 3)?;
        rest = &rest[bytes.len()..];
        length = bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte));
    }
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_tells_its_end() {
        let mut params = rcgen::CertificateParams::new(vec!["c.test".to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        for (year, shown) in [(2031, "2031-04-05"), (2055, "2055-04-05")] {
            params.not_after = rcgen::date_time_ymd(year, 4, 5);
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(valid_until(certificate.der()).as_deref(), Some(shown));
            // Whatever is cut off, nothing panics.
            (0..certificate.der().len()).for_each(|end| drop(valid_until(&certificate.der()[..end])));
        }
    }
}
