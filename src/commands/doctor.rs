//! `longshore doctor`: resolves, dials and authenticates every candidate, and says for each what happened.
//!
//! It proves the node's credential under a made-up node id and hangs up before the session begins, so that a running node of
//! the same configuration is not disturbed.

use crate::args::local::ConfigFile;
use crate::error::{Exit, Failed};
use crate::output::{self, Format, Table};
use crate::run;
use longshore_config::Config;
use longshore_discovery::{Discovery, Resolution};
use longshore_transport::{DialOptions, Identity, Keyring, dial, prove};
use longshore_wire::{Endpoint, NodeId, Role};
use serde_json::{Value, json};
use std::time::Instant;

/// What happened at one candidate.
struct Finding {
    endpoint: Endpoint,
    reached: Result<(), String>,
    proven: Result<String, String>,
    took_ms: u128,
}

impl Finding {
    fn works(&self) -> bool {
        self.reached.is_ok() && self.proven.is_ok()
    }

    fn json(&self) -> Value {
        json!({
            "endpoint": self.endpoint.to_string(),
            "reached": self.reached.is_ok(),
            "proven": self.works(),
            "detail": self.detail(),
            "ms": u64::try_from(self.took_ms).unwrap_or(u64::MAX),
        })
    }

    fn detail(&self) -> &str {
        match (&self.reached, &self.proven) {
            (Err(why), _) | (Ok(()), Err(why) | Ok(why)) => why,
        }
    }
}

pub(super) async fn doctor(args: &ConfigFile, format: Format) -> anyhow::Result<()> {
    let config = run::load(args)?;
    let discovery = Discovery::new(run::resolver(&config, role(&config)))?;
    let patient = Patient::new(&config)?;
    let mut findings = Vec::new();
    let mut steps = Vec::new();
    let mut unresolved = Vec::new();
    for uri in &config.cluster.discovery {
        match discovery.resolve(uri).await {
            Ok(Resolution { endpoints, steps: asked, .. }) => {
                steps.extend(asked.iter().map(ToString::to_string));
                for endpoint in endpoints {
                    findings.push(patient.examine(endpoint).await);
                }
            }
            Err(error) => unresolved.push(error.to_string()),
        }
    }
    print(format, &findings, &steps, &unresolved)?;
    let working = findings.iter().filter(|finding| finding.works()).count();
    if working > 0 {
        return Ok(());
    }
    let why = match (config.cluster.discovery.is_empty(), findings.is_empty()) {
        (true, _) => "cluster.discovery is empty: this node looks for nobody",
        (false, true) => "no URI of cluster.discovery leads to an address",
        (false, false) => "none of the candidates lets this node in",
    };
    Err(Failed::new(Exit::Unreachable, why).into())
}

fn print(format: Format, findings: &[Finding], steps: &[String], unresolved: &[String]) -> anyhow::Result<()> {
    if format == Format::Json {
        let candidates: Vec<Value> = findings.iter().map(Finding::json).collect();
        return output::json(&json!({"candidates": candidates, "asked": steps, "unresolved": unresolved}));
    }
    let mut table = Table::new(&["CANDIDATE", "REACHED", "PROVEN", "MS", "DETAIL"], format == Format::Wide);
    for finding in findings {
        let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        let (reached, proven) = (yes(finding.reached.is_ok()), yes(finding.works()));
        let took = finding.took_ms.to_string();
        table.row(vec![finding.endpoint.to_string(), reached, proven, took, finding.detail().to_owned()]);
    }
    if !findings.is_empty() {
        table.print()?;
    }
    steps.iter().filter(|_| format == Format::Wide).for_each(|step| output::say(&format!("asked: {step}")));
    unresolved.iter().for_each(|why| output::say(&format!("not resolved: {why}")));
    Ok(())
}

/// The role that is examined: a node with both dials the other control nodes as one of them.
fn role(config: &Config) -> Role {
    if config.has_role(Role::Control) { Role::Control } else { Role::Worker }
}

/// The node as its peers would see it.
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

    async fn examine(&self, endpoint: Endpoint) -> Finding {
        let start = Instant::now();
        let finding = |reached, proven| Finding {
            endpoint: endpoint.clone(),
            reached,
            proven,
            took_ms: start.elapsed().as_millis(),
        };
        let link = match dial(&endpoint, &self.dial).await {
            Ok(link) => link,
            Err(error) => return finding(Err(error.to_string()), Err(String::new())),
        };
        match prove(link, &self.identity, &self.keyring, Role::Control).await {
            Ok(proven) => {
                let peer = &proven.peer;
                let who = format!("control node {} of release {}, protocol {}", peer.node, peer.release, peer.version);
                finding(Ok(()), Ok(who))
            }
            Err(error) => finding(Ok(()), Err(error.to_string())),
        }
    }
}
