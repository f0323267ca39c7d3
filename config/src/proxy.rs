//! `[proxy]`: what a node dials through. The one place where a secret may stand in the configuration.
//!
//! The file comes first; a worker whose file names no proxy takes `HTTPS_PROXY` and `NO_PROXY` from the environment, as
//! other programs of its machine do. Owns what may be written; how a proxy is spoken to is not known here.

mod environment;
mod exceptions;
mod url;

pub use exceptions::{NoProxy, NoProxyRule};
pub use url::{ProxyScheme, ProxyUrl};

pub(crate) use environment::Variables;

use serde::Serialize;

/// `[proxy]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proxy {
    /// Where it is.
    pub url: ProxyUrl,
    /// What is dialled without it.
    #[serde(skip_serializing_if = "NoProxy::is_empty")]
    pub no_proxy: NoProxy,
    /// Who named it.
    #[serde(skip)]
    pub source: ProxySource,
}

/// Who named a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxySource {
    /// A file, or `LONGSHORE_PROXY_URL`: meant for this node, whatever its role.
    Configuration,
    /// `HTTPS_PROXY`: meant for what leaves this machine, so only workers follow it.
    Environment,
}
