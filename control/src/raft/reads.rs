//! Read indexes: one question to the leader for all reads that wait.
//!
//! A read may use an index that was asked for after it began, so whoever comes while a question is under way waits for
//! the next one. Every question costs a message to the leader and one to each voter; under load hundreds of reads share one.

use super::confirm::Quick;
use super::engine::Engine;
use super::leader_link;
use longshore_wire::Failure;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Reads that may wait; more are refused as `Busy`.
pub(super) const QUEUE: usize = 8192;

/// Somebody who wants a read index.
pub(super) struct Ask {
    /// Nobody waits longer.
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Result<Option<u64>, Failure>>,
}

/// Runs until the group stops.
pub(super) async fn run(engine: Engine, mut queue: mpsc::Receiver<Ask>) {
    let mut quick = Quick::new();
    loop {
        let first = tokio::select! {
            biased;
            () = engine.0.stop.cancelled() => return,
            ask = queue.recv() => match ask {
                Some(ask) => ask,
                None => return,
            },
        };
        let mut asks = vec![first];
        asks.extend(std::iter::from_fn(|| queue.try_recv().ok()));
        let deadline = asks.iter().map(|ask| ask.deadline).max().unwrap_or_else(Instant::now);
        let index = tokio::select! {
            biased;
            () = engine.0.stop.cancelled() => return,
            index = leader_link::read_index(&engine, &mut quick, deadline) => index,
        };
        for ask in asks {
            let _ = ask.reply.send(index.clone());
        }
    }
}
