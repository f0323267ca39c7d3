//! Dials workers that listen: once on request, and whenever a worker that this node owns has published an address and has
//! no session.
//!
//! What follows the handshake is the same as for a worker that dials in: it attaches, and is driven or sent on.

use crate::accept::Reception;
use longshore_discovery::{Discovery, DiscoveryError};
use longshore_transport::{Backoff, DialOptions, Peer, Race, call};
use longshore_wire::{ClusterUri, Code, Failure, NodeId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

/// How often the workers without session are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A worker that dials by itself comes back within this; only then it is dialled.
const PATIENCE: Duration = Duration::from_secs(3);
/// Workers dialled at a time.
const MAX_AT_ONCE: usize = 32;
/// Pauses between two attempts at one worker.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Dials workers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct DialBack {
    pub(crate) reception: Arc<Reception>,
    pub(crate) discovery: Discovery,
    pub(crate) dial: DialOptions,
}

impl std::fmt::Debug for DialBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DialBack").finish_non_exhaustive()
    }
}

/// An own worker without session.
struct Absent {
    backoff: Backoff,
    next: Instant,
    complaint: String,
}

impl DialBack {
    /// Dials the workers behind these addresses until one has proven itself, and serves it in the background.
    ///
    /// # Errors
    /// [`Code::NotFound`] when the addresses lead nowhere, [`Code::Unavailable`] when nobody is reached, and
    /// [`Code::Unauthenticated`] when who is reached is not one of this cluster's workers, or not the one expected.
    pub(crate) async fn connect(&self, uris: &[ClusterUri], expected: Option<NodeId>) -> Result<Peer, Failure> {
        let found = self.discovery.resolve_all(uris).await.map_err(|error| {
            let code = match error {
                DiscoveryError::NotFound { .. } => Code::NotFound,
                _ => Code::Unavailable,
            };
            Failure::new(code, error.to_string())
        })?;
        let mut failures = BTreeSet::new();
        let mut code = Code::Unavailable;
        let mut race = Race::new(found.endpoints, &self.dial);
        while let Some(dialled) = race.next().await {
            let link = match dialled.result {
                Ok(link) => link,
                Err(error) => {
                    failures.insert(error.to_string());
                    continue;
                }
            };
            match call(link, &self.reception.me, &*self.reception, expected).await {
                Ok(proven) => {
                    let peer = proven.peer.clone();
                    let reception = Arc::clone(&self.reception);
                    self.reception.loops.spawn_work(reception.serve(proven));
                    return Ok(peer);
                }
                Err(error) => {
                    code = Code::Unauthenticated;
                    failures.insert(format!("{}: {error}", dialled.endpoint));
                }
            }
        }
        Err(Failure::new(code, failures.into_iter().collect::<Vec<_>>().join("; ")))
    }

    /// Keeps dialling, as long as the node runs.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut absent: HashMap<NodeId, Absent> = HashMap::new();
        let mut dialling: JoinSet<(NodeId, Result<Peer, Failure>)> = JoinSet::new();
        let mut under_way = BTreeSet::new();
        let mut look = interval(LOOK);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(ended) = dialling.join_next() => {
                    let Ok((worker, result)) = ended else { continue };
                    under_way.remove(&worker);
                    if let (Err(failure), Some(entry)) = (result, absent.get_mut(&worker)) {
                        entry.complain(worker, failure.message);
                    }
                }
                _ = look.tick() => {
                    let lost = self.lost();
                    absent.retain(|worker, _| lost.contains_key(worker));
                    for (worker, addresses) in lost {
                        let entry = absent.entry(worker).or_insert_with(Absent::new);
                        if entry.next > Instant::now() || dialling.len() >= MAX_AT_ONCE || !under_way.insert(worker) {
                            continue;
                        }
                        entry.next = Instant::now() + entry.backoff.next();
                        let this = self.clone();
                        dialling.spawn(async move { (worker, this.connect(&addresses, Some(worker)).await) });
                    }
                }
            }
        }
    }

    /// The workers of this node that have published an address and have no session.
    fn lost(&self) -> HashMap<NodeId, Vec<ClusterUri>> {
        let state = self.reception.group.state();
        let proxies = &self.reception.workers.proxies;
        let wanted = state.workers().filter(|worker| {
            !worker.is_control()
                && !worker.addresses.is_empty()
                && proxies.owned(worker.id).is_some()
                && proxies.session(worker.id).is_none()
        });
        wanted.map(|worker| (worker.id, worker.addresses.to_vec())).collect()
    }
}

impl Absent {
    fn new() -> Self {
        Self { backoff: Backoff::new(PAUSES.0, PAUSES.1), next: Instant::now() + PATIENCE, complaint: String::new() }
    }

    fn complain(&mut self, worker: NodeId, why: String) {
        if self.complaint == why {
            tracing::debug!(%worker, why, "the worker is still not reached");
        } else {
            tracing::info!(%worker, why, "the worker has no session, and is not reached at its address");
            self.complaint = why;
        }
    }
}
