//! One walk from a URI over NAPTR, SRV and addresses to endpoints. Remembers nothing.

use crate::addresses::{self, Found};
use crate::order::{self, Dice, Next};
use crate::resolution::{Line, Said};
use crate::{Absent, Answer, LookupError, Naptr, Resolution, Resolve, Srv, Step};
use longshore_wire::uri::DEFAULT_WS_PATH;
use longshore_wire::{ClusterUri, Endpoint, Transport};
use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A cluster has a handful of control nodes; a zone that names more is broken or hostile, and each name costs a question.
const MAX_NAMES: usize = 32;
/// Bounds the whole list for the same reason.
const MAX_ENDPOINTS: usize = 256;
/// NAPTR and SRV questions of one walk.
const MAX_QUESTIONS: usize = 64;
/// Records of one answer that are told.
const MAX_SHOWN: usize = 40;

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
            age: None,
            ttl: None,
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
#[derive(Clone)]
pub(crate) struct Target {
    transport: Transport,
    pub(crate) host: String,
    port: u16,
    trail: Vec<String>,
}

/// Something still to be asked.
enum Work {
    Naptr { name: String, trail: Vec<String> },
    Srv { transport: Transport, name: String, trail: Vec<String> },
    Hosts(Vec<Target>),
}

/// What SRV records say of a service.
enum Service {
    At(Vec<Target>),
    /// There are records, and they say that it is not there: nothing may be guessed.
    Denied,
    Unsaid,
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
            self.add(&Target { transport, host, port, trail: Vec::new() }, ip, Vec::new());
        } else if let Some(port) = self.uri.port {
            self.hosts(vec![Target { transport, host, port, trail: Vec::new() }]).await;
        } else if self.uri.transport.is_some() {
            self.by_transport(transport, host).await;
        } else {
            self.by_naptr(host).await;
        }
    }

    /// NAPTR decides; where the zone has none that concerns us, TLS, never plaintext.
    async fn by_naptr(&mut self, host: String) {
        let first = self.naptr(&host, &[]).await;
        if self.must_stop() {
            return;
        }
        if first.is_empty() {
            return self.by_transport(Transport::Tls, host).await;
        }
        let mut asked = BTreeSet::from([host]);
        let mut queue = VecDeque::from(first);
        let mut questions = 1;
        while let Some(work) = queue.pop_front() {
            questions += 1;
            if questions > MAX_QUESTIONS || self.found.endpoints.len() >= MAX_ENDPOINTS {
                self.remark("the rest of the NAPTR records", "not followed: the zone asks for too many questions");
                return;
            }
            match work {
                Work::Naptr { name, .. } if !asked.insert(name.clone()) => {
                    self.remark(&format!("NAPTR {name}"), "not asked again: the NAPTR records lead in a circle");
                }
                Work::Naptr { name, trail } => {
                    let more = self.naptr(&name, &trail).await;
                    more.into_iter().rev().for_each(|work| queue.push_front(work));
                }
                Work::Srv { transport, name, trail } => {
                    if let Service::At(targets) = self.srv(transport, &name, trail).await {
                        self.hosts(targets).await;
                    }
                }
                Work::Hosts(targets) => self.hosts(targets).await,
            }
        }
    }

    async fn by_transport(&mut self, transport: Transport, host: String) {
        let name = format!("_longshore._{transport}.{host}");
        let service = self.srv(transport, &name, Vec::new()).await;
        if self.must_stop() {
            return;
        }
        match service {
            Service::At(targets) => self.hosts(targets).await,
            Service::Denied => (),
            Service::Unsaid => {
                let port = transport.default_port();
                self.hosts(vec![Target { transport, host, port, trail: Vec::new() }]).await;
            }
        }
    }

    fn must_stop(&self) -> bool {
        self.failed.is_some() && self.unanswered == Unanswered::Stop
    }

    async fn naptr(&mut self, name: &str, trail: &[String]) -> Vec<Work> {
        let answer = self.resolver.naptr(name).await;
        let records = self.take("NAPTR", name, answer);
        let mut lines = Vec::new();
        let mut work = Vec::new();
        for (record, next) in order::naptr(records, &mut self.dice) {
            let said = match next {
                Ok(_) if work.len() >= MAX_NAMES => Err("skipped: too many records"),
                Ok(next) => {
                    work.push(to_do(&record, next, trail));
                    Ok(leads_to(next))
                }
                Err(why) => Err(why),
            };
            lines.push(line(&record, said));
        }
        self.explain(lines, "lowest order first, then lowest preference, equals by lot");
        work
    }

    async fn srv(&mut self, transport: Transport, name: &str, trail: Vec<String>) -> Service {
        let answer = self.resolver.srv(name).await;
        let records = self.take("SRV", name, answer);
        if records.is_empty() {
            return Service::Unsaid;
        }
        let (mut used, mut left_out) = order::srv(records, &mut self.dice);
        left_out
            .splice(0..0, used.drain(used.len().min(MAX_NAMES)..).map(|record| (record, "skipped: too many records")));
        let lines = used.iter().map(|record| line(record, Ok(String::new())));
        let lines = lines.chain(left_out.iter().map(|(record, why)| line(record, Err(why)))).collect();
        self.explain(lines, "lowest priority first, within one by lot in proportion to weight");
        let target = |record: Srv| {
            let trail = trail.iter().cloned().chain([record.to_string()]).collect();
            Target { transport, host: record.target, port: record.port, trail }
        };
        if used.is_empty() { Service::Denied } else { Service::At(used.into_iter().map(target).collect()) }
    }

    /// Asks for all targets at once, so that one dead name server behind one of them delays nobody, and keeps their order.
    async fn hosts(&mut self, targets: Vec<Target>) {
        let answers = addresses::ask(self.resolver, &targets).await;
        let mut told = BTreeSet::new();
        for target in targets {
            let Some(found) = answers.get(&target.host) else { continue };
            if told.insert(target.host.clone()) {
                self.tell(&target.host, found);
            }
            for ip in order::families(found.usable(), &mut self.dice) {
                let kind = if ip.is_ipv4() { "A" } else { "AAAA" };
                let trail = target.trail.iter().cloned().chain([format!("{kind} {ip}")]).collect();
                self.add(&target, ip, trail);
            }
        }
    }

    /// Writes down what came of a host's addresses. One family without an answer is no failure while the other has some.
    fn tell(&mut self, host: &str, found: &Found) {
        for (family, answer) in found.families() {
            let failed = self.failed.clone();
            let records = self.take(family.name(), host, answer.clone());
            if found.usable().next().is_some() {
                self.failed = failed;
            }
            let lines = records.into_iter().map(|ip| Line {
                record: ip.to_string(),
                remark: addresses::unusable(ip).unwrap_or_default().to_owned(),
                skipped: addresses::unusable(ip).is_some(),
            });
            self.explain(lines.collect(), "IPv6 and IPv4 take turns, by lot within each");
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

    /// Writes a question and its answer down, and hands out the records; what becomes of them, [`Walk::explain`] adds.
    fn take<T>(&mut self, kind: &str, name: &str, answer: Result<Answer<T>, LookupError>) -> Vec<T> {
        let question = format!("{kind} {name}");
        match answer {
            Ok(answer) => {
                let said = match answer.absent {
                    _ if !answer.records.is_empty() => Said::Records(Vec::new()),
                    absent => Said::Nothing(absent.unwrap_or(Absent::Record).to_string()),
                };
                self.found.steps.push(Step {
                    question,
                    answer: said,
                    aliases: answer.aliases,
                    ttl: answer.ttl,
                    note: None,
                });
                self.found.ttl = self.found.ttl.into_iter().chain(answer.ttl).min();
                answer.records
            }
            Err(error) => {
                let answer = Said::Failed(error.reason.clone());
                self.found.steps.push(Step { question, answer, aliases: Vec::new(), ttl: None, note: None });
                self.failed.get_or_insert_with(|| error.to_string());
                Vec::new()
            }
        }
    }

    /// Says what became of the records of the last question.
    fn explain(&mut self, mut lines: Vec<Line>, rule: &'static str) {
        let Some(Step { answer: Said::Records(told), note, .. }) = self.found.steps.last_mut() else { return };
        *note = (lines.iter().filter(|line| !line.skipped).count() > 1).then_some(rule);
        if lines.len() > MAX_SHOWN {
            let record = format!("and {} more", lines.len() - MAX_SHOWN);
            lines.truncate(MAX_SHOWN);
            lines.push(Line { record, remark: String::new(), skipped: false });
        }
        *told = lines;
    }

    /// Writes down what is not asked.
    fn remark(&mut self, what: &str, why: &str) {
        let answer = Said::Nothing(why.to_owned());
        self.found.steps.push(Step { question: what.to_owned(), answer, aliases: Vec::new(), ttl: None, note: None });
    }
}

fn to_do(record: &Naptr, next: Next, trail: &[String]) -> Work {
    let trail: Vec<String> = trail.iter().cloned().chain([record.to_string()]).collect();
    let name = record.replacement.clone();
    match next {
        Next::Srv(transport) => Work::Srv { transport, name, trail },
        Next::Hosts(transport) => {
            let port = transport.default_port();
            Work::Hosts(vec![Target { transport, host: name, port, trail }])
        }
        Next::Naptr => Work::Naptr { name, trail },
    }
}

fn leads_to(next: Next) -> String {
    match next {
        Next::Srv(transport) => format!("{transport}, by SRV"),
        Next::Hosts(transport) => format!("{transport} on port {}, by address", transport.default_port()),
        Next::Naptr => "further NAPTR records".to_owned(),
    }
}

/// A record without its type, which the question names.
fn line(record: &impl std::fmt::Display, said: Result<String, &'static str>) -> Line {
    let text = record.to_string();
    let record = text.split_once(' ').map_or(text.clone(), |(_, rest)| rest.to_owned());
    let skipped = said.is_err();
    Line { record, remark: said.unwrap_or_else(str::to_owned), skipped }
}
