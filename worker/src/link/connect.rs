//! From a URI to an owner that has accepted this worker.
//!
//! A session that only carries a tunnel stays open as long as the tunnel lives, and closes with it.

use super::engine::{LONGEST_WAIT, Owner, Step, Walk};
use super::relays::Relays;
use super::report::Reporter;
use crate::fence::Fence;
use crate::options::LinkStatus;
use longshore_discovery::Discovery;
use longshore_transport::{
    Carrier, DialOptions, Dialled, Ending, HandshakeError, Identity, Inbound, Incoming, Keyring, Link, Race, Session,
    SessionOptions, prove,
};
use longshore_wire::edge::{Accepted, Attach, AttachReply, OpenControl, ToControl};
use longshore_wire::handshake::RejectCode;
use longshore_wire::uri::TlsVerify;
use longshore_wire::{ClusterUri, Code, Endpoint, Failure, Labels, RequestId, Role, Transport, decode, encode};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Time for an answer to an attach; the owner may have to commit a registration first.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for connecting to an owner before the tunnel is taken: behind a firewall that drops, every second is lost.
const OWNER_CONNECT: Duration = Duration::from_secs(2);
/// Time for all of an owner's addresses together.
const OWNER_TOTAL: Duration = Duration::from_secs(8);

/// Addresses of a steered reconnect that are tried.
const MAX_STEERED: usize = 8;
/// Time for a session that has ended to say how.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// Troubles of single endpoints that are told together.
const TOLD: usize = 6;

/// Why there is no owner.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) text: String,
    /// How long the cluster asks to stay away.
    pub(super) wait: Option<Duration>,
    /// Where the cluster sends this worker.
    pub(super) steer: Option<Steer>,
    /// Whether every control node would say the same.
    everywhere: bool,
}

/// Where a control node sent this worker when it ended the session.
#[derive(Debug, Clone)]
pub(super) struct Steer {
    addresses: Vec<ClusterUri>,
    /// What carried that session: nothing less safe is dialled.
    present: Carrier,
}

impl Trouble {
    pub(super) fn new(text: impl ToString) -> Self {
        Self { text: text.to_string(), wait: None, steer: None, everywhere: false }
    }

    /// The session has ended. What its end asks for is obeyed within bounds.
    pub(super) fn lost(ending: Ending, present: Carrier) -> Self {
        let addresses: Vec<_> = ending.go_to.into_iter().take(MAX_STEERED).collect();
        let steer = (!addresses.is_empty()).then_some(Steer { addresses, present });
        let wait = ending.retry_after.map(|wait| wait.min(LONGEST_WAIT));
        Self { wait, steer, ..Self::new(format!("the session was lost: {}", ending.reason.message)) }
    }

    fn refused(error: &HandshakeError) -> Self {
        let everywhere = error.code() == Some(RejectCode::Revoked);
        let wait = error.retry_after().map(|wait| wait.min(LONGEST_WAIT));
        Self { wait, everywhere, ..Self::new(error) }
    }
}

/// What went wrong at several endpoints.
#[derive(Debug, Default)]
struct Troubles {
    texts: BTreeSet<String>,
    wait: Option<Duration>,
    steer: Option<Steer>,
}

impl Troubles {
    fn add(&mut self, trouble: Trouble) {
        tracing::debug!(reason = trouble.text, "this endpoint leads nowhere");
        self.wait = trouble.wait.or(self.wait);
        self.steer = trouble.steer.or(self.steer.take());
        self.texts.insert(trouble.text);
    }

    /// All of it in one sentence: in the same order each time, so that a log says it once although the dice order the
    /// endpoints anew.
    fn whole(self, nobody: &str) -> Trouble {
        let more = self.texts.len().saturating_sub(TOLD);
        let told = self.texts.into_iter().take(TOLD).collect::<Vec<_>>().join("; ");
        let text = match more {
            _ if told.is_empty() => nobody.to_owned(),
            0 => told,
            more => format!("{told}; and {more} more"),
        };
        Trouble { wait: self.wait, steer: self.steer, ..Trouble::new(text) }
    }
}

/// A session that says goodbye when nobody uses it any more.
struct Guard(Session);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.close(Failure::new(Code::Unavailable, "the worker leaves this session"));
    }
}

/// A session with a control node, and the one that carries it.
pub(crate) struct Line {
    guard: Arc<Guard>,
    inbound: Option<Inbound>,
    /// The session around a tunnel.
    base: Option<Arc<Guard>>,
}

