//! Spares followers a message: that entries are committed is told them with the entries that come next, if any do soon.
//!
//! Under load it costs nothing, since entries follow each other; alone it costs [`LINGER`] until followers have applied what
//! their leader has. Whoever writes does not wait for them, and whoever reads from one makes the leader hurry.

use super::confirm::Told;
use super::types::Types;
use futures_util::stream::{self, Fuse, Stream, StreamExt as _};
use openraft::raft::AppendEntriesRequest;
use std::time::Duration;
use tokio::time::sleep;

/// How long a message that carries no entries waits for one that does.
pub(super) const LINGER: Duration = Duration::from_millis(1);

type Request = AppendEntriesRequest<Types>;

/// Of the messages of one stream only those that are needed, in their order. What is left out is in the next one: it has a
/// later commit, and the answer to it covers all before it.
pub(super) fn fewer<S>(input: S, told: Told, linger: Duration) -> impl Stream<Item = Request> + Unpin + Send + 'static
where
    S: Stream<Item = Request> + Unpin + Send + 'static,
{
    let next = move |(mut input, told): (Fuse<S>, Told)| async move {
        let first = input.next().await?;
        let sent = if first.entries.is_empty() { better(first, &mut input, &told, linger).await } else { first };
        Some((sent, (input, told)))
    };
    Box::pin(stream::unfold((input.fuse(), told), next))
}

/// What follows on a message without entries, if it comes in time.
async fn better(
    mut message: Request,
    input: &mut (impl Stream<Item = Request> + Unpin),
    told: &Told,
    linger: Duration,
) -> Request {
    let waited = async {
        tokio::select! {
            () = sleep(linger) => (),
            () = told.hurried() => (),
        }
    };
    tokio::pin!(waited);
    while message.entries.is_empty() {
        tokio::select! {
            biased;
            next = input.next() => match next {
                Some(next) => message = next,
                None => break,
            },
            () = &mut waited => break,
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Ballot, Entry, Payload, Position};
    use crate::raft::convert;
    use longshore_wire::NodeId;
    use tokio::sync::mpsc;

    fn at(index: u64) -> Position {
        Position { term: 1, leader: NodeId::from(1), index }
    }

    fn message(entries: &[u64], committed: u64) -> Request {
        let entry = |index: &u64| convert::raft_entry(Entry { position: at(*index), payload: Payload::Blank });
        Request {
            vote: convert::vote(Ballot { term: 1, node: NodeId::from(1), committed: true }),
            prev_log_id: None,
            entries: entries.iter().map(entry).collect(),
            leader_commit: Some(convert::log_id(at(committed))),
        }
    }

    fn messages() -> (mpsc::Sender<Request>, impl Stream<Item = Request> + Unpin + Send + 'static) {
        let (sender, receiver) = mpsc::channel(8);
        (sender, Box::pin(stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) })))
    }

    fn seen(request: Option<Request>) -> (usize, u64) {
        let request = request.expect("a message");
        (request.entries.len(), request.leader_commit.expect("a commit").index)
    }

    /// So long that nothing in these tests waits for its end.
    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_commit_goes_with_the_entries_behind_it() {
        let (sender, input) = messages();
        let mut fewer = fewer(input, Told::default(), LONG);
        for request in [message(&[1], 0), message(&[], 1), message(&[], 2), message(&[3], 2), message(&[], 3)] {
            sender.send(request).await.unwrap();
        }
        drop(sender);
        assert_eq!(seen(fewer.next().await), (1, 0));
        assert_eq!(seen(fewer.next().await), (1, 2));
        assert_eq!(seen(fewer.next().await), (0, 3), "what nothing follows is sent all the same");
        assert!(fewer.next().await.is_none());
    }

    #[tokio::test]
    async fn a_commit_that_nothing_follows_is_told_in_time() {
        let (sender, input) = messages();
        let mut fewer = fewer(input, Told::default(), LINGER);
        sender.send(message(&[], 1)).await.unwrap();
        assert_eq!(seen(fewer.next().await), (0, 1));
    }

    #[tokio::test]
    async fn a_commit_is_told_at_once_when_somebody_reads_from_a_follower() {
        let (sender, input) = messages();
        let told = Told::default();
        let mut fewer = fewer(input, told.clone(), LONG);
        sender.send(message(&[], 1)).await.unwrap();
        let hurry = async {
            tokio::task::yield_now().await;
            told.hurry();
        };
        let (request, ()) = tokio::join!(fewer.next(), hurry);
        assert_eq!(seen(request), (0, 1));
    }
}
