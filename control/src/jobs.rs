//! Work beside an actor of which every worker has one: while nothing is under way, it holds no memory.
//!
//! Dropped, it aborts what is under way; nothing is ever detached.

use tokio::task::{JoinError, JoinSet};

/// Jobs under way. Whoever adds bounds their number.
#[derive(Debug)]
pub(crate) struct Jobs<T>(Option<JoinSet<T>>);

impl<T: Send + 'static> Jobs<T> {
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    pub(crate) fn spawn(&mut self, work: impl Future<Output = T> + Send + 'static) {
        self.0.get_or_insert_default().spawn(work);
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The next end of a job; `None` at once when nothing is under way. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Result<T, JoinError>> {
        let ended = self.0.as_mut()?.join_next().await;
        if self.0.as_ref().is_some_and(JoinSet::is_empty) {
            self.0 = None;
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_end_is_told_and_nothing_is_kept() {
        let mut jobs = Jobs::new();
        assert!(jobs.next().await.is_none());
        (0..3).for_each(|number| jobs.spawn(async move { number }));
        let mut ended = Vec::new();
        while let Some(end) = jobs.next().await {
            assert_eq!(jobs.is_empty(), ended.len() == 2);
            ended.push(end.unwrap());
        }
        ended.sort_unstable();
        assert_eq!(ended, [0, 1, 2]);
        assert!(jobs.0.is_none());
    }
}
