//! What goes into the next batch, and how long it may wait for more.
//!
//! A batch costs about as much as twenty proposals, so that few large ones carry more than many small ones. Those who were answered
//! with the last batch come back with their next proposal in a moment: all of them together make one batch, if the first of
//! them waits for the others. Left to itself, it leaves at once and makes all others wait until it is through.

use super::batcher::{BATCH_PROPOSALS, Submission};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Most bytes of proposals in one entry, unless one submission alone is larger. The entry, in an append message, must
/// fit into one control frame, and the log slows down with larger ones.
const BATCH_BYTES: usize = 1024 * 1024;
/// How long a batch waits for those who are expected.
pub(super) const PATIENCE: Duration = Duration::from_millis(1);

/// Submissions on their way into a batch.
pub(super) struct Gathering {
    queue: mpsc::Receiver<Submission>,
    patience: Duration,
    /// Taken from the queue, in order.
    here: VecDeque<Submission>,
    /// Proposals in them.
    count: u32,
    /// Their bytes.
    bytes: usize,
    /// Proposals in the last batch.
    last: u32,
    /// Proposals that the next batch may have: as many as were in the last one, and as many as waited at its end.
    expected: u32,
}

impl Gathering {
    /// Nobody waits longer than `patience` for others.
    pub(super) fn new(queue: mpsc::Receiver<Submission>, patience: Duration) -> Self {
        Self { queue, patience, here: VecDeque::new(), count: 0, bytes: 0, last: 0, expected: 0 }
    }

    /// The next batch: as soon as all who are expected are there, or the first of them has waited long enough.
    /// `None` when nobody will come any more.
    pub(super) async fn batch(&mut self) -> Option<Vec<Submission>> {
        loop {
            if self.here.is_empty() {
                let first = self.queue.recv().await?;
                self.take_in(first);
            }
            let until = Instant::now() + self.patience;
            self.look();
            while self.count < self.expected
                && self.bytes < BATCH_BYTES
                && let Ok(Some(next)) = timeout_at(until, self.queue.recv()).await
            {
                self.take_in(next);
                self.look();
            }
            let batch = self.cut();
            if !batch.is_empty() {
                return Some(batch);
            }
        }
    }

    /// The last batch is through.
    pub(super) fn carried(&mut self) {
        self.look();
        self.expected = (self.last + self.count).min(BATCH_PROPOSALS);
    }

    /// All that has not become part of a batch.
    pub(super) fn rest(mut self) -> impl Iterator<Item = Submission> {
        self.here.into_iter().chain(std::iter::from_fn(move || self.queue.try_recv().ok()))
    }

    fn take_in(&mut self, submission: Submission) {
        self.count += submission.count;
        self.bytes += submission.proposals.len();
        self.here.push_back(submission);
    }

    /// Takes in what is at hand, up to what a batch can hold.
    fn look(&mut self) {
        while self.count < BATCH_PROPOSALS
            && self.bytes < BATCH_BYTES
            && let Ok(next) = self.queue.try_recv()
        {
            self.take_in(next);
        }
    }

