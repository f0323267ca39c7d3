//! Work of clients: one in a task, or many that do the same thing for a while.

use super::figures::Round;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Runs this in a task, on the runtime's own threads, where the tasks of a session are: the first future of a runtime is
/// woken from another thread.
pub(super) async fn in_a_task<T: Send + 'static>(
    work: impl Future<Output = anyhow::Result<T>> + Send + 'static,
) -> anyhow::Result<T> {
    let mut task = JoinSet::new();
    task.spawn(work);
    task.join_next().await.expect("one task was spawned")?
}

/// Runs every client's operation over and over for `time`.
pub(super) async fn closed_loop<C, F>(clients: Vec<C>, time: Duration, operation: F) -> anyhow::Result<(Round, Vec<C>)>
where
    C: Send + 'static,
    F: AsyncOperation<C>,
{
    let start = Instant::now();
    let mut running = JoinSet::new();
    for mut client in clients {
        let operation = operation.clone();
        running.spawn(async move {
            let mut latencies = Vec::new();
            while start.elapsed() < time {
                let begin = Instant::now();
                client = operation.run(client).await?;
                latencies.push(begin.elapsed());
            }
            Ok::<_, anyhow::Error>((latencies, client))
        });
    }
    let mut latencies = Vec::new();
    let mut clients = Vec::new();
    while let Some(ended) = running.join_next().await {
        let (mut of_one, client) = ended??;
        latencies.append(&mut of_one);
        clients.push(client);
    }
    Ok((Round { latencies, elapsed: start.elapsed() }, clients))
}

/// One operation of a client, which it gives back.
pub(super) trait AsyncOperation<C>: Clone + Send + 'static {
    /// Does it once.
    fn run(&self, client: C) -> impl Future<Output = anyhow::Result<C>> + Send;
}
