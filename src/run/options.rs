//! From the configuration to each component's options.

use super::proxy::proxy;
use crate::RELEASE;
use crate::args::local::ConfigFile;
use crate::error::Failed;
use anyhow::Context as _;
use longshore_config::{ApiTls, Config, OnStop};
use longshore_control::{ApiGuard, ApiListen, Bootstrap, Disk, Listen, Loopback, Scheduled};
use longshore_discovery::{Nameless, ResolverOptions};
use longshore_transport::{
    Admission, AdmissionLimits, Backoff, ClientTls, ClientTlsOptions, DialOptions, ListenOptions, Secret, ServerTls,
    SessionOptions, TlsError,
};
use longshore_wire::Role;
use longshore_wire::credential::Verifier;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Reads the configuration, with the environment over it.
pub(crate) fn load(args: &ConfigFile) -> anyhow::Result<Config> {
    // A variable that is no UTF-8 cannot be one of ours with a valid value; its name is still checked by the others.
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(longshore_config::load(&args.file, environment)?)
}

/// How names are resolved by what runs in this role.
pub(crate) fn resolver(config: &Config, role: Role) -> ResolverOptions {
    let proxied = proxy(config, role).is_some_and(|proxy| proxy.resolves());
    let nameless = if proxied { Nameless::LeaveToProxy } else { Nameless::Fail };
    ResolverOptions { nameservers: config.dns.nameservers.clone(), timeout: config.dns.timeout, nameless }
}

/// How others are dialled by what runs in this role.
pub(crate) fn dial_options(config: &Config, role: Role) -> anyhow::Result<DialOptions> {
    let proxy = proxy(config, role);
    let tls = ClientTls::new(trust(config))?;
    Ok(DialOptions { connect_timeout: config.timers.connect_timeout, proxy, ..DialOptions::new(tls) })
}

fn session(config: &Config) -> SessionOptions {
    SessionOptions {
        ping_every: config.timers.ping_every,
        ping_deadline: config.timers.ping_deadline,
        lost_after: config.timers.session_lost_after,
        ..SessionOptions::default()
    }
}

/// A node with one role has the data folder to itself; with both, each role has a folder inside, since each has its own
/// identity.
fn folder(config: &Config, role: Role) -> anyhow::Result<PathBuf> {
    let data = &config.node.data_dir;
    let folder = if config.node.roles.len() > 1 {
        if data.join("node-id").exists() {
            let why = "belongs to a node with one role; move its content into a folder control or worker inside";
            return Err(Failed::usage(format!("node.data_dir {} {why}", data.display())).into());
        }
        data.join(role.name())
    } else {
        data.clone()
    };
    make_folder(&folder)?;
    Ok(folder)
}

/// Makes a folder that only its owner may enter.
pub(crate) fn make_folder(folder: &Path) -> anyhow::Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("cannot make the folder {} (node.data_dir)", folder.display()))
}

/// What a control node is started with.
pub(crate) fn control_options(config: &Config, bootstrap: bool) -> anyhow::Result<longshore_control::Options> {
    let data_dir = folder(config, Role::Control)?;
    let mut api: Vec<ApiListen> = config.api.listen.iter().copied().map(ApiListen::Tcp).collect();
    api.push(ApiListen::Unix(config.api.socket.clone()));
    let timers = &config.timers;
    Ok(longshore_control::Options {
        node_name: config.node.name.clone(),
        cluster: config.cluster.name.clone(),
        bootstrap: bootstrap.then(|| read_verifiers(config)).transpose()?,
        discovery: config.cluster.discovery.clone(),
        resolver: resolver(config, Role::Control),
        secret: Secret::from_file(&config.auth.secret_file)?,
        credential: config.auth.credential.clone(),
        listen: listeners(config, &data_dir)?,
        dial: dial_options(config, Role::Control)?,
        api,
        api_guard: api_guard(config, &data_dir)?,
        max_sessions: usize::try_from(config.limits.sessions).unwrap_or(usize::MAX),
        timers: longshore_control::Timers {
            heartbeat: timers.heartbeat,
            election_min: timers.election_min,
            election_max: timers.election_max,
            voter_grace: timers.voter_grace,
            session: session(config),
            ..longshore_control::Timers::default()
        },
        release: RELEASE.to_owned(),
        disk_low: u64::from(config.limits.disk_low_mib) << 20,
        storage: Disk::Durable,
        snapshots: scheduled(config),
        data_dir,
    })
}

/// Snapshots by the clock, where a folder is named.
fn scheduled(config: &Config) -> Option<Scheduled> {
    let snapshots = &config.snapshots;
    let keep = usize::try_from(snapshots.keep).unwrap_or(usize::MAX);
    snapshots.folder.clone().map(|folder| Scheduled { folder, every: snapshots.every, keep })
}

/// What guards the API's TCP addresses.
fn api_guard(config: &Config, data_dir: &Path) -> anyhow::Result<ApiGuard> {
    let tls = (config.api.tls == ApiTls::On).then(|| server_tls(config, data_dir)).transpose()?;
    let loopback = match config.api.loopback {
        longshore_config::Loopback::Open => Loopback::Open,
        longshore_config::Loopback::Token => Loopback::Token,
    };
    Ok(ApiGuard { tls, loopback })
}

