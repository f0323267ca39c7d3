//! The resolver of every day: hickory, with its cache switched off.
//!
//! With the system's name servers a resolver is made anew for each question, so that a changed `/etc/resolv.conf` or
//! `/etc/hosts` counts at once: an edge machine moves between networks without a restart.

use crate::{Answer, Lookup, LookupError, Naptr, Resolve, Srv};
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup;
use hickory_resolver::net::{DnsError, NetError, runtime::TokioRuntimeProvider};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Whom to ask, and how long to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverOptions {
    /// DNS servers; empty for those of the system (`/etc/resolv.conf`).
    pub nameservers: Vec<SocketAddr>,
    /// For one question, all attempts included.
    pub timeout: Duration,
}

impl Default for ResolverOptions {
    fn default() -> Self {
        Self { nameservers: Vec::new(), timeout: Duration::from_secs(3) }
    }
}

/// Asks real name servers.
pub(crate) struct Hickory {
    /// `None`: the system's, read anew each time.
    fixed: Option<TokioResolver>,
    timeout: Duration,
}

impl Hickory {
    pub(crate) fn new(options: &ResolverOptions) -> Result<Self, NetError> {
        let fixed = match options.nameservers.as_slice() {
            [] => None,
            servers => Some(fixed(servers, options.timeout)?),
        };
        Ok(Self { fixed, timeout: options.timeout })
    }

    fn resolver(&self) -> Result<TokioResolver, NetError> {
        match &self.fixed {
            Some(resolver) => Ok(resolver.clone()),
            None => {
                let mut builder = TokioResolver::builder_tokio()?;
                adjust(builder.options_mut(), self.timeout);
                builder.build()
            }
        }
    }

    /// Runs one question against the clock and tells "there is none" from "nobody answered".
    async fn ask<T, A>(
        &self,
        kind: &'static str,
        name: &str,
        question: impl AsyncFnOnce(TokioResolver, Name) -> Result<A, NetError>,
        records: impl FnOnce(A) -> Answer<T>,
    ) -> Result<Answer<T>, LookupError> {
        let fail = |reason: String| LookupError { kind, name: name.to_owned(), reason };
        let mut full = Name::from_utf8(name).map_err(|error| fail(error.to_string()))?;
        // Never completed with the system's search domains: a cluster's name is not to depend on who asks.
        full.set_fqdn(true);
        let resolver = self.resolver().map_err(|error| fail(error.to_string()))?;
        match tokio::time::timeout(self.timeout, question(resolver, full)).await {
            Ok(Ok(found)) => Ok(records(found)),
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(_)))) => {
                Ok(Answer { records: Vec::new(), valid_until: None })
            }
            Ok(Err(error)) => Err(fail(error.to_string())),
            Err(_) => Err(fail(format!("no answer within {:?}", self.timeout))),
        }
    }
}

fn fixed(servers: &[SocketAddr], timeout: Duration) -> Result<TokioResolver, NetError> {
    let name_servers = servers.iter().map(|server| name_server(*server)).collect();
    let config = ResolverConfig::from_parts(None, Vec::new(), name_servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    adjust(builder.options_mut(), timeout);
    builder.build()
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let mut config = NameServerConfig::udp_and_tcp(server.ip());
    for connection in &mut config.connections {
        connection.port = server.port();
    }
    config
}

fn adjust(options: &mut ResolverOpts, timeout: Duration) {
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // Two tries have room within the deadline of the whole question.
    options.timeout = timeout / 2;
    options.attempts = 1;
    options.try_tcp_on_error = true;
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn host(name: &Name) -> String {
    let text = name.to_ascii();
    text.strip_suffix('.').unwrap_or(&text).to_ascii_lowercase()
}

fn answer<T>(found: &lookup::Lookup, pick: impl Fn(&RData) -> Option<T>) -> Answer<T> {
    let records = found.answers().iter().filter_map(|record| pick(&record.data)).collect();
    Answer { records, valid_until: Some(found.valid_until()) }
}

impl Resolve for Hickory {
    fn naptr<'a>(&'a self, name: &'a str) -> Lookup<'a, Naptr> {
        let pick = |data: &RData| match data {
            RData::NAPTR(record) => Some(Naptr {
                order: record.order,
                preference: record.preference,
                flags: text(&record.flags),
                services: text(&record.services),
                replacement: host(&record.replacement),
            }),
            _ => None,
        };
        let question = async |resolver: TokioResolver, name| resolver.lookup(name, RecordType::NAPTR).await;
        Box::pin(self.ask("NAPTR", name, question, move |found| answer(&found, pick)))
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
        let question = async |resolver: TokioResolver, name| resolver.lookup(name, RecordType::SRV).await;
        Box::pin(self.ask("SRV", name, question, move |found| answer(&found, pick)))
    }

    fn addresses<'a>(&'a self, name: &'a str) -> Lookup<'a, IpAddr> {
        let question = async |resolver: TokioResolver, name| resolver.lookup_ip(name).await;
        Box::pin(self.ask("A/AAAA", name, question, |found| Answer {
            records: found.iter().collect(),
            valid_until: Some(found.valid_until()),
        }))
    }
}
