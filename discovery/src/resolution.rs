//! What a resolution found, and how.

use longshore_wire::Endpoint;
use std::fmt;
use std::time::Instant;

/// Endpoints in the order in which they are to be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// Never empty.
    pub endpoints: Vec<Endpoint>,
    /// The records behind each endpoint, in the order of `endpoints`: `["NAPTR …", "SRV …", "A …"]`; empty for an
    /// IP address in the URI.
    pub trails: Vec<Vec<String>>,
    /// Every question asked, in order, with its answer.
    pub steps: Vec<Step>,
    /// Whether DNS failed, so that (some of) this is the last known good answer.
    pub stale: bool,
    /// Until when the shortest-lived record behind this holds; `None` when no record limits it.
    pub valid_until: Option<Instant>,
}

/// One question and what came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was asked, for example `SRV _longshore._tls.cluster.test`.
    pub question: String,
    /// The records, none when there is no such name or type; or why there was no answer.
    pub answer: Result<Vec<String>, String>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.answer {
            Ok(records) if records.is_empty() => write!(f, "{}: no such record", self.question),
            Ok(records) => write!(f, "{}: {}", self.question, records.join(", ")),
            Err(reason) => write!(f, "{}: failed: {reason}", self.question),
        }
    }
}