    /// Cuts off one batch. Those whose asker has gone are left out.
    fn cut(&mut self) -> Vec<Submission> {
        let mut batch = Vec::with_capacity(self.here.len());
        let (mut bytes, mut count) = (0, 0);
        let fits = |bytes: usize, count: u32| bytes <= BATCH_BYTES && count <= BATCH_PROPOSALS;
        while let Some(next) =
            self.here.pop_front_if(|next| count == 0 || fits(bytes + next.proposals.len(), count + next.count))
        {
            self.count -= next.count;
            self.bytes -= next.proposals.len();
            if !next.asker.has_gone() {
                bytes += next.proposals.len();
                count += next.count;
                batch.push(next);
            }
        }
        self.last = count;
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::super::batcher::{Asker, Outcomes};
    use super::*;
    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    type Answer = oneshot::Receiver<Outcomes>;

    fn submission(count: u32, bytes: usize) -> (Submission, Answer) {
        let (reply, answer) = oneshot::channel();
        let proposals = Bytes::from(vec![0; bytes]);
        (Submission { count, proposals, deadline: Instant::now(), asker: Asker::Future(reply) }, answer)
    }

    fn gathering(patience: Duration) -> (mpsc::Sender<Submission>, Gathering) {
        let (sender, queue) = mpsc::channel(4096);
        (sender, Gathering::new(queue, patience))
    }

    fn send(sender: &mpsc::Sender<Submission>, count: u32, bytes: usize) -> Answer {
        let (submission, answer) = submission(count, bytes);
        sender.try_send(submission).unwrap();
        answer
    }

    fn counts(batch: Option<Vec<Submission>>) -> Vec<u32> {
        batch.unwrap().iter().map(|submission| submission.count).collect()
    }

    /// Whoever waits so long waits for ever.
    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn one_alone_never_waits() {
        let (sender, mut gathering) = gathering(LONG);
        for _ in 0..3 {
            let _answer = send(&sender, 1, 10);
            assert_eq!(counts(gathering.batch().await), [1]);
            gathering.carried();
        }
    }

    #[tokio::test]
    async fn those_who_come_back_are_waited_for() {
        let (sender, mut gathering) = gathering(LONG);
        let _first = [send(&sender, 1, 10), send(&sender, 1, 10)];
        assert_eq!(counts(gathering.batch().await), [1, 1]);
        // Another one waits when they are through: three are expected.
        let _third = send(&sender, 1, 10);
        gathering.carried();
        let mut answers = Vec::new();
        for _ in 0..2 {
            assert!(gathering.batch().now_or_never().is_none(), "some are missing");
            answers.push(send(&sender, 1, 10));
        }
        assert_eq!(counts(gathering.batch().await), [1, 1, 1]);
    }

    #[tokio::test]
    async fn a_batch_that_is_full_waits_for_nobody() {
        let (sender, mut gathering) = gathering(LONG);
        let _first = [(); 3].map(|()| send(&sender, 1, BATCH_BYTES / 2));
        assert_eq!(counts(gathering.batch().await), [1, 1]);
        gathering.carried();
        let _next = send(&sender, 1, BATCH_BYTES / 2);
        assert_eq!(counts(gathering.batch().await), [1, 1], "three were expected");
    }

    #[tokio::test]
    async fn those_who_do_not_come_back_are_waited_for_once() {
        let (sender, mut gathering) = gathering(PATIENCE);
        let _first = [send(&sender, 1, 10), send(&sender, 1, 10)];
        assert_eq!(counts(gathering.batch().await), [1, 1]);
        gathering.carried();
        let _alone = send(&sender, 1, 10);
        assert_eq!(counts(gathering.batch().await), [1], "it goes alone after a while");
        gathering.carried();
        gathering.patience = LONG;
        let _alone = send(&sender, 1, 10);
        assert_eq!(counts(gathering.batch().await), [1], "and the next time at once");
    }

    #[tokio::test]
    async fn what_does_not_fit_goes_with_the_next() {
        let (sender, mut gathering) = gathering(Duration::ZERO);
        let _answers = [
            send(&sender, 1, BATCH_BYTES + 1),
            send(&sender, 1000, 10),
            send(&sender, 25, 10),
            send(&sender, 1, 10),
            send(&sender, 1, BATCH_BYTES),
        ];
        assert_eq!(counts(gathering.batch().await), [1], "one that is too large goes alone");
        gathering.carried();
        assert_eq!(counts(gathering.batch().await), [1000]);
        gathering.carried();
        assert_eq!(counts(gathering.batch().await), [25, 1]);
        gathering.carried();
        assert_eq!(counts(gathering.batch().await), [1]);
        drop(sender);
        assert!(gathering.batch().await.is_none());
    }

    #[tokio::test]
    async fn nothing_is_done_for_who_has_gone_and_the_rest_is_told() {
        let (sender, mut gathering) = gathering(LONG);
        drop(send(&sender, 1, 10));
        let _answer = send(&sender, 2, 10);
        assert_eq!(counts(gathering.batch().await), [2]);
        let _answers = [send(&sender, 3, 10), send(&sender, 4, 10)];
        gathering.carried();
        let _late = send(&sender, 5, 10);
        assert_eq!(gathering.rest().map(|submission| submission.count).collect::<Vec<_>>(), [3, 4, 5]);
    }
}
