//! Handshakes that came to nothing at this node, by reason, for the metrics.

use crate::counts::Counts;
use longshore_transport::HandshakeError;
use longshore_wire::handshake::RejectCode;
use std::collections::BTreeMap;

/// How many there were since the start.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Counts<&'static str>);

impl Refusals {
    pub(crate) fn count(&self, error: &HandshakeError) {
        self.0.add(reason(error));
    }

    /// By reason; reasons that never came are missing.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.all()
    }
}

/// Few words, and always the same: they are a label's values.
fn reason(error: &HandshakeError) -> &'static str {
    match error {
        HandshakeError::Timeout { .. } => "timeout",
        HandshakeError::Io { .. } | HandshakeError::Closed { .. } => "broken",
        HandshakeError::Refused { code, .. } => match code {
            RejectCode::Version => "version",
            RejectCode::Cluster => "cluster",
            RejectCode::Credential => "credential",
            RejectCode::Role => "role",
            RejectCode::SelfDialled => "self_dialled",
            RejectCode::Busy => "busy",
            RejectCode::Binding => "binding",
            RejectCode::Revoked => "revoked",
            RejectCode::Clone => "clone",
            RejectCode::Protocol | RejectCode::Other(_) => "protocol",
        },
        _ => "protocol",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_counts_for_itself() {
        let refusals = Refusals::default();
        let refused = |code| HandshakeError::Refused { code, message: String::new() };
        refusals.count(&refused(RejectCode::Credential));
        refusals.count(&refused(RejectCode::Credential));
        refusals.count(&HandshakeError::Closed { stage: "a proof" });
        assert_eq!(refusals.counts().into_iter().collect::<Vec<_>>(), [("broken", 1), ("credential", 2)]);
    }
}
