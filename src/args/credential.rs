//! Arguments of `longshore credential`.

use clap::{Args, Subcommand, ValueEnum};
use longshore_wire::credential::{DEFAULT_ITERATIONS, MAX_ITERATIONS, MIN_ITERATIONS};

/// `longshore credential`
#[derive(Debug, Subcommand)]
pub(crate) enum Credential {
    /// Make a credential and print its secret, once
    Create(Create),
    /// All credentials
    List,
    /// One credential, and which nodes use which of its secrets
    Show(CredentialName),
    /// Add a second secret, and print it once; with --finish end the older one
    Rotate(Rotate),
    /// End a credential for good: its sessions are cut at once
    Revoke(CredentialName),
}

/// `longshore credential create`
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What its holder may be
    pub(crate) role: RoleName,
    /// The only node that may use it: one that is there (name or id), or the name of one that is still to come
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// What auth.credential says [default: made up from role and node]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// PBKDF2 rounds of its secrets
    #[arg(long, default_value_t = DEFAULT_ITERATIONS, hide = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(i64::from(MIN_ITERATIONS)..=i64::from(MAX_ITERATIONS)))]
    pub(crate) iterations: u32,
}

/// `longshore credential rotate`
#[derive(Debug, Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    pub(crate) credential: CredentialName,
    /// End the older of the two secrets; sessions that still use it are cut
    #[arg(long)]
    pub(crate) finish: bool,
}

/// Which credential.
#[derive(Debug, Args)]
pub(crate) struct CredentialName {
    /// The credential
    pub(crate) credential: String,
}

/// A role, as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleName {
    /// A control node
    Control,
    /// A worker
    Worker,
    /// An operator's program that opens sessions
    Client,
}
