//! Arguments of `longshore token`.

use clap::{Args, Subcommand, ValueEnum};
use std::time::Duration;

/// `longshore token`
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token and print it, once
    Create(Create),
    /// All tokens
    List,
    /// End a token at once
    Revoke {
        /// Which
        name: String,
    },
}

/// `longshore token create`
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name: what the log says of its holder
    pub(crate) name: String,
    /// What its holder may do
    #[arg(long)]
    pub(crate) scope: Scope,
    /// How long it is valid, such as 30d [default: until it is revoked]
    #[arg(long, value_parser = super::duration, value_name = "DURATION")]
    pub(crate) expires: Option<Duration>,
}

/// What the holder of a token may do; each includes the one before.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Scope {
    /// Look
    Read,
    /// Change keys, apps and flows; ask workers
    Operate,
    /// Everything
    Admin,
}
