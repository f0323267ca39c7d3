//! The resolver of every day: asks name servers, follows aliases, and turns DNS records into ours. It caches nothing.
//!
//! With the system's name servers they are read anew for each question, so that a changed `/etc/resolv.conf` or
//! `/etc/hosts` counts at once: an edge machine moves between networks without a restart. Aliases (CNAME) are followed
//! here and not by hickory, which loses those that stand before SRV records.

use crate::nameservers::{NameServers, Reply};
use crate::{Absent, Answer, Family, Lookup, LookupError, Naptr, Resolve, Srv};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Aliases in a row that are followed: more are a loop, or a zone that nobody looks after.
const MAX_ALIASES: usize = 8;
/// Records of one answer that are looked at. A cluster has a handful.
const MAX_RECORDS: usize = 512;

/// Whom to ask, and how long to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverOptions {
    /// DNS servers; empty for those of the system (`/etc/resolv.conf`).
    pub nameservers: Vec<SocketAddr>,
    /// For one question, all attempts included.
    pub timeout: Duration,
    /// What to make of a URI whose name has no address here.
    pub nameless: Nameless,
}

/// What to make of a URI whose name has no address here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nameless {
    /// An error.
    #[default]
    Fail,
    /// One endpoint without address ([`longshore_wire::Endpoint::is_unresolved`]): a proxy will resolve the name.
    LeaveToProxy,
}

impl Default for ResolverOptions {
    fn default() -> Self {
        Self { nameservers: Vec::new(), timeout: Duration::from_secs(3), nameless: Nameless::Fail }
    }
}

/// Asks real name servers.
pub(crate) struct Hickory {
    /// `None`: the system's, read anew each time.
    fixed: Option<NameServers>,
    options: ResolverOptions,
}

impl Hickory {
    pub(crate) fn new(options: &ResolverOptions) -> Result<Self, String> {
        let fixed = (!options.nameservers.is_empty()).then(|| NameServers::new(options)).transpose()?;
        Ok(Self { fixed, options: options.clone() })
    }

    fn servers(&self) -> Result<NameServers, String> {
        self.fixed.clone().map_or_else(|| NameServers::new(&self.options), Ok)
    }