impl Line {
    /// A session that a control node has dialled.
    pub(crate) fn dialled_by(session: Session, inbound: Inbound) -> Self {
        Self { guard: Arc::new(Guard(session)), inbound: Some(inbound), base: None }
    }

    pub(super) fn session(&self) -> Session {
        self.guard.0.clone()
    }

    pub(super) const fn take_inbound(&mut self) -> Option<Inbound> {
        self.inbound.take()
    }

    /// What carries the session that was dialled.
    pub(super) fn carrier(&self) -> Carrier {
        self.dialled().0.peer().carrier
    }

    /// The session that was dialled: this one, or the one around the tunnel.
    fn dialled(&self) -> &Arc<Guard> {
        self.base.as_ref().unwrap_or(&self.guard)
    }

    /// Gives it up. Whoever still needs the session, as the carrier of a tunnel, keeps it; then it goes on being served,
    /// which refuses the former owner's orders by their epoch.
    pub(super) fn release(self, serving: CancellationToken) {
        if Arc::strong_count(&self.guard) == 1 {
            serving.cancel();
        }
    }
}

/// A session whose owner drives this worker.
pub(super) struct Driven {
    pub(super) line: Line,
    pub(super) accepted: Accepted,
}

impl Driven {
    pub(super) fn status(&self) -> LinkStatus {
        let peer = self.line.guard.0.peer();
        LinkStatus {
            owner: self.accepted.owner,
            owner_name: self.accepted.owner_name.clone(),
            epoch: self.accepted.epoch,
            short_id: self.accepted.short_id,
            carrier: peer.carrier,
            remote: peer.remote,
        }
    }
}

/// How this worker presents itself.
pub(crate) struct Presence {
    pub(crate) name: String,
    pub(crate) boot: RequestId,
    pub(crate) labels: Labels,
    pub(crate) release: String,
    pub(crate) runtimes: Vec<String>,
    /// Where control nodes can dial it.
    pub(crate) published: Vec<ClusterUri>,
}

/// Finds and enters owners.
pub(crate) struct Connector {
    pub(crate) identity: Identity,
    pub(crate) keyring: Keyring,
    pub(crate) discovery: Discovery,
    pub(crate) uris: Vec<ClusterUri>,
    pub(crate) dial: DialOptions,
    pub(crate) session: SessionOptions,
    pub(crate) fence: Arc<Fence>,
    pub(crate) presence: Presence,
    pub(crate) reporter: Reporter,
    pub(crate) relays: Arc<Relays>,
    pub(crate) tracker: TaskTracker,
}

impl Connector {
    /// Tries every endpoint of the cluster once; the dead ones cost little.
    pub(super) async fn connect(&self) -> Result<Driven, Trouble> {
        if self.uris.is_empty() {
            let text = "cluster.discovery is empty; this worker waits for a control node to dial it (`longshore node connect URI` there)";
            return Err(Trouble::new(text));
        }
        let resolution = self.discovery.resolve_all(&self.uris).await.map_err(Trouble::new)?;
        let mut troubles = Troubles::default();
        let mut race = Race::new(resolution.endpoints, &self.dial);
        while let Some(dialled) = race.next().await {
            match self.arrive(dialled).await {
                Ok(driven) => return Ok(driven),
                Err(found) if found.everywhere => return Err(found),
                Err(found) => troubles.add(found),
            }
        }
        Err(troubles.whole("the cluster's URIs lead to no endpoint"))
    }

    /// Enters over a connection, and goes on to the owner.
    async fn arrive(&self, dialled: Dialled) -> Result<Driven, Trouble> {
        let line = self.enter(dialled).await?;
        self.settle(line).await
    }

    /// Enters a new owner while the present session goes on.
    pub(super) async fn move_to(&self, owner: &Owner, present: &Line) -> Result<Driven, Trouble> {
        let line = self.reach(owner, present.dialled()).await?;
        self.settle(line).await
    }

    /// Attaches, and goes wherever the answers send it, until somebody accepts.
    pub(super) async fn settle(&self, mut line: Line) -> Result<Driven, Trouble> {
        let mut walk = Walk::default();
        loop {
            let reply = self.attach(&line).await?;
            match walk.step(reply, self.fence.known().epoch) {
                Step::Drive(accepted) => return self.accept(line, accepted).await,
                Step::Leave(text, wait) => return Err(Trouble { wait, ..Trouble::new(text) }),
                Step::Seek(owner) => {
                    let base = Arc::clone(line.dialled());
                    if let Some(inbound) = line.take_inbound() {
                        self.tracker.spawn(drain(inbound));
                    }
                    line = self.reach(&owner, &base).await?;
                }
            }
        }
    }

