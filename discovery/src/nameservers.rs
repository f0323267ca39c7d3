//! Whom to ask: one question put to the name servers, the next of them when the former fails or is slow.
//!
//! A refusal or a server failure is no answer: the next server may know better. That there is no such name is one.
//! Truncated UDP answers are asked for again over TCP, by hickory.

use crate::ResolverOptions;
use hickory_resolver::config::{NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle as _, FirstAnswer as _};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequestOptions, Message, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, NameServerPool, PoolContext, TlsConfig, system_conf};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// A server that has not answered for so long gets company.
const NEXT_AFTER: Duration = Duration::from_millis(800);
/// More name servers than anybody lists.
const MAX_SERVERS: usize = 8;

/// What the servers say.
pub(crate) enum Reply {
    /// Records of the name, or aliases of it.
    Records(Message),
    /// There are none.
    None {
        /// Whether the name does not exist at all.
        no_name: bool,
        /// For how many seconds that may be believed.
        ttl: Option<u32>,
    },
}

/// The name servers, and the local hosts file.
#[derive(Clone)]
pub(crate) struct NameServers {
    servers: Vec<(SocketAddr, NameServerPool<TokioRuntimeProvider>)>,
    hosts: Arc<Hosts>,
    deadline: Duration,
}

impl NameServers {
    /// Those of the options; without any, the system's as they are now.
    pub(crate) fn new(options: &ResolverOptions) -> Result<Self, String> {
        let deadline = options.timeout;
        if !options.nameservers.is_empty() {
            let configs = options.nameservers.iter().map(|server| (*server, named(*server)));
            return Self::build(configs.collect(), ResolverOpts::default(), Hosts::default(), deadline);
        }
        let (config, opts) =
            system_conf::read_system_conf().map_err(|error| format!("/etc/resolv.conf: {}", reason(&error)))?;
        let configs = config.name_servers.iter().map(|config| {
            let port = config.connections.first().map_or(53, |connection| connection.port);
            (SocketAddr::new(config.ip, port), config.clone())
        });
        Self::build(configs.collect(), opts, Hosts::from_system().unwrap_or_default(), deadline)
    }

    fn build(
        configs: Vec<(SocketAddr, NameServerConfig)>,
        mut opts: ResolverOpts,
        hosts: Hosts,
        deadline: Duration,
    ) -> Result<Self, String> {
        opts.timeout = deadline;
        opts.try_tcp_on_error = true;
        let mut servers = Vec::new();
        for (address, config) in configs.into_iter().take(MAX_SERVERS) {
            let tls = TlsConfig::new().map_err(|error| reason(&error))?;
            let context = Arc::new(PoolContext::new(opts.clone(), tls));
            servers.push((address, NameServerPool::from_config([config], context, TokioRuntimeProvider::default())));
        }
        Ok(Self { servers, hosts: Arc::new(hosts), deadline })
    }

    /// What the hosts file says of a name.
    pub(crate) fn hosts(&self, name: &Name, kind: RecordType) -> Option<Message> {
        let found = self.hosts.lookup_static_host(&Query::query(name.clone(), kind))?;
        Some(found.message().clone())
    }

    /// Asks, until one server answers or all have failed.
    pub(crate) async fn ask(&self, name: &Name, kind: RecordType) -> Result<Reply, String> {
        let mut asked = JoinSet::new();
        let mut rest = self.servers.iter();
        let mut failures = Vec::new();
        loop {
            if let Some((address, pool)) = rest.next() {
                let (address, pool, query) = (*address, pool.clone(), Query::query(name.clone(), kind));
                let deadline = self.deadline;
                asked.spawn(async move { (address, one(&pool, query, deadline).await) });
            }
            let patience = if rest.len() == 0 { self.deadline } else { NEXT_AFTER };
            match tokio::time::timeout(patience, asked.join_next()).await {
                Ok(Some(Ok((_, Ok(reply))))) => return Ok(reply),
                Ok(Some(Ok((address, Err(why))))) => failures.push(format!("{address}: {why}")),
                Ok(Some(Err(_))) | Err(_) => (),
                Ok(None) if failures.is_empty() => {
                    return Err("no name server is known; see dns.nameservers".to_owned());
                }
                Ok(None) => return Err(failures.join(", ")),
            }
        }
    }
}

async fn one(pool: &NameServerPool<TokioRuntimeProvider>, query: Query, deadline: Duration) -> Result<Reply, String> {
    let mut options = DnsRequestOptions::default();
    options.recursion_desired = true;
    options.use_edns = true;
    let answered = tokio::time::timeout(deadline, pool.lookup(query, options).first_answer()).await;
    let message = match answered {
        Err(_) => Err(NetError::Timeout),
        Ok(Err(error)) => Err(error),
        Ok(Ok(response)) => DnsError::from_response(response).map_err(NetError::from),
    };
    match message {
        Ok(response) => Ok(Reply::Records(response.into_message())),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            // A server that merely points elsewhere, as one that does not recurse, has not said that there is none.
            if none.soa.is_none() && none.ns.is_some() {
                return Err("it only refers to other servers; ask one that recurses".to_owned());
            }
            Ok(Reply::None { no_name: none.response_code == ResponseCode::NXDomain, ttl: none.negative_ttl })
        }
        Err(NetError::Timeout) => Err(format!("no answer within {deadline:?}")),
        Err(error) => Err(reason(&error)),
    }
}

fn named(server: SocketAddr) -> NameServerConfig {
    let mut config = NameServerConfig::udp_and_tcp(server.ip());
    for connection in &mut config.connections {
        connection.port = server.port();
    }
    config
}

/// hickory's errors as an operator says them.
fn reason(error: &NetError) -> String {
    match error {
        NetError::Dns(DnsError::ResponseCode(code)) => format!("it answers {}", code.to_str()),
        NetError::Io(error) => error.to_string(),
        NetError::Timeout => "no answer".to_owned(),
        NetError::Truncated => "its answer is cut short, even over TCP".to_owned(),
        NetError::NoConnections => "it cannot be reached".to_owned(),
        other => other.to_string(),
    }
}