fn read_verifiers(config: &Config) -> anyhow::Result<Bootstrap> {
    let missing = "auth.verifiers_file is missing: --bootstrap takes the new cluster's credentials from it (`longshore init` writes one)";
    let path = config.auth.verifiers_file.as_ref().ok_or_else(|| Failed::usage(missing))?;
    let text = std::fs::read(path).with_context(|| format!("cannot read auth.verifiers_file {}", path.display()))?;
    let verifiers: Vec<Verifier> = serde_json::from_slice(&text)
        .with_context(|| format!("auth.verifiers_file {} is no list of verifiers", path.display()))?;
    Ok(Bootstrap { verifiers, voters: config.control.voters })
}

/// Places of unproven connections, shared by all listeners of the node.
fn admission(config: &Config) -> Admission {
    let many = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    Admission::new(AdmissionLimits {
        pending: many(config.limits.pending),
        active_per_address: many(config.limits.pending_per_address),
        ..AdmissionLimits::default()
    })
}

fn listeners(config: &Config, data_dir: &Path) -> anyhow::Result<Vec<Listen>> {
    let admission = admission(config);
    let encrypted = config.listen.iter().any(|listen| listen.transport.is_encrypted());
    let tls = encrypted.then(|| server_tls(config, data_dir)).transpose()?;
    let listener = |listen: &longshore_config::Listen| {
        if !listen.transport.is_encrypted() {
            tracing::warn!(bind = %listen.bind, transport = %listen.transport, "this listener is NOT encrypted: anybody on the way can read and change what nodes say");
        }
        Listen {
            options: ListenOptions {
                transport: listen.transport,
                bind: listen.bind,
                path: listen.path.clone(),
                tls: tls.clone(),
                admission: admission.clone(),
            },
            advertise: listen.advertise.clone(),
        }
    };
    Ok(config.listen.iter().map(listener).collect())
}

/// Reads the files of `[tls]` as a start does, and a node's own certificate, if it has made one.
pub(crate) fn check_certificates(config: &Config) -> Result<(), TlsError> {
    let tls = &config.tls;
    ClientTls::new(trust(config))?;
    let data = &config.node.data_dir;
    let folder = if config.node.roles.len() > 1 { data.join(Role::Control.name()) } else { data.clone() };
    let own = (folder.join("tls.crt"), folder.join("tls.key"));
    match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => ServerTls::from_files(cert, key).map(drop),
        _ if own.0.exists() => ServerTls::from_files(own.0, own.1).map(drop),
        _ => Ok(()),
    }
}

fn trust(config: &Config) -> ClientTlsOptions {
    let tls = &config.tls;
    ClientTlsOptions { verify: tls.verify, ca_file: tls.ca_file.clone(), pin_file: tls.pin_file.clone() }
}

/// The certificate of the configuration, or one that the node makes for itself.
fn server_tls(config: &Config, data_dir: &Path) -> anyhow::Result<ServerTls> {
    if let (Some(cert), Some(key)) = (&config.tls.cert_file, &config.tls.key_file) {
        return Ok(ServerTls::from_files(cert, key)?);
    }
    let mut names: Vec<String> = Vec::new();
    for listen in &config.listen {
        names.extend(listen.advertise.as_ref().map(|uri| uri.host.clone()));
        names.push(listen.bind.ip().to_string());
    }
    names.sort();
    names.dedup();
    Ok(ServerTls::self_signed(&names, Some(data_dir))?)
}

/// Where control nodes can dial a worker.
fn worker_listeners(config: &Config, data_dir: &Path) -> anyhow::Result<Vec<longshore_worker::Listen>> {
    let listen = |Listen { options, advertise }| longshore_worker::Listen { options, advertise };
    Ok(listeners(config, data_dir)?.into_iter().map(listen).collect())
}

/// What a worker is started with.
pub(crate) fn worker_options(config: &Config) -> anyhow::Result<longshore_worker::Options> {
    let mut discovery = config.cluster.discovery.clone();
    let data_dir = folder(config, Role::Worker)?;
    // On a node with both roles the listeners are the control node's.
    let listens = !config.has_role(Role::Control);
    let listen = if listens { worker_listeners(config, &data_dir)? } else { Vec::new() };
    if discovery.is_empty() && !listens {
        // A node with both roles finds itself.
        discovery.extend(config.listen.iter().filter_map(|listen| listen.advertise.clone()));
    }
    Ok(longshore_worker::Options {
        name: config.node.name.clone(),
        data_dir,
        cluster: config.cluster.name.clone(),
        listen,
        labels: config.node.labels.clone(),
        discovery,
        resolver: resolver(config, Role::Worker),
        secret: Secret::from_file(config.auth.worker_secret())?,
        credential: config.auth.worker_credential.clone(),
        dial: dial_options(config, Role::Worker)?,
        runtimes: config.worker.runtimes.clone(),
        session: session(config),
        backoff: Backoff::new(config.timers.reconnect_min, config.timers.reconnect_max),
        release: RELEASE.to_owned(),
        on_stop: match config.worker.on_stop {
            OnStop::Keep => longshore_worker::OnStop::KeepTasks,
            OnStop::Stop => longshore_worker::OnStop::StopTasks,
        },
    })
}