    async fn accept(&self, line: Line, accepted: Accepted) -> Result<Driven, Trouble> {
        let cluster_id = line.guard.0.peer().cluster_id;
        self.fence.accept(accepted.epoch, accepted.short_id, cluster_id).await.map_err(Trouble::new)?;
        if let Some(id) = cluster_id {
            // Set once: from now on a cluster of the same name with another id is refused in the handshake.
            let _ = self.identity.cluster_id.set(id);
        }
        Ok(Driven { line, accepted })
    }

    async fn attach(&self, line: &Line) -> Result<AttachReply, Trouble> {
        let attach = Attach {
            name: self.presence.name.clone(),
            boot: self.presence.boot,
            labels: self.presence.labels.clone(),
            release: self.presence.release.clone(),
            runtimes: self.presence.runtimes.clone(),
            epoch: self.fence.known().epoch,
            published: self.presence.published.clone(),
            report: self.reporter.report(),
        };
        let session = &line.guard.0;
        match session.request(encode(&ToControl::Attach(attach)), ATTACH_TIMEOUT).await {
            Ok(reply) => decode(&reply).map_err(Trouble::new),
            Err(failure) if session.is_closed() => {
                let ending = tokio::time::timeout(LAST_WORDS, session.ended()).await;
                Err(ending.map_or_else(|_| Trouble::new(failure), |ending| Trouble::lost(ending, line.carrier())))
            }
            Err(failure) => Err(Trouble::new(failure)),
        }
    }

    /// Goes where a control node has sent this worker. Any proven control node may answer there; it says who the owner is.
    pub(super) async fn go(&self, steer: &Steer) -> Result<Driven, Trouble> {
        let mut troubles = Troubles::default();
        let endpoints = self.safe_endpoints(&steer.addresses, steer.present, &mut troubles).await;
        let mut race = Race::new(endpoints, &self.brief());
        while let Some(dialled) = race.next().await {
            match self.arrive(dialled).await {
                Ok(driven) => return Ok(driven),
                Err(found) => troubles.add(found),
            }
        }
        Err(troubles.whole("no address that the cluster has sent this worker to may be used"))
    }

    /// Dialling that gives up early.
    fn brief(&self) -> DialOptions {
        DialOptions { connect_timeout: OWNER_CONNECT.min(self.dial.connect_timeout), ..self.dial.clone() }
    }

    /// The endpoints behind addresses that the cluster names, as far as they may be dialled.
    async fn safe_endpoints(
        &self,
        addresses: &[ClusterUri],
        present: Carrier,
        troubles: &mut Troubles,
    ) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        for uri in addresses {
            match self.discovery.resolve(uri).await {
                Ok(found) => endpoints.extend(found.endpoints.into_iter().filter_map(|one| as_safe_as(present, one))),
                Err(error) => troubles.add(Trouble::new(error)),
            }
        }
        // Whoever came in over QUIC stays with it where it is spoken.
        endpoints.sort_by_key(|endpoint| endpoint.transport != Transport::Quic);
        endpoints
    }

    /// Dials the owner; if that fails, asks the node behind `base` for a tunnel.
    async fn reach(&self, owner: &Owner, base: &Arc<Guard>) -> Result<Line, Trouble> {
        let dialled = tokio::time::timeout(OWNER_TOTAL, self.dial_owner(owner, base.0.peer().carrier)).await;
        let trouble = match dialled {
            Ok(Ok(line)) => {
                tracing::info!(owner = owner.name, "redirected to the owner");
                return Ok(line);
            }
            Ok(Err(trouble)) => trouble.text,
            Err(_) => format!("its addresses did not answer within {} s", OWNER_TOTAL.as_secs()),
        };
        tracing::info!(owner = owner.name, reason = trouble, "the owner cannot be dialled; asking for a tunnel");
        let tunnel = self.tunnel(owner, base).await;
        tunnel.map_err(|found| Trouble {
            text: format!("owner {}: {trouble}; and no tunnel: {}", owner.name, found.text),
            ..found
        })
    }

    async fn dial_owner(&self, owner: &Owner, present: Carrier) -> Result<Line, Trouble> {
        let mut troubles = Troubles::default();
        let endpoints = self.safe_endpoints(&owner.addresses, present, &mut troubles).await;
        let mut race = Race::new(endpoints, &self.brief());
        while let Some(dialled) = race.next().await {
            let endpoint = dialled.endpoint.clone();
            match self.enter(dialled).await {
                Ok(line) if line.guard.0.peer().node == owner.node => return Ok(line),
                Ok(_) => troubles.add(Trouble::new(format!("{endpoint}: another node answers there"))),
                Err(found) => troubles.add(found),
            }
        }
        Err(troubles.whole("it publishes no address that this worker may use"))
    }

    async fn tunnel(&self, owner: &Owner, base: &Arc<Guard>) -> Result<Line, Trouble> {
        let stream = base.0.open(encode(&OpenControl::Tunnel { to: owner.node })).await.map_err(Trouble::new)?;
        let line = self.establish(Link::tunnel(stream)).await?;
        if line.guard.0.peer().node != owner.node {
            return Err(Trouble::new("the tunnel leads to another node"));
        }
        Ok(Line { base: Some(Arc::clone(base)), ..line })
    }

    async fn enter(&self, dialled: Dialled) -> Result<Line, Trouble> {
        let link = dialled.result.map_err(Trouble::new)?;
        let entered = self.establish(link).await;
        entered.map_err(|trouble| Trouble { text: format!("{}: {}", dialled.endpoint, trouble.text), ..trouble })
    }

    async fn establish(&self, link: Link) -> Result<Line, Trouble> {
        let proven = prove(link, &self.identity, &self.keyring, Role::Control).await;
        let proven = proven.map_err(|error| Trouble::refused(&error))?;
        let (session, inbound) = Session::start_with(proven, self.session.clone(), Arc::clone(&self.relays) as _);
        Ok(Line { guard: Arc::new(Guard(session)), inbound: Some(inbound), base: None })
    }
}

