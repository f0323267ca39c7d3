//! One line at the end: what to do about the most telling failure.

use super::{Finding, Lead, Why};
use longshore_discovery::DiscoveryError;
use longshore_transport::{DialError, HandshakeError};
use longshore_wire::handshake::RejectCode;
use std::io::ErrorKind;

/// The advice.
pub(super) fn advice(leads: &[Lead]) -> String {
    if leads.is_empty() {
        return "cluster.discovery is empty: this node looks for nobody. Set it to your control nodes, for example [\"longshore://control.example.com\"].".to_owned();
    }
    let findings: Vec<&Finding> = leads.iter().flat_map(Lead::findings).collect();
    let good = findings.iter().filter(|finding| finding.result.is_ok()).count();
    let worst = findings.iter().filter_map(|finding| finding.result.as_ref().err()).max_by_key(|why| weight(why));
    match (good, worst) {
        (0, Some(why)) if findings.len() == 1 => {
            format!("The only candidate does not let this node in. {}", cure(why))
        }
        (0, Some(why)) => format!("None of the {} lets this node in. {}", candidates(findings.len()), cure(why)),
        (0, None) => nowhere(leads),
        (good, None) => format!("Well: {} let{} this node in.", candidates(good), if good == 1 { "s" } else { "" }),
        (good, Some(why)) => {
            format!("This node gets in ({good} of {}). For the others: {}", candidates(findings.len()), cure(why))
        }
    }
}

fn candidates(count: usize) -> String {
    if count == 1 { "1 candidate".to_owned() } else { format!("{count} candidates") }
}

fn nowhere(leads: &[Lead]) -> String {
    let silent = leads.iter().any(|lead| matches!(lead.result, Err(DiscoveryError::Unreachable { .. })));
    match silent {
        true => "No name server answers: check the network and dns.nameservers, or put an IP address into cluster.discovery.".to_owned(),
        false => "DNS knows no address for cluster.discovery: check the name, add NAPTR, SRV or A records, or put in an IP address.".to_owned(),
    }
}

/// The farther a candidate got, the more its failure tells.
fn weight(why: &Why) -> u8 {
    match why {
        Why::Proof(_) => 5,
        Why::Dial(DialError::Status { .. } | DialError::WebSocket { .. }) => 4,
        Why::Dial(DialError::Tls { .. } | DialError::TlsSettings { .. }) => 3,
        Why::Dial(DialError::Proxy { .. }) => 2,
        Why::Dial(DialError::Connect { source, .. }) if source.kind() == ErrorKind::ConnectionRefused => 1,
        Why::Dial(_) => 0,
    }
}

fn cure(why: &Why) -> String {
    let known = match why {
        Why::Proof(error) => return proof(error),
        Why::Dial(DialError::Status { .. }) => {
            "A web server answers there, but knows no such path: give its WebSocket path with ;path=, or let it pass that path on."
        }
        Why::Dial(DialError::WebSocket { .. }) => "What answers there speaks no WebSocket: check transport and port.",
        Why::Dial(DialError::Tls { .. } | DialError::TlsSettings { .. }) => {
            "TLS fails: check transport and port, and that tls.verify (tls.ca_file, tls.pin_file) fits the certificate."
        }
        Why::Dial(DialError::Proxy { .. }) => {
            "The proxy does not let it through: check proxy.url, its login, and what it allows."
        }
        Why::Dial(DialError::Connect { source, .. }) if source.kind() == ErrorKind::ConnectionRefused => {
            "Nobody listens there: check that the control node runs, and that the port is the one of its [[listen]]."
        }
        Why::Dial(DialError::Timeout { .. }) => {
            "Nothing comes back: a firewall may drop it; use wss on port 443, or set proxy.url where the way out is a proxy."
        }
        Why::Dial(_) => "It cannot be reached: check the address and the route to it.",
    };
    known.to_owned()
}

fn proof(error: &HandshakeError) -> String {
    let known = match error {
        HandshakeError::Rejected { code: RejectCode::Credential, .. } => {
            "The secret is not the cluster's: compare auth.secret_file and auth.credential with what the cluster has."
        }
        HandshakeError::Rejected { code: RejectCode::Binding, .. } => {
            "TLS ends before the control node: verify the balancer's certificate instead (tls.verify = \"system\" or \"ca\")."
        }
        HandshakeError::Rejected { code: RejectCode::Cluster, .. } | HandshakeError::Cluster { .. } => {
            "Another cluster answers: check cluster.name and the address."
        }
        HandshakeError::Rejected { code: RejectCode::Busy, .. } => "It is busy: try again in a moment.",
        HandshakeError::Timeout { .. } => {
            "It is reached but says nothing: something between may hold the bytes back, or it is overloaded."
        }
        HandshakeError::Malformed(_) | HandshakeError::TooLong { .. } | HandshakeError::Closed { .. } => {
            "What answers there may be no control node: check transport and port, and its log."
        }
        other => return format!("It declines: {other}."),
    };
    known.to_owned()
}
