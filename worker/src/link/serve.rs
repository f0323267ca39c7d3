//! What an owner may ask of this worker, and who answers it.
//!
//! Orders are queued in the order in which they came; requests to job classes, archives and logs each run by themselves.

use super::engine::Owner;
use super::relays::{Relays, no_class};
use crate::cache::{Announced, Cache};
use crate::fence::Fence;
use crate::logs;
use crate::supervisor::{Answer, Supervisor};
use longshore_transport::{Inbound, Incoming, Request, Stream};
use longshore_wire::edge::{ClassRequest, NotifyWorker, OpenWorker, Order, StreamResult, ToWorker};
use longshore_wire::{Code, Epoch, Failure, decode, encode};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// Time for the sender of an archive to take the answer and finish.
const FINISH: Duration = Duration::from_secs(10);

/// Where everything that arrives is handed on.
pub(crate) struct Desk {
    fence: Arc<Fence>,
    supervisor: Supervisor,
    cache: Arc<Cache>,
    relays: Arc<Relays>,
    tracker: TaskTracker,
}

impl Desk {
    pub(crate) fn new(
        fence: &Arc<Fence>,
        supervisor: &Supervisor,
        cache: Arc<Cache>,
        relays: &Arc<Relays>,
        tracker: &TaskTracker,
    ) -> Self {
        let (fence, relays) = (Arc::clone(fence), Arc::clone(relays));
        Self { fence, supervisor: supervisor.clone(), cache, relays, tracker: tracker.clone() }
    }

    /// Serves a session until it ends. A new owner is passed to `moved`.
    pub(super) async fn serve(self: Arc<Self>, mut inbound: Inbound, moved: watch::Sender<Option<Owner>>) {
        while let Some(incoming) = inbound.next().await {
            match incoming {
                Incoming::Request(request) => self.request(request).await,
                Incoming::Notify(body) => match decode(&body) {
                    Ok(NotifyWorker::Moved { owner, name, addresses }) => {
                        moved.send_replace(Some(Owner { node: owner, name, addresses }));
                    }
                    Err(error) => tracing::warn!(%error, "a notice of the owner is not understood"),
                },
                Incoming::Open { head, stream } => {
                    let desk = Arc::clone(&self);
                    self.tracker.spawn(async move { desk.open(&head, stream).await });
                }
            }
        }
    }

    async fn request(&self, request: Request) {
        match decode(&request.body) {
            Ok(ToWorker::Order { epoch, order }) => match self.order(epoch, order).await {
                Ok(answer) => {
                    self.tracker.spawn(async move { request.reply(answer.get().await.map(|()| Vec::new())) });
                }
                Err(failure) => request.reply(Err(failure)),
            },
            Ok(ToWorker::Request(ClassRequest { class, body })) => request.reply(match class.as_str() {
                "echo" => Ok(encode(&body)),
                _ => Err(no_class(&class)),
            }),
            Ok(ToWorker::Relay { id, class, body }) => {
                request.reply(self.relays.answer(id, &class, body.into()).map(Vec::from));
            }
            Ok(ToWorker::Outcome(ask)) => request.reply(Ok(encode(&self.relays.outcome(ask)))),
            Err(error) => request.reply(Err(Failure::new(Code::Unsupported, error.to_string()))),
        }
    }

    async fn order(&self, epoch: Epoch, order: Order) -> Result<Answer, Failure> {
        self.fence.admit(epoch).await?;
        Ok(match order {
            Order::Start(spec) => self.supervisor.run(spec).await,
            Order::Stop { task } => self.supervisor.end(task).await,
            Order::DropArchives { digests } => self.supervisor.drop_archives(digests).await,
        })
    }

    async fn open(&self, head: &[u8], stream: Stream) {
        match decode(head) {
            Ok(OpenWorker::Archive { epoch, digest, size, blake3 }) => {
                self.receive(epoch, Announced { digest, size, blake3 }, stream).await;
            }
            Ok(OpenWorker::Logs(request)) => {
                let log = self.supervisor.log(&request.task);
                logs::serve(request, log, self.supervisor.statuses(), stream).await;
            }
            Err(error) => stream.reset(Failure::new(Code::Unsupported, error.to_string())),
        }
    }

    async fn receive(&self, epoch: Epoch, announced: Announced, mut stream: Stream) {
        let Announced { digest, size, .. } = announced;
        let received = match self.fence.admit(epoch).await {
            Ok(()) => self.cache.receive(announced, &mut stream).await,
            Err(failure) => Err(failure),
        };
        let result = match received {
            Ok(()) => {
                tracing::info!(%digest, size, "an archive was received");
                StreamResult::Ok
            }
            Err(failure) => {
                tracing::warn!(%digest, code = %failure.code, message = failure.message, "an archive was not taken");
                StreamResult::Failed(failure)
            }
        };
        let answer = async {
            stream.write_all(&encode(&result)).await?;
            stream.shutdown().await?;
            // A sender that is still writing would see a reset instead of the answer.
            tokio::io::copy(&mut (&mut stream).take(size), &mut tokio::io::sink()).await
        };
        match tokio::time::timeout(FINISH, answer).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%digest, %error, "the sender of an archive is gone"),
            Err(_) => tracing::debug!(%digest, "the sender of an archive did not finish"),
        }
    }
}