/// An address that the cluster names, as long as it protects what is said no less than the present session does: a worker
/// that came in over TLS is never sent on to plaintext, nor talked out of checking certificates. QUIC is for those who
/// came in over QUIC: nobody else has asked for it.
fn as_safe_as(present: Carrier, endpoint: Endpoint) -> Option<Endpoint> {
    let encrypted = matches!(present, Carrier::Tls | Carrier::Wss | Carrier::Quic);
    let tls_verify = endpoint.tls_verify.filter(|verify| *verify != TlsVerify::Binding);
    let asked = endpoint.transport != Transport::Quic || present == Carrier::Quic;
    (asked && (endpoint.transport.is_encrypted() || !encrypted)).then_some(Endpoint { tls_verify, ..endpoint })
}

/// Takes what arrives on a session that nobody is driven by, and refuses it: a dropped request is answered as failed.
async fn drain(mut inbound: Inbound) {
    while let Some(incoming) = inbound.next().await {
        if let Incoming::Request(request) = incoming {
            request.reply(Err(Failure::new(Code::NotOwner, "this worker is driven by another control node")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_obeyed_within_bounds() {
        let place: ClusterUri = "longshore://c2.example".parse().unwrap();
        let reason = Failure::new(Code::Busy, "full");
        let ending =
            Ending { reason: reason.clone(), retry_after: Some(Duration::MAX), go_to: vec![place.clone(); 100] };
        let trouble = Trouble::lost(ending, Carrier::Wss);
        assert_eq!(trouble.wait, Some(LONGEST_WAIT));
        let steer = trouble.steer.unwrap();
        assert_eq!((steer.addresses.len(), steer.present), (MAX_STEERED, Carrier::Wss));
        let plain = Trouble::lost(Ending { reason, retry_after: None, go_to: Vec::new() }, Carrier::Tcp);
        assert!(plain.wait.is_none() && plain.steer.is_none());
    }

    #[test]
    fn never_a_step_down() {
        let endpoint = |text: &str, tls_verify| Endpoint {
            transport: text.parse().unwrap(),
            address: "127.0.0.1:1".parse().unwrap(),
            host: "c1".into(),
            path: "/".into(),
            tls_verify,
        };
        assert!(as_safe_as(Carrier::Wss, endpoint("tcp", None)).is_none());
        assert!(as_safe_as(Carrier::Tls, endpoint("wss", None)).is_some());
        assert!(as_safe_as(Carrier::Tcp, endpoint("ws", None)).is_some());
        assert!(as_safe_as(Carrier::Quic, endpoint("tcp", None)).is_none());
        assert!(as_safe_as(Carrier::Quic, endpoint("quic", None)).is_some());
        assert!(as_safe_as(Carrier::Wss, endpoint("quic", None)).is_none());
        let verify = |given| as_safe_as(Carrier::Tls, endpoint("tls", given)).unwrap().tls_verify;
        assert_eq!(verify(Some(TlsVerify::Binding)), None);
        assert_eq!(verify(Some(TlsVerify::Ca)), Some(TlsVerify::Ca));
    }
}
