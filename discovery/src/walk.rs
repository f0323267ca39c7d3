//! One walk from a URI over NAPTR, SRV and addresses to endpoints. Remembers nothing.

use crate::order::{self, Dice};
use crate::{Answer, Lookup, LookupError, Resolution, Resolve, Step};
use longshore_wire::uri::DEFAULT_WS_PATH;
use longshore_wire::{ClusterUri, Endpoint, Transport};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A cluster has a handful of control nodes; a zone that names more is broken or hostile, and each name costs a question.
const MAX_NAMES: usize = 32;
/// Bounds the whole list for the same reason.
const MAX_ENDPOINTS: usize = 256;

/// Many questions with a deadline each still end together.
const WALK_DEADLINE: Duration = Duration::from_secs(20);

/// What a walk came to.
pub(crate) enum Walked {
    /// Endpoints, from answers.
    Found(Resolution),
    /// Every question was answered, and there is no address.
    Nothing(Vec<Step>),
    /// Some question had no answer. With what could be found all the same, which may be nothing.
    Failed { reason: String, rest: Resolution },
}

/// What to do when a question about the shape of the cluster (NAPTR, SRV) has no answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// Something better is known from before: stop.
    Stop,
    /// Nothing is known: go on as if there were no such record, which is right in most zones.
    Guess,
}

/// Resolves `uri` once.
pub(crate) async fn walk(resolver: &Arc<dyn Resolve>, uri: &ClusterUri, unanswered: Unanswered) -> Walked {
    let mut walk = Walk {
        resolver,
        uri,
        unanswered,
        dice: Dice::new(),
        failed: None,
        found: Resolution {
            endpoints: Vec::new(),
            trails: Vec::new(),
            steps: Vec::new(),
            stale: false,
            valid_until: None,
        },
    };
    if tokio::time::timeout(WALK_DEADLINE, walk.run()).await.is_err() {
        walk.failed.get_or_insert_with(|| format!("not done within {WALK_DEADLINE:?}"));
    }
    let Walk { found, failed, .. } = walk;
    match failed {
        Some(reason) => Walked::Failed { reason, rest: found },
        None if found.endpoints.is_empty() => Walked::Nothing(found.steps),
        None => Walked::Found(found),
    }
}

/// A host and port on the way to its addresses.
struct Target {
    transport: Transport,
    host: String,
    port: u16,
    trail: Vec<String>,
}

struct Walk<'a> {
    resolver: &'a Arc<dyn Resolve>,
    uri: &'a ClusterUri,
    unanswered: Unanswered,
    dice: Dice,
    /// The first question without an answer.
    failed: Option<String>,
    found: Resolution,
}

