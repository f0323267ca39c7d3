//! Whether this node still leads: a short question to the voters, beside openraft's own queue (Raft §6.4).
//!
//! A voter says yes while its vote is the asker's, as its log keeps it: that is set before the voter's promise to another
//! candidate leaves it, and never goes back. So a majority that says yes after a read began shows that nobody else has led before.
//!
//! The index is what this node had applied by then, in its own term, and what it had told others to be committed. The first
//! covers all that was acknowledged: by itself, which answers when it has applied, or by leaders before it, whose entries
//! come before its own. The second covers what was seen without being acknowledged: another node may apply an entry, and
//! answer reads from it, before this one does. Never by a lease.

use super::engine::Engine;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use longshore_transport::Session;
use longshore_wire::peer::{CONFIRM_VERSION, Confirm, Confirmed, PeerRequest};
use longshore_wire::{NodeId, decode, encode};
use openraft::async_runtime::WatchReceiver as _;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Those who answered last are asked first; if they do not within this, all are.
const HEDGE: Duration = Duration::from_millis(10);
/// Nobody is waited for longer; then openraft asks in its own way.
const PATIENCE: Duration = Duration::from_millis(300);

/// Who answered last: a majority together with this node.
pub(super) type Quick = BTreeSet<NodeId>;

/// The last index that others were told to be committed. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Told(Arc<Telling>);

#[derive(Debug, Default)]
struct Telling {
    index: AtomicU64,
    hurry: Notify,
}

impl Told {
    /// To be called before the message leaves.
    pub(super) fn note(&self, committed: u64) {
        self.0.index.fetch_max(committed, Ordering::SeqCst);
    }

    /// Somebody waits for others to be told what is committed.
    pub(super) fn hurry(&self) {
        self.0.hurry.notify_waiters();
    }

    /// Resolves when somebody begins to wait.
    pub(super) async fn hurried(&self) {
        self.0.hurry.notified().await;
    }

    fn index(&self) -> u64 {
        self.0.index.load(Ordering::SeqCst)
    }
}

/// The index that a read must have seen; `None` when no majority has said yes, or nothing of this term is applied yet.
pub(super) async fn read_index(engine: &Engine, quick: &mut Quick) -> Option<u64> {
    let me = engine.0.node;
    let applied = engine.0.view.image().1.filter(|applied| applied.leader == me)?;
    let index = applied.index.max(engine.0.told.index());
    let asked = Confirm { leader: me, term: applied.term };
    let voters = engine.0.raft.metrics().borrow_watched().membership_config.membership().get_joint_config().clone();
    let mut yes = Quick::new();
    if holds(engine, asked) {
        yes.insert(me);
    }
    let first: Quick = quick.iter().copied().filter(|node| *node != me).collect();
    let asking = async {
        let some =
            !first.is_empty() && timeout(HEDGE, ask(engine, asked, &voters, &first, &mut yes)).await.unwrap_or(false);
        let all = || voters.iter().flatten().copied().filter(|node| *node != me).collect::<Quick>();
        some || ask(engine, asked, &voters, &all(), &mut yes).await
    };
    let confirmed = timeout(PATIENCE, asking).await.unwrap_or(false);
    *quick = yes;
    confirmed.then_some(index)
}

/// Whether this node's vote is the asker's.
pub(super) fn holds(engine: &Engine, asked: Confirm) -> bool {
    engine.0.log.ballot().is_some_and(|ballot| (ballot.node, ballot.term) == (asked.leader, asked.term))
}

/// Asks these nodes until a majority has said yes.
async fn ask(engine: &Engine, asked: Confirm, voters: &[BTreeSet<NodeId>], nodes: &Quick, yes: &mut Quick) -> bool {
    let sessions = nodes.iter().filter_map(|node| Some((*node, engine.0.peers.session(*node)?)));
    let body = encode(&PeerRequest::Confirm(asked));
    let mut answers: FuturesUnordered<_> = sessions
        .filter(|(_, session)| session.peer().version >= CONFIRM_VERSION)
        .map(|(node, session)| {
            let body = body.clone();
            async move { (node, says_yes(&session, body).await) }
        })
        .collect();
    while !is_majority(voters, yes) {
        match answers.next().await {
            Some((node, true)) => drop(yes.insert(node)),
            Some((_, false)) => (),
            None => return false,
        }
    }
    true
}

async fn says_yes(session: &Session, body: Vec<u8>) -> bool {
    let reply = session.request(body, PATIENCE).await;
    reply.is_ok_and(|reply| decode::<Confirmed>(&reply).is_ok_and(|confirmed| confirmed.holds))
}

/// Of every set, while the group changes from one to another.
fn is_majority(voters: &[BTreeSet<NodeId>], yes: &Quick) -> bool {
    !voters.is_empty() && voters.iter().all(|set| set.intersection(yes).count() * 2 > set.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(numbers: &[u64]) -> BTreeSet<NodeId> {
        numbers.iter().copied().map(NodeId::from).collect()
    }

    #[test]
    fn a_majority_of_every_set() {
        assert!(is_majority(&[nodes(&[1])], &nodes(&[1])));
        assert!(is_majority(&[nodes(&[1, 2, 3])], &nodes(&[1, 3])));
        assert!(!is_majority(&[nodes(&[1, 2, 3])], &nodes(&[1, 9])));
        assert!(!is_majority(&[nodes(&[1, 2])], &nodes(&[1])));
        assert!(!is_majority(&[nodes(&[1, 2, 3]), nodes(&[3, 4, 5])], &nodes(&[1, 2, 3])));
        assert!(is_majority(&[nodes(&[1, 2, 3]), nodes(&[3, 4, 5])], &nodes(&[1, 3, 4])));
        assert!(!is_majority(&[], &nodes(&[1])));
    }
}
