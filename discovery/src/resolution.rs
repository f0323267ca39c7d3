//! What a resolution found, and how.

use longshore_wire::uri::DEFAULT_WS_PATH;
use longshore_wire::{ClusterUri, Endpoint, Transport};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

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
    /// How old the last known good answer is, where one was fallen back on.
    pub age: Option<Duration>,
    /// How long the shortest-lived record behind this holds; `None` when no record limits it.
    pub ttl: Option<Duration>,
}

impl Resolution {
    /// The URI's name itself as the only endpoint, for a proxy to resolve; `why` it is not resolved here is a step. As
    /// everywhere, TLS unless the URI says otherwise.
    pub(crate) fn left_to_proxy(uri: &ClusterUri, why: String) -> Self {
        let transport = uri.transport.unwrap_or(Transport::Tls);
        let port = uri.port.unwrap_or_else(|| transport.default_port());
        let endpoint = Endpoint {
            transport,
            address: SocketAddr::from(([0, 0, 0, 0], port)),
            host: uri.host.trim_end_matches('.').to_owned(),
            path: uri.path.clone().unwrap_or_else(|| DEFAULT_WS_PATH.to_owned()),
            tls_verify: uri.tls_verify,
        };
        let trails = vec![vec!["the proxy resolves the name".to_owned()]];
        let (question, note) = (uri.to_string(), Some("the name is left to the proxy"));
        let steps = vec![Step { question, answer: Said::Failed(why), aliases: Vec::new(), ttl: None, note }];
        Self { endpoints: vec![endpoint], trails, steps, stale: false, age: None, ttl: None }
    }
}

/// One question and what came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was asked, for example `SRV _longshore._tls.cluster.test`.
    pub question: String,
    /// The records in the order in which they are used; why there are none; or why there was no answer.
    pub answer: Said,
    /// The names that the name stands for (CNAME), one after the other.
    pub aliases: Vec<String>,
    /// How long the answer may be believed.
    pub ttl: Option<Duration>,
    /// The rule that the order follows, or what the answer leads to.
    pub note: Option<&'static str>,
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// These records, each with what became of it.
    Records(Vec<Line>),
    /// There are none, and why.
    Nothing(String),
    /// Nobody answered, and why.
    Failed(String),
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its content.
    pub record: String,
    /// What it is used for, or why it is skipped.
    pub remark: String,
    /// Whether it is left out.
    pub skipped: bool,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.question)?;
        match &self.answer {
            Said::Records(lines) => {
                let shown = lines.iter().map(|line| match line.skipped {
                    true => format!("{} ({})", line.record, line.remark),
                    false => line.record.clone(),
                });
                f.write_str(&shown.collect::<Vec<_>>().join(", "))
            }
            Said::Nothing(why) => f.write_str(why),
            Said::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}
