//! Packs the proposals that wait into one log entry, or into one request to the leader.
//!
//! While a batch is under way the next one gathers, so that load makes batches larger instead of queues longer. One at a time:
//! followers get one message after the other anyway, and a second batch beside it would only make both smaller.

use super::engine::{Engine, stopped};
use super::gathering::{Gathering, PATIENCE};
use super::leader_link;
use crate::machine::{decode_proposals, pack_proposals};
use bytes::Bytes;
use longshore_state::Outcome;
use longshore_wire::{Code, Failure};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// Most proposals in one entry.
pub(super) const BATCH_PROPOSALS: u32 = 1024;
/// Largest submission, in bytes: what still fits into a control frame together with its envelopes.
pub(super) const SUBMISSION_BYTES: usize = 1536 * 1024;
/// Submissions that may wait; more are refused as `Busy`.
pub(super) const QUEUE: usize = 8192;
/// Calls that are made one after the other, while the next batch gathers: each may write to a socket.
const TOGETHER: usize = 16;

/// Encoded proposals that go into the same entry, and who waits for their outcomes.
pub(super) struct Submission {
    /// How many.
    pub(super) count: u32,
    /// Their encodings, one behind the other.
    pub(super) proposals: Bytes,
    /// Nobody waits longer.
    pub(super) deadline: Instant,
    pub(super) asker: Asker,
}

/// What becomes of a submission.
pub(super) type Outcomes = Result<Vec<Outcome>, Failure>;

/// Who waits for what becomes of a submission.
pub(super) enum Asker {
    /// A future.
    Future(oneshot::Sender<Outcomes>),
    /// Whoever is called with it: must not wait.
    Call(Call),
}

/// Does something with what has become of a submission.
pub(super) type Call = Box<dyn FnOnce(Outcomes) + Send>;

impl Asker {
    /// Whether it is known that nobody waits any more.
    pub(super) fn has_gone(&self) -> bool {
        match self {
            Self::Future(reply) => reply.is_closed(),
            Self::Call(_) => false,
        }
    }

    pub(super) fn tell(self, outcomes: Outcomes) {
        match self {
            Self::Future(reply) => drop(reply.send(outcomes)),
            Self::Call(call) => call(outcomes),
        }
    }
}

/// Takes apart what another node has packed. Checks every proposal: an entry that cannot be read would stop every node.
pub(super) fn unpack(body: &[u8]) -> Result<(u32, Bytes), Failure> {
    /// Format, array mark and length in front of the proposals.
    const HEADER: usize = 6;
    let wrong = |why: String| Failure::new(Code::Unsupported, format!("proposals of another node are refused: {why}"));
    let proposals = decode_proposals(body).map_err(wrong)?;
    let count = u32::try_from(proposals.len()).unwrap_or(u32::MAX);
    if body.len() > SUBMISSION_BYTES || count > BATCH_PROPOSALS || body.get(2..HEADER) != Some(&count.to_be_bytes()) {
        return Err(wrong(format!("{count} proposals in {} bytes", body.len())));
    }
    Ok((count, Bytes::copy_from_slice(&body[HEADER..])))
}

/// Runs until the group stops.
pub(super) async fn run(engine: Engine, queue: mpsc::Receiver<Submission>, tracker: TaskTracker) {
    let stop = engine.0.stop.clone();
    let mut gathering = Gathering::new(queue, PATIENCE);
    while let Some(Some(batch)) = stop.run_until_cancelled(gathering.batch()).await {
        let (packed, deadline) = pack(&batch);
        let result = carry(&engine, packed, deadline).await;
        // Before anybody hears of it: who comes back at once is not to be taken for somebody else.
        gathering.carried();
        tell(batch, result, &tracker);
    }
    for submission in gathering.rest() {
        submission.asker.tell(Err(stopped()));
    }
}

/// One entry of a batch, and until when somebody waits for it.
fn pack(batch: &[Submission]) -> (Bytes, Instant) {
    let bytes = batch.iter().map(|submission| submission.proposals.len()).sum();
    let count = batch.iter().map(|submission| submission.count).sum();
    let packed = pack_proposals(count, batch.iter().map(|submission| &*submission.proposals), bytes);
    let deadline = batch.iter().map(|submission| submission.deadline).max().unwrap_or_else(Instant::now);
    (packed.into(), deadline)
}

async fn carry(engine: &Engine, packed: Bytes, deadline: Instant) -> Outcomes {
    let committed = engine.0.stop.run_until_cancelled(leader_link::commit(engine, packed, deadline)).await;
    // Whoever leads may commit it all the same.
    committed.unwrap_or_else(|| Err(Failure::unknown(Code::Unavailable, "this control node is stopping")))
}

/// Gives everybody in a batch their own of its outcomes.
fn tell(batch: Vec<Submission>, result: Outcomes, tracker: &TaskTracker) {
    let mut result = result.map(Vec::into_iter);
    let mut calls = Vec::new();
    for submission in batch {
        let own = match &mut result {
            Ok(outcomes) => Ok(outcomes.take(submission.count as usize).collect()),
            Err(failure) => Err(failure.clone()),
        };
        match submission.asker {
            Asker::Call(call) => calls.push((call, own)),
            asker => asker.tell(own),
        }
    }
    make(calls, tracker);
}

/// Makes the calls: one alone here and now, many beside the batcher.
fn make(mut calls: Vec<(Call, Outcomes)>, tracker: &TaskTracker) {
    while calls.len() > 1 {
        let some = calls.split_off(calls.len().saturating_sub(TOGETHER));
        tracker.spawn(async move { some.into_iter().for_each(|(call, own)| call(own)) });
    }
    calls.into_iter().for_each(|(call, own)| call(own));
}
