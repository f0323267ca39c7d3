//! Decides what becomes of a worker that asks to be driven.
//!
//! Accepts only after a read index has proved that this node's state is not behind: a stale owner would take tasks that
//! it has not heard of for superfluous and stop them.

use crate::peers::Peers;
use crate::proxy::Proxies;
use crate::raft::Group;
use crate::ring::{self, Owner};
use longshore_state::{Command, State};
use longshore_transport::Peer;
use longshore_wire::edge::{Accepted, Attach, AttachReply};
use longshore_wire::{Code, Epoch, Failure, NodeId, Role};
use std::time::Duration;
use tokio::time::Instant;

/// How long an answer is held back while the ring may be about to change: when an owner has died, its workers are taken
/// on the moment the ring has been repaired, instead of at the end of their own pauses.
const HOLD: Duration = Duration::from_secs(3);
/// The answer leaves so long before the worker's own deadline.
const MARGIN: Duration = Duration::from_millis(500);
/// When nobody can drive the worker now, it comes back after so many milliseconds.
const RETRY_MS: u64 = 300;
/// The node's applied state follows a commit within this, or something is wrong.
const APPLY: Duration = Duration::from_secs(5);

/// Decides about attaching workers.
#[derive(Debug)]
pub(crate) struct Attaching {
    pub(crate) me: NodeId,
    pub(crate) name: String,
    pub(crate) group: Group,
    pub(crate) peers: Peers,
    pub(crate) proxies: Proxies,
}

/// What the state says at one moment.
enum Verdict {
    Reply(AttachReply),
    /// Ask again after the next change; when time is over, this is the answer.
    Hold(AttachReply),
}

impl Attaching {
    /// Registers the worker where its record differs, and says who drives it.
    ///
    /// # Errors
    /// What the state refuses, such as a control node's id used by a worker.
    pub(crate) async fn decide(&self, peer: &Peer, attach: &Attach, deadline: Instant) -> Result<AttachReply, Failure> {
        let end = (deadline - MARGIN).min(Instant::now() + HOLD);
        // Who is known is registered anew by its owner alone: a clone must not take a worker's place in the state.
        if self.group.state().node(peer.node).is_none()
            && let Some(answer) = self.settle_registration(peer.node, attach).await
        {
            return answer;
        }
        let mut changed = self.group.changed();
        let mut sessions = self.peers.changed();
        loop {
            changed.borrow_and_update();
            sessions.borrow_and_update();
            let last = match self.verdict(&self.group.state(), peer, attach.epoch) {
                Verdict::Reply(AttachReply::Accepted(_)) => return self.take_on(peer, attach).await,
                Verdict::Reply(reply) => return Ok(reply),
                Verdict::Hold(last) => last,
            };
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(end) => return Ok(last),
                Ok(()) = changed.changed() => (),
                Ok(()) = sessions.changed() => (),
            }
        }
    }

    /// Takes on a worker that this node owns, unless it is a clone of one that is here.
    async fn take_on(&self, peer: &Peer, attach: &Attach) -> Result<AttachReply, Failure> {
        if let Some(refusal) = self.proxies.refuse_clone(peer, attach.boot).await {
            return Ok(refusal);
        }
        if let Some(answer) = self.settle_registration(peer.node, attach).await {
            return answer;
        }
        match self.verdict(&self.group.state(), peer, attach.epoch) {
            Verdict::Reply(reply @ AttachReply::Accepted(_)) => Ok(self.proved(reply, peer.node).await),
            Verdict::Reply(reply) | Verdict::Hold(reply) => Ok(reply),
        }
    }

    /// Registers the worker; an answer only when that does not succeed.
    async fn settle_registration(&self, worker: NodeId, attach: &Attach) -> Option<Result<AttachReply, Failure>> {
        let failure = self.register(worker, attach).await.err()?;
        Some(match failure.code {
            Code::NoQuorum | Code::Unavailable | Code::Timeout | Code::Busy => Ok(wait(failure.message)),
            _ => Err(failure),
        })
    }

    fn verdict(&self, state: &State, peer: &Peer, seen: Epoch) -> Verdict {
        let (worker, version) = (peer.node, peer.version);
        match ring::owner(state, self.me, worker) {
            Owner::Me(epoch) if epoch < seen => {
                Verdict::Hold(wait(format!("control node '{}' is behind the ring; it catches up", self.name)))
            }
            Owner::Me(epoch) => self.accepted(state, worker, epoch),
            Owner::Other(owner) => {
                let elsewhere = AttachReply::Elsewhere {
                    owner: owner.id,
                    name: owner.name.clone(),
                    addresses: owner.addresses.iter().filter(|uri| uri.is_known_to(version)).cloned().collect(),
                };
                match (self.peers.session(owner.id).is_some(), owner.alive) {
                    (true, _) => Verdict::Reply(elsewhere),
                    (false, true) => Verdict::Hold(elsewhere),
                    (false, false) => Verdict::Hold(wait(format!("your owner '{}' is away", owner.name))),
                }
            }
            Owner::Nobody => Verdict::Hold(wait("the ring has no owners yet".to_owned())),
        }
    }

    fn accepted(&self, state: &State, worker: NodeId, epoch: Epoch) -> Verdict {
        let Some(record) = state.node(worker) else {
            return Verdict::Hold(wait("your registration has not reached this node yet".to_owned()));
        };
        Verdict::Reply(AttachReply::Accepted(Accepted {
            epoch,
            partition: record.partition(),
            short_id: record.short_id,
            generation: record.generation,
            owner: self.me,
            owner_name: self.name.clone(),
        }))
    }

    /// The acceptance, if this node's state is proved to be up to date and still says the same.
    async fn proved(&self, reply: AttachReply, worker: NodeId) -> AttachReply {
        if let Err(failure) = self.group.read_index().await {
            return wait(failure.message);
        }
        match (&reply, ring::owner(&self.group.state(), self.me, worker)) {
            (AttachReply::Accepted(accepted), Owner::Me(epoch)) if epoch == accepted.epoch => reply,
            _ => wait("the ring has just changed".to_owned()),
        }
    }

    async fn register(&self, worker: NodeId, attach: &Attach) -> Result<(), Failure> {
        if is_registered(&self.group.state(), worker, attach) {
            return Ok(());
        }
        let command = Command::RegisterWorker {
            node: worker,
            name: attach.name.clone(),
            boot: attach.boot,
            labels: attach.labels.clone(),
            release: attach.release.clone(),
            runtimes: attach.runtimes.clone(),
            addresses: attach.published.clone(),
        };
        self.group.propose_one(command).await?;
        let mut changed = self.group.changed();
        let boot = || self.group.state().node(worker).and_then(|node| node.boot(Role::Worker));
        let applied = async {
            while boot() != Some(attach.boot) {
                changed.changed().await.ok()?;
            }
            Some(())
        };
        match tokio::time::timeout(APPLY, applied).await {
            Ok(Some(())) => Ok(()),
            _ => Err(Failure::unknown(
                Code::Timeout,
                "this control node is behind; its state does not follow the leader",
            )),
        }
    }
}

fn is_registered(state: &State, worker: NodeId, attach: &Attach) -> bool {
    state.node(worker).is_some_and(|node| {
        node.boot(Role::Worker) == Some(attach.boot)
            && node.name == attach.name
            && *node.labels == attach.labels
            && node.release == attach.release
            && *node.runtimes == *attach.runtimes
            && (node.is_control() || *node.addresses == *attach.published)
    })
}

fn wait(reason: String) -> AttachReply {
    AttachReply::Wait { retry_after_ms: RETRY_MS, reason }
}