    /// One question against the clock.
    async fn ask<T>(
        &self,
        (kind, label): (RecordType, &'static str),
        name: &str,
        pick: impl Fn(&RData) -> Option<T>,
    ) -> Result<Answer<T>, LookupError> {
        let fail = |reason: String| LookupError { kind: label, name: name.to_owned(), reason };
        let Ok(mut full) = Name::from_ascii(name) else { return Ok(Answer::none(Absent::TooLong, None)) };
        // Never completed with the system's search domains: a cluster's name is not to depend on who asks.
        full.set_fqdn(true);
        let servers = self.servers().map_err(fail)?;
        let chase = chase(&servers, full, kind, pick);
        match tokio::time::timeout(self.options.timeout, chase).await {
            Ok(answer) => answer.map_err(fail),
            Err(_) => Err(fail(format!("no answer within {:?}", self.options.timeout))),
        }
    }
}

/// Asks for a name, and for what it is an alias of, until there are records or none.
async fn chase<T>(
    servers: &NameServers,
    mut name: Name,
    kind: RecordType,
    pick: impl Fn(&RData) -> Option<T>,
) -> Result<Answer<T>, String> {
    let mut answer = Answer { records: Vec::new(), absent: None, ttl: None, aliases: Vec::new() };
    loop {
        let known = servers.hosts(&name, kind);
        let from_hosts = known.is_some();
        let reply = match known {
            Some(message) => Reply::Records(message),
            None => servers.ask(&name, kind).await?,
        };
        let message = match reply {
            Reply::Records(message) => message,
            Reply::None { no_name, ttl } => {
                answer.absent = Some(if no_name { Absent::Name } else { Absent::Record });
                limit(&mut answer.ttl, ttl);
                return Ok(answer);
            }
        };
        let asked = name.clone();
        while let Some(target) = alias(&message.answers, &name, kind, &mut answer.ttl) {
            answer.aliases.push(host(&target));
            if answer.aliases.len() > MAX_ALIASES || target == asked {
                let names = answer.aliases.join(" -> ");
                return Err(format!("the aliases (CNAME) lead on and on: {} -> {names}", host(&asked)));
            }
            name = target;
        }
        for record in records(&message.answers, &name, kind).take(MAX_RECORDS) {
            answer.records.extend(pick(&record.data));
            limit(&mut answer.ttl, (!from_hosts).then_some(record.ttl));
        }
        if !answer.records.is_empty() {
            return Ok(answer);
        }
        if name == asked {
            answer.absent = Some(Absent::Record);
            // Nothing that says how long this holds: not to be kept.
            answer.ttl = None;
            return Ok(answer);
        }
    }
}

fn records<'a>(answers: &'a [Record], name: &'a Name, kind: RecordType) -> impl Iterator<Item = &'a Record> {
    answers.iter().filter(move |record| record.record_type() == kind && record.name == *name)
}

/// What the name is an alias of, as far as this message says, unless it has the records itself.
fn alias(answers: &[Record], name: &Name, kind: RecordType, ttl: &mut Option<Duration>) -> Option<Name> {
    if records(answers, name, kind).next().is_some() {
        return None;
    }
    let record = records(answers, name, RecordType::CNAME).next()?;
    let RData::CNAME(target) = &record.data else { return None };
    limit(ttl, Some(record.ttl));
    Some(target.0.clone())
}

fn limit(ttl: &mut Option<Duration>, seconds: Option<u32>) {
    let new = seconds.map(|seconds| Duration::from_secs(seconds.into()));
    *ttl = ttl.iter().copied().chain(new).min();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A name without its last dot; the root is a dot.
fn host(name: &Name) -> String {
    let text = name.to_ascii().to_ascii_lowercase();
    match text.strip_suffix('.') {
        Some("") | None => text,
        Some(short) => short.to_owned(),
    }
}

/// `localhost` is this machine, without asking anybody (RFC 6761).
fn local(name: &str, family: Family) -> Option<IpAddr> {
    let name = name.to_ascii_lowercase();
    (name == "localhost" || name.ends_with(".localhost")).then_some(match family {
        Family::A => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Family::Aaaa => IpAddr::V6(Ipv6Addr::LOCALHOST),
    })
}

impl Resolve for Hickory {
    fn naptr<'a>(&'a self, name: &'a str) -> Lookup<'a, Naptr> {
        let pick = |data: &RData| match data {
            RData::NAPTR(record) => Some(Naptr {
                order: record.order,
                preference: record.preference,
                flags: text(&record.flags),
                services: text(&record.services),
                regexp: text(&record.regexp),
                replacement: host(&record.replacement),
            }),
            _ => None,
        };
        Box::pin(self.ask((RecordType::NAPTR, "NAPTR"), name, pick))
    }

    fn srv<'a>(&'a self, name: &'a str) -> Lookup<'a, Srv> {
        let pick = |data: &RData| match data {
            RData::SRV(record) => Some(Srv {
                priority: record.priority,
                weight: record.weight,
                port: record.port,
                target: host(&record.target),
            }),
            _ => None,
        };
        Box::pin(self.ask((RecordType::SRV, "SRV"), name, pick))
    }

    fn addresses<'a>(&'a self, name: &'a str, family: Family) -> Lookup<'a, IpAddr> {
        if let Some(here) = local(name, family) {
            return Box::pin(async move { Ok(Answer::new(vec![here])) });
        }
        let pick = |data: &RData| match data {
            RData::A(record) => Some(IpAddr::V4(record.0)),
            RData::AAAA(record) => Some(IpAddr::V6(record.0)),
            _ => None,
        };
        let kind = match family {
            Family::A => RecordType::A,
            Family::Aaaa => RecordType::AAAA,
        };
        Box::pin(self.ask((kind, family.name()), name, pick))
    }
}
