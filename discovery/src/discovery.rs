//! The entry: resolves URIs and keeps the last known good answer of each.

use crate::hickory::Hickory;
use crate::negative::Patient;
use crate::order::Dice;
use crate::walk::{Unanswered, Walked, walk};
use crate::{Nameless, Resolution, Resolve, ResolverOptions, Step};
use longshore_wire::ClusterUri;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

/// A node knows the URIs of its configuration and of its peers; a caller that makes up URIs must not fill the memory.
const MAX_KNOWN: usize = 1024;

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
        /// What was asked, and what the answers were, in one line.
        tried: String,
        /// The same, step by step.
        steps: Vec<Step>,
    },
    /// DNS does not answer, and there is no earlier answer to fall back on.
    #[error("{uri}: DNS does not answer ({reason}) and nothing is known from before; check the name servers")]
    Unreachable {
        /// The URI.
        uri: ClusterUri,
        /// What went wrong.
        reason: String,
        /// What was asked, step by step.
        steps: Vec<Step>,
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
    known: Arc<Mutex<HashMap<ClusterUri, Known>>>,
    nameless: Nameless,
}

/// What a URI led to when DNS last answered.
struct Known {
    found: Resolution,
    at: Instant,
    /// Whether it was already said that this is fallen back on.
    told: bool,
}

impl Discovery {
    /// Asks the name servers of `options`.
    ///
    /// # Errors
    /// [`DiscoveryError::Setup`].
    pub fn new(options: ResolverOptions) -> Result<Self, DiscoveryError> {
        let resolver = Hickory::new(&options).map_err(DiscoveryError::Setup)?;
        Ok(Self { nameless: options.nameless, ..Self::with_resolver(Arc::new(resolver)) })
    }

    /// Asks `resolver`.
    pub fn with_resolver(resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver: Arc::new(Patient::new(resolver)), known: Arc::default(), nameless: Nameless::Fail }
    }

    /// Resolves anew, whatever the TTL of an earlier answer; only that a record is absent is remembered for a moment. While
    /// DNS fails, the last known good answer is given and marked stale.
    ///
    /// An endpoint's host is the name whose address it is: the SRV target, where an SRV record led to it. TLS checks
    /// that name, so certificates name the nodes and not the cluster.
    ///
    /// # Errors
    /// [`DiscoveryError::NotFound`] when DNS answers and there is no address; [`DiscoveryError::Unreachable`] when it
    /// does not answer and nothing is known from before.
    pub async fn resolve(&self, uri: &ClusterUri) -> Result<Resolution, DiscoveryError> {
        let found = self.ask(uri).await;
        match found {
            Err(error) if self.nameless == Nameless::LeaveToProxy && uri.ip().is_none() => {
                debug!(%uri, %error, "the name is left to the proxy");
                Ok(Resolution::left_to_proxy(uri, error.to_string()))
            }
            found => found,
        }
    }

    async fn ask(&self, uri: &ClusterUri) -> Result<Resolution, DiscoveryError> {
        let unanswered = if self.lock().contains_key(uri) { Unanswered::Stop } else { Unanswered::Guess };
        match walk(&self.resolver, uri, unanswered).await {
            Walked::Found(found) => {
                self.remember(uri, &found);
                Ok(found)
            }
            Walked::Nothing(steps) => {
                let tried = steps.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                Err(DiscoveryError::NotFound { uri: uri.clone(), tried, steps })
            }
            Walked::Failed { reason, rest } => self.fall_back(uri, &reason, rest),
        }
    }

    /// Resolves several URIs at once: in random order of the URIs, so that a fleet with one list spreads over it, each
    /// one's endpoints together in their order, none twice.
    ///
    /// # Errors
    /// Only when all of them fail.
    pub async fn resolve_all(&self, uris: &[ClusterUri]) -> Result<Resolution, DiscoveryError> {
        let mut uris = uris.to_vec();
        Dice::new().shuffle(&mut uris);
        let mut asked = JoinSet::new();
        for (number, uri) in uris.into_iter().enumerate() {
            let discovery = self.clone();
            asked.spawn(async move { (number, discovery.resolve(&uri).await) });
        }
        let mut answers = asked.join_all().await;
        answers.sort_by_key(|(number, _)| *number);
        merge(answers.into_iter().map(|(_, answer)| answer))
    }

    fn remember(&self, uri: &ClusterUri, found: &Resolution) {
        let mut known = self.lock();
        if known.len() >= MAX_KNOWN && !known.contains_key(uri) {
            let oldest = known.iter().min_by_key(|(_, known)| known.at).map(|(uri, _)| uri.clone());
            oldest.map(|oldest| known.remove(&oldest));
        }
        let before = known.insert(uri.clone(), Known { found: found.clone(), at: Instant::now(), told: false });
        drop(known);
        let plain = |found: &Resolution| found.endpoints.iter().any(|endpoint| !endpoint.transport.is_encrypted());
        if uri.transport.is_none() && plain(found) && !before.as_ref().is_some_and(|before| plain(&before.found)) {
            warn!(%uri, "the DNS zone offers plaintext transports (LS+D2T or LS+D2W); remove its records to forbid them");
        }
        if before.is_some_and(|before| before.told) {
            info!(%uri, "DNS answers again");
        }
    }

    fn fall_back(&self, uri: &ClusterUri, reason: &str, rest: Resolution) -> Result<Resolution, DiscoveryError> {
        // What got an answer just now comes first.
        let mut whole = rest;
        if let Some(known) = self.lock().get_mut(uri) {
            let age = known.at.elapsed();
            // Once an outage: a worker without its cluster comes here every few seconds.
            match std::mem::replace(&mut known.told, true) {
                false => warn!(%uri, reason, ?age, "DNS does not answer; going on with the last known addresses"),
                true => debug!(%uri, reason, ?age, "DNS still does not answer"),
            }
            append(&mut whole, Resolution { steps: Vec::new(), age: Some(age), ..known.found.clone() });
        }
        if whole.endpoints.is_empty() {
            let (uri, reason) = (uri.clone(), reason.to_owned());
            return Err(DiscoveryError::Unreachable { uri, reason, steps: whole.steps });
        }
        whole.stale = true;
        Ok(whole)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClusterUri, Known>> {
        // A poisoned lock still holds whole answers: nothing panics between two of its writes.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn append(all: &mut Resolution, more: Resolution) {
    for (endpoint, trail) in more.endpoints.into_iter().zip(more.trails) {
        if !all.endpoints.contains(&endpoint) {
            all.endpoints.push(endpoint);
            all.trails.push(trail);
        }
    }
    all.steps.extend(more.steps);
    all.stale |= more.stale;
    all.age = all.age.max(more.age);
    all.ttl = all.ttl.into_iter().chain(more.ttl).min();
}

fn merge(answers: impl Iterator<Item = Result<Resolution, DiscoveryError>>) -> Result<Resolution, DiscoveryError> {
    let mut whole: Option<Resolution> = None;
    let mut errors = Vec::new();
    for answer in answers {
        match (answer, &mut whole) {
            (Ok(found), Some(whole)) => append(whole, found),
            (Ok(found), None) => whole = Some(found),
            (Err(error), _) => {
                debug!(%error, "one of several URIs leads nowhere");
                errors.push(error);
            }
        }
    }
    match (whole, errors.len()) {
        (Some(whole), _) => Ok(whole),
        (None, 0) => Err(DiscoveryError::NoUris),
        (None, 1) => Err(errors.remove(0)),
        (None, _) => {
            Err(DiscoveryError::AllFailed(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
