//! Packs the proposals that wait into one log entry, or into one request to the leader.
//!
//! While a batch is under way the next one collects, so that load makes batches larger instead of queues longer. One at a time:
//! followers get one message after the other anyway, and a second batch beside it would only make both smaller.

use super::engine::{Engine, stopped};
use super::leader_link;
use crate::machine::{decode_proposals, pack_proposals};
use bytes::Bytes;
use longshore_state::Outcome;
use longshore_wire::{Code, Failure};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Most bytes of proposals in one entry, unless one submission alone is larger. The entry, in an append message, must
/// fit into one control frame, and the log slows down with larger ones.
const BATCH_BYTES: usize = 1024 * 1024;
/// Most proposals in one entry.
pub(super) const BATCH_PROPOSALS: u32 = 1024;
/// Largest submission, in bytes: what still fits into a control frame together with its envelopes.
pub(super) const SUBMISSION_BYTES: usize = 1536 * 1024;
/// Submissions that may wait; more are refused as `Busy`.
pub(super) const QUEUE: usize = 8192;

/// Encoded proposals that go into the same entry, and who waits for their outcomes.
pub(super) struct Submission {
    /// How many.
    pub(super) count: u32,
    /// Their encodings, one behind the other.
    pub(super) proposals: Bytes,
    /// Nobody waits longer.
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Result<Vec<Outcome>, Failure>>,
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
pub(super) async fn run(engine: Engine, mut queue: mpsc::Receiver<Submission>) {
    let stop = engine.0.stop.clone();
    let mut left_over = None;
    let carrying = async {
        loop {
            let first = match left_over.take() {
                Some(submission) => submission,
                None => match queue.recv().await {
                    Some(submission) => submission,
                    None => return,
                },
            };
            carry(&engine, collect(first, &mut queue, &mut left_over)).await;
        }
    };
    stop.run_until_cancelled(carrying).await;
    for submission in left_over.into_iter().chain(std::iter::from_fn(|| queue.try_recv().ok())) {
        let _ = submission.reply.send(Err(stopped()));
    }
}

/// Takes what waits, as much as one entry holds; what does not fit any more is left over for the next one.
fn collect(
    first: Submission,
    queue: &mut mpsc::Receiver<Submission>,
    left_over: &mut Option<Submission>,
) -> Vec<Submission> {
    let (mut bytes, mut count) = (first.proposals.len(), first.count);
    let mut batch = vec![first];
    while let Ok(next) = queue.try_recv() {
        if next.reply.is_closed() {
            continue;
        }
        bytes += next.proposals.len();
        count += next.count;
        if bytes > BATCH_BYTES || count > BATCH_PROPOSALS {
            *left_over = Some(next);
            break;
        }
        batch.push(next);
    }
    batch
}

async fn carry(engine: &Engine, batch: Vec<Submission>) {
    let bytes = batch.iter().map(|submission| submission.proposals.len()).sum();
    let count = batch.iter().map(|submission| submission.count).sum();
    let packed = pack_proposals(count, batch.iter().map(|submission| &*submission.proposals), bytes);
    let deadline = batch.iter().map(|submission| submission.deadline).max().unwrap_or_else(Instant::now);
    let mut result = leader_link::commit(engine, packed.into(), deadline).await.map(Vec::into_iter);
    for submission in batch {
        let own = match &mut result {
            Ok(outcomes) => Ok(outcomes.take(submission.count as usize).collect()),
            Err(failure) => Err(failure.clone()),
        };
        let _ = submission.reply.send(own);
    }
}
