//! The configuration of a node: defaults, then the TOML file, then `conf.d/*.toml` beside it, then `LONGSHORE_…`
//! environment variables; validated as a whole.
//!
//! A later source replaces single keys of an earlier one; lists (and all `[[listen]]` entries together) are replaced
//! whole. `[node] name` is `LONGSHORE_NODE_NAME` in the environment; lists are separated by commas there. Durations
//! have units (`"250ms"`, `"1m 30s"`). Relative paths in files are relative to the main file's folder.
//!
//! Owns the keys and what they may hold. Knows no component: `src/` turns the values into each component's options.
//! Never reads a secret (it knows only their paths), and never prints the one that a URL may hold.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod config;
mod environment;
mod error;
mod file;
mod listen;
mod load;
mod proxy;
mod resolve;
mod suggest;
mod values;

pub use config::{
    Api, ApiTls, Auth, Cluster, Config, Control, Dns, Limits, Loopback, Node, OnStop, Parting, Snapshots, Timers, Tls,
    Worker,
};
pub use error::ConfigError;
pub use listen::Listen;
pub use load::load;
pub use proxy::{NoProxy, NoProxyRule, Proxy, ProxyScheme, ProxySource, ProxyUrl};
