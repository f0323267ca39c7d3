//! `longshore doctor`: resolves, dials and authenticates every candidate, and says for each what happened.
//!
//! It proves the node's credential under a made-up node id and hangs up before the session begins, so that a running node of
//! the same configuration is not disturbed.

mod advice;

use super::explain;
use crate::args::local::ConfigFile;
use crate::error::{Exit, Failed};
use crate::output::{self, Format, Table};
use crate::run;
use longshore_config::Config;
use longshore_discovery::{Discovery, DiscoveryError, Step};
use longshore_transport::{DialError, DialOptions, HandshakeError, Identity, Keyring, Stage, dial_traced, prove};
use longshore_wire::{ClusterUri, Endpoint, NodeId, Role};
use serde_json::{Value, json};
use std::time::Instant;
use tokio::task::JoinSet;

/// What one URI of the configuration leads to.
struct Lead {
    uri: ClusterUri,
    steps: Vec<Step>,
    result: Result<Vec<Finding>, DiscoveryError>,
}

/// What happened at one candidate.
struct Finding {
    endpoint: Endpoint,
    /// All that was passed, and last what failed.
    stages: Vec<Stage>,
    result: Result<(), Why>,
}

/// Why a candidate does not let the node in.
enum Why {
    Dial(DialError),
    Proof(HandshakeError),
}

impl Why {
    /// What went wrong, without the address: that stands above it.
    fn text(&self) -> String {
        match self {
            Self::Dial(error) => error.reason(),
            Self::Proof(error) => error.to_string(),
        }
    }
}

pub(super) async fn doctor(args: &ConfigFile, format: Format) -> anyhow::Result<()> {
    let config = run::load(args)?;
    if let Err(error) = run::check_certificates(&config) {
        output::say(&format!("certificates: {error}; a running node goes on with what it read before, a start fails"));
    }
    let discovery = Discovery::new(run::resolver(&config, role(&config)))?;
    let patient = Patient::new(&config)?;
    let mut leads = Vec::new();
    for uri in &config.cluster.discovery {
        leads.push(patient.follow(&discovery, uri).await);
    }
    let advice = advice::advice(&leads);
    match format {
        Format::Json => output::json(&json!({
            "uris": leads.iter().map(Lead::json).collect::<Vec<_>>(),
            "advice": advice,
        }))?,
        _ => print(&leads, format, &advice)?,
    }
    let lets_in = leads.iter().flat_map(Lead::findings).any(|finding| finding.result.is_ok());
    // The advice has said it.
    if lets_in { Ok(()) } else { Err(Failed::with_code(Exit::Unreachable as u8).into()) }
}

fn print(leads: &[Lead], format: Format, advice: &str) -> anyhow::Result<()> {
    let mut number = 0;
    for lead in leads {
        output::line(&format!("{}\n", lead.uri))?;
        if !lead.steps.is_empty() {
            explain::table(&lead.steps, format).print()?;
            output::line("")?;
        }
        if let Err(error) = &lead.result {
            output::line(&format!("Nowhere to go: {}\n", output::plain(&short(error))))?;
        }
        for finding in lead.findings() {
            number += 1;
            output::line(&format!("{number}. {}", output::plain(&finding.endpoint.to_string())))?;
            finding.table(format).print_rows("   ")?;
            output::line("")?;
        }
    }
    output::line(advice)
}

/// A failed resolution without the questions, which stand above.
fn short(error: &DiscoveryError) -> String {
    match error {
        DiscoveryError::NotFound { .. } => "DNS knows no address".to_owned(),
        DiscoveryError::Unreachable { reason, .. } => format!("DNS does not answer ({reason})"),
        other => other.to_string(),
    }
}

impl Lead {
    fn findings(&self) -> &[Finding] {
        self.result.as_deref().unwrap_or_default()
    }

    fn json(&self) -> Value {
        json!({
            "uri": self.uri,
            "steps": explain::json(&self.steps),
            "error": self.result.as_ref().err().map(ToString::to_string),
            "candidates": self.findings().iter().map(Finding::json).collect::<Vec<_>>(),
        })
    }
}