impl Walk<'_> {
    async fn run(&mut self) {
        let transport = self.uri.transport.unwrap_or(Transport::Tls);
        let host = self.uri.host.trim_end_matches('.').to_owned();
        if let Some(ip) = self.uri.ip() {
            let port = self.uri.port.unwrap_or_else(|| transport.default_port());
            let target = Target { transport, host, port, trail: Vec::new() };
            self.add(&target, ip, Vec::new());
        } else if let Some(port) = self.uri.port {
            self.addresses(vec![Target { transport, host, port, trail: Vec::new() }]).await;
        } else if self.uri.transport.is_some() {
            self.by_transport(transport, host).await;
        } else {
            self.by_naptr(host).await;
        }
    }

    /// NAPTR decides; where the zone has none that concerns us, TLS, never plaintext.
    async fn by_naptr(&mut self, host: String) {
        let answer = self.resolver.naptr(&host).await;
        let services = order::naptr(self.note("NAPTR", &host, answer));
        if self.must_stop() {
            return;
        }
        if services.is_empty() {
            return self.by_transport(Transport::Tls, host).await;
        }
        for (transport, record) in services.into_iter().take(MAX_NAMES) {
            let trail = vec![record.to_string()];
            let targets = self.srv(transport, &record.replacement, trail).await;
            self.addresses(targets).await;
        }
    }

    async fn by_transport(&mut self, transport: Transport, host: String) {
        let name = format!("_longshore._{transport}.{host}");
        let targets = self.srv(transport, &name, Vec::new()).await;
        if self.must_stop() {
            return;
        }
        if targets.is_empty() {
            let port = transport.default_port();
            return self.addresses(vec![Target { transport, host, port, trail: Vec::new() }]).await;
        }
        self.addresses(targets).await;
    }

    fn must_stop(&self) -> bool {
        self.failed.is_some() && self.unanswered == Unanswered::Stop
    }

    async fn srv(&mut self, transport: Transport, name: &str, trail: Vec<String>) -> Vec<Target> {
        let answer = self.resolver.srv(name).await;
        let records = self.note("SRV", name, answer);
        let ordered = order::srv(records, &mut self.dice).into_iter().take(MAX_NAMES);
        ordered
            .map(|record| {
                let trail = trail.iter().cloned().chain([record.to_string()]).collect();
                Target { transport, host: record.target, port: record.port, trail }
            })
            .collect()
    }

    /// Asks for all targets at once, so that one dead name server behind one of them delays nobody, and keeps their order.
    async fn addresses(&mut self, targets: Vec<Target>) {
        let mut asked = JoinSet::new();
        for (number, target) in targets.iter().enumerate() {
            let (resolver, host) = (self.resolver.clone(), target.host.clone());
            asked.spawn(async move { (number, addresses(&resolver, &host).await) });
        }
        let mut answers = asked.join_all().await;
        answers.sort_by_key(|(number, _)| *number);
        for (target, (_, answer)) in targets.iter().zip(answers) {
            let mut ips = self.note("A/AAAA", &target.host, answer);
            self.dice.shuffle(&mut ips);
            for ip in ips {
                let kind = if ip.is_ipv4() { "A" } else { "AAAA" };
                let trail = target.trail.iter().cloned().chain([format!("{kind} {ip}")]).collect();
                self.add(target, ip, trail);
            }
        }
    }

    fn add(&mut self, target: &Target, ip: IpAddr, trail: Vec<String>) {
        let endpoint = Endpoint {
            transport: target.transport,
            address: SocketAddr::new(ip, target.port),
            host: target.host.clone(),
            path: self.uri.path.clone().unwrap_or_else(|| DEFAULT_WS_PATH.to_owned()),
            tls_verify: self.uri.tls_verify,
        };
        if self.found.endpoints.len() < MAX_ENDPOINTS && !self.found.endpoints.contains(&endpoint) {
            self.found.endpoints.push(endpoint);
            self.found.trails.push(trail);
        }
    }

    /// Writes a question and its answer down, and hands out the records.
    fn note<T: fmt::Display>(&mut self, kind: &str, name: &str, answer: Result<Answer<T>, LookupError>) -> Vec<T> {
        let question = format!("{kind} {name}");
        match answer {
            Ok(answer) => {
                let shown = answer.records.iter().map(ToString::to_string).collect();
                self.found.steps.push(Step { question, answer: Ok(shown) });
                self.found.valid_until = sooner(self.found.valid_until, answer.valid_until);
                answer.records
            }
            Err(error) => {
                self.found.steps.push(Step { question, answer: Err(error.reason.clone()) });
                self.failed.get_or_insert_with(|| error.to_string());
                Vec::new()
            }
        }
    }
}

async fn addresses(resolver: &Arc<dyn Resolve>, host: &str) -> Result<Answer<IpAddr>, LookupError> {
    match host.parse() {
        // Not allowed in SRV, yet common, and clear.
        Ok(ip) => Ok(Answer { records: vec![ip], valid_until: None }),
        Err(_) => {
            let question: Lookup<'_, IpAddr> = resolver.addresses(host);
            question.await
        }
    }
}

/// The earlier of two ends, where `None` is never.
pub(crate) fn sooner(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