impl Finding {
    fn failed(&self, stage: &Stage) -> Option<String> {
        let last = self.stages.last() == Some(stage);
        self.result.as_ref().err().filter(|_| last).map(Why::text)
    }

    fn table(&self, format: Format) -> Table {
        let mut table = Table::new(&["", "", "", ""], format == Format::Wide);
        for stage in &self.stages {
            let failed = self.failed(stage);
            let verdict = if failed.is_some() { "FAILED" } else { "ok" };
            let told = failed.unwrap_or_else(|| stage.told.clone());
            table.row(vec![stage.name.to_owned(), verdict.to_owned(), explain::took(stage.took), told]);
        }
        table
    }

    fn json(&self) -> Value {
        let stage = |stage: &Stage| {
            let failed = self.failed(stage);
            let (ok, detail) = (failed.is_none(), failed.unwrap_or_else(|| stage.told.clone()));
            json!({"stage": stage.name, "ok": ok, "ms": stage.took.as_secs_f64() * 1e3, "detail": detail})
        };
        json!({
            "endpoint": self.endpoint.to_string(),
            "transport": self.endpoint.transport,
            "address": self.endpoint.address,
            "lets_in": self.result.is_ok(),
            "stages": self.stages.iter().map(stage).collect::<Vec<_>>(),
        })
    }
}

/// The role that is examined: a node with both dials the other control nodes as one of them.
fn role(config: &Config) -> Role {
    if config.has_role(Role::Control) { Role::Control } else { Role::Worker }
}

/// The node as its peers would see it.
#[derive(Clone)]
struct Patient {
    identity: Identity,
    keyring: Keyring,
    dial: DialOptions,
}

impl Patient {
    fn new(config: &Config) -> anyhow::Result<Self> {
        let role = role(config);
        let secret = longshore_transport::Secret::from_file(&config.auth.secret_file)?;
        let node = NodeId::from_u128(ulid::Ulid::generate().into());
        Ok(Self {
            identity: Identity::new(node, role, config.cluster.name.clone(), crate::RELEASE),
            keyring: Keyring::new(secret, config.auth.credential.clone()),
            dial: run::dial_options(config, role)?,
        })
    }

    async fn follow(&self, discovery: &Discovery, uri: &ClusterUri) -> Lead {
        let (steps, result) = match discovery.resolve(uri).await {
            Ok(found) => (found.steps, Ok(self.examine_all(found.endpoints).await)),
            Err(mut error) => {
                let steps = match &mut error {
                    DiscoveryError::NotFound { steps, .. } | DiscoveryError::Unreachable { steps, .. } => {
                        std::mem::take(steps)
                    }
                    _ => Vec::new(),
                };
                (steps, Err(error))
            }
        };
        Lead { uri: uri.clone(), steps, result }
    }

    /// All at once: dead ones must not make people wait for each in turn.
    async fn examine_all(&self, endpoints: Vec<Endpoint>) -> Vec<Finding> {
        let mut examined = JoinSet::new();
        for (number, endpoint) in endpoints.into_iter().enumerate() {
            let patient = self.clone();
            examined.spawn(async move { (number, patient.examine(endpoint).await) });
        }
        let mut findings = examined.join_all().await;
        findings.sort_by_key(|(number, _)| *number);
        findings.into_iter().map(|(_, finding)| finding).collect()
    }

    async fn examine(&self, endpoint: Endpoint) -> Finding {
        let (dialled, mut stages) = dial_traced(&endpoint, &self.dial).await;
        let link = match dialled {
            Ok(link) => link,
            Err(error) => return Finding { endpoint, stages, result: Err(Why::Dial(error)) },
        };
        let begun = Instant::now();
        let proven = prove(link, &self.identity, &self.keyring, Role::Control).await;
        let (told, result) = match proven {
            Ok(proven) => {
                let peer = &proven.peer;
                let who = format!("control node {}, release {}, protocol {}", peer.node, peer.release, peer.version);
                (who, Ok(()))
            }
            Err(error) => (String::new(), Err(Why::Proof(error))),
        };
        stages.push(Stage { name: "proof", took: begun.elapsed(), told });
        Finding { endpoint, stages, result }
    }
}
