//! Sessions with well-behaved peers, over memory and TCP.

use super::*;
use crate::{Carrier, Link, LinkInfo, memory_pair};
use longshore_wire::{NodeId, Outcome, Role};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

/// Fails instead of hanging.
pub(super) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(SOON, future).await.expect("must not take so long")
}

pub(super) fn proven(link: Link, dialled: bool) -> Proven {
    let (node, role) = if dialled { (2, Role::Control) } else { (1, Role::Worker) };
    let peer = Peer {
        node: NodeId::from_u128(node),
        role,
        credential: "worker".into(),
        secret: 1,
        cluster_id: None,
        version: 1,
        release: "test".into(),
        carrier: link.info.carrier,
        remote: link.info.remote,
    };
    Proven { link, peer, dialled }
}

type End = (Session, Inbound);

/// The dialler's and the acceptor's end.
fn pair_with(options: &SessionOptions) -> (End, End) {
    let (a, b) = memory_pair();
    (Session::start(proven(a, true), options.clone()), Session::start(proven(b, false), options.clone()))
}

fn pair() -> (End, End) {
    pair_with(&SessionOptions::default())
}

async fn tcp_pair() -> (End, End) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let link = |io: TcpStream| {
        let remote = io.peer_addr().ok();
        Link::new(io, LinkInfo { carrier: Carrier::Tcp, remote, exporter: None, certified: false })
    };
    let start = |io, dialled| Session::start(proven(link(io), dialled), SessionOptions::default());
    (start(dialled, true), start(accepted, false))
}

/// Answers each request with its body, and each stream with its bytes.
async fn echo(mut inbound: Inbound) {
    let mut streams = JoinSet::new();
    while let Some(incoming) = inbound.next().await {
        match incoming {
            Incoming::Request(request) => {
                let body = request.body.to_vec();
                request.reply(Ok(body));
            }
            Incoming::Notify(_) => {}
            Incoming::Open { stream, .. } => {
                streams.spawn(async move {
                    let (mut reading, mut writing) = tokio::io::split(stream);
                    tokio::io::copy(&mut reading, &mut writing).await?;
                    writing.shutdown().await
                });
            }
        }
    }
}

async fn next_request(inbound: &mut Inbound) -> Request {
    match soon(inbound.next()).await {
        Some(Incoming::Request(request)) => request,
        other => panic!("{other:?} instead of a request"),
    }
}

async fn next_stream(inbound: &mut Inbound) -> Stream {
    match soon(inbound.next()).await {
        Some(Incoming::Open { stream, .. }) => stream,
        other => panic!("{other:?} instead of a stream"),
    }
}

/// Waits until a session has forgotten its streams.
async fn gone(session: &Session) {
    let gone = async {
        while !session.core().streams.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(gone).await;
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i / 7) as u8 ^ (i >> 16) as u8).collect()
}

/// A process that was stopped has heard nothing meanwhile, which says nothing of its peers.
#[tokio::test]
async fn who_was_stopped_looks_first_and_keeps_the_session() {
    let (ping_every, lost_after) = (Duration::from_millis(100), Duration::from_millis(500));
    let options = SessionOptions { ping_every, lost_after, ..SessionOptions::default() };
    let ((here, _in), (_there, inbound)) = pair_with(&options);
    let mut tasks = JoinSet::new();
    tasks.spawn(echo(inbound));
    assert_eq!(soon(here.request(b"before".to_vec(), SOON)).await.unwrap(), &b"before"[..]);
    // This thread is all that runs: neither end is looked after.
    std::thread::sleep(3 * lost_after);
    assert!(timeout(lost_after / 2, here.closed()).await.is_err(), "lost: {:?}", here.closed().await);
    assert_eq!(soon(here.request(b"after".to_vec(), SOON)).await.unwrap(), &b"after"[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_streams_over_every_link() {
    for ((here, _in), (_there, inbound)) in [pair(), tcp_pair().await] {
        let mut tasks = JoinSet::new();
        tasks.spawn(echo(inbound));
        let mut calls = JoinSet::new();
        for i in 0..200_u32 {
            let here = here.clone();
            calls.spawn(async move {
                let body = if i % 50 == 0 { pattern(1_900_000) } else { i.to_be_bytes().to_vec() };
                assert_eq!(here.request(body.clone(), SOON).await.unwrap(), body);
            });
        }
        for _ in 0..4 {
            let stream = here.open(b"echo".to_vec()).await.unwrap();
            calls.spawn(async move {
                let (mut reading, mut writing) = tokio::io::split(stream);
                let sent = pattern(5_000_000);
                let mut got = Vec::new();
                let (wrote, read) = tokio::join!(
                    async {
                        writing.write_all(&sent).await?;
                        writing.shutdown().await
                    },
                    reading.read_to_end(&mut got)
                );
                wrote.unwrap();
                assert_eq!(read.unwrap(), sent.len());
                assert!(got == sent);
            });
        }
        while let Some(call) = soon(calls.join_next()).await {
            call.unwrap();
        }
        gone(&here).await;
        let rtt = async {
            while here.rtt().is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon(rtt).await;
    }
}

#[tokio::test]
async fn failures_cross_the_wire() {
    let ((here, _in), (_there, mut inbound)) = pair();
    let (answer, ()) = soon(async {
        tokio::join!(here.request(vec![1], SOON), async {
            let refusal = Failure::new(Code::Conflict, "no");
            next_request(&mut inbound).await.reply(Err(refusal));
        })
    })
    .await;
    assert_eq!(answer, Err(Failure::new(Code::Conflict, "no")));

    let (answer, request) = tokio::join!(here.request(vec![1], SOON), async { drop(next_request(&mut inbound).await) });
    let ((), failure) = (request, answer.unwrap_err());
    assert_eq!((failure.code, failure.outcome), (Code::Internal, Outcome::Unknown));

    let (answer, ()) = tokio::join!(here.request(vec![1], SOON), async {
        next_request(&mut inbound).await.reply(Ok(vec![0; 3_000_000]));
    });
    let failure = answer.unwrap_err();
    assert_eq!((failure.code, failure.outcome), (Code::TooLarge, Outcome::Done));

    let failure = here.request(vec![0; 3_000_000], SOON).await.unwrap_err();
    assert_eq!((failure.code, failure.outcome), (Code::TooLarge, Outcome::NotDone));
}

#[tokio::test]
async fn deadline_and_drop_cancel_at_the_peer() {
    let ((here, _in), (_there, mut inbound)) = pair();
    let short = Duration::from_millis(50);
    let (answer, request) = tokio::join!(here.request(vec![], short), next_request(&mut inbound));
    let failure = answer.unwrap_err();
    assert_eq!((failure.code, failure.outcome), (Code::Timeout, Outcome::Unknown));
    assert!(request.deadline <= tokio::time::Instant::now());
    soon(request.cancelled().cancelled()).await;
    request.reply(Ok(vec![1]));

    let request = tokio::select! {
        _ = here.request(vec![], SOON) => panic!("nobody has answered"),
        request = next_request(&mut inbound) => request,
    };
    let token = request.cancelled();
    soon(token.cancelled()).await;
    assert!(request.cancelled().is_cancelled());
    drop(request);
    assert!(!here.is_closed());
}

#[tokio::test]
async fn too_much_is_busy_and_pings_go_on() {
    let every = Duration::from_millis(20);
    let lost_after = Duration::from_millis(400);
    let options =
        SessionOptions { ping_every: every, lost_after, max_requests: 2, max_streams: 2, ..SessionOptions::default() };
    let ((here, _in), (there, mut inbound)) = pair_with(&options);
    let mut hanging = JoinSet::new();
    for _ in 0..3 {
        let here = here.clone();
        hanging.spawn(async move { here.request(vec![], SOON).await.unwrap_err() });
    }
    let failure = soon(hanging.join_next()).await.unwrap().unwrap();
    assert_eq!((failure.code, failure.outcome), (Code::Busy, Outcome::NotDone));
    let _streams = (here.open(vec![]).await.unwrap(), here.open(vec![]).await.unwrap());
    assert_eq!(here.open(vec![]).await.unwrap_err().code, Code::Busy);
    // Nobody takes anything at the other side, for longer than a session may be silent.
    let end = tokio::time::Instant::now() + 2 * lost_after;
    while tokio::time::Instant::now() < end {
        here.notify(vec![0; 1000]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!here.is_closed() && !there.is_closed() && here.rtt().is_some());
    next_request(&mut inbound).await.reply(Ok(vec![]));
    assert!(soon(hanging.join_next()).await.is_some_and(|ended| ended.is_err()), "the reply has come");
}

#[tokio::test]
async fn a_reader_that_does_not_read_stalls_its_stream_only() {
    let ((here, _in), (_there, mut inbound)) = pair();
    let mut stuck = here.open(vec![]).await.unwrap();
    let mut unread = next_stream(&mut inbound).await;
    let bytes = pattern(2_000_000);
    let writing = async {
        stuck.write_all(&bytes).await?;
        stuck.shutdown().await
    };
    let mut writing = std::pin::pin!(writing);
    assert!(timeout(Duration::from_millis(100), &mut writing).await.is_err(), "credit bounds what is under way");
    let (answer, ()) = tokio::join!(here.request(vec![7], SOON), async {
        next_request(&mut inbound).await.reply(Ok(vec![8]));
    });
    assert_eq!(answer.unwrap(), vec![8]);
    let mut got = Vec::new();
    let (wrote, read) = soon(async { tokio::join!(writing, unread.read_to_end(&mut got)) }).await;
    wrote.unwrap();
    read.unwrap();
    assert!(got == bytes);
}

#[tokio::test]
async fn what_goes_through_is_counted() {
    let options = SessionOptions::default();
    let ((here, _in), (_there, mut inbound)) = pair_with(&options);
    let mut stream = here.open(vec![]).await.unwrap();
    let mut taken = next_stream(&mut inbound).await;
    let bytes = pattern(1_000_000);
    let mut got = Vec::new();
    let (wrote, read) = soon(async {
        let writing = async {
            stream.write_all(&bytes).await?;
            stream.shutdown().await
        };
        tokio::join!(writing, taken.read_to_end(&mut got))
    })
    .await;
    wrote.unwrap();
    read.unwrap();
    // Whoever writes counts after it has written: the other side may be faster.
    let counted = async {
        loop {
            let [received, bulk_received, sent, bulk_sent] = options.traffic.counts().map(|(_, _, bytes)| bytes);
            if (received, bulk_received) == (sent, bulk_sent) && bulk_sent == 1_000_000 {
                return sent;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let control = soon(counted).await;
    assert!((100..100_000).contains(&control), "{control} bytes of heads, credit and pings");
}

#[tokio::test]
async fn streams_end_in_three_ways() {
    let ((here, _in), (there, mut inbound)) = pair();
    // A reset with a reason.
    let mut stream = here.open(vec![]).await.unwrap();
    next_stream(&mut inbound).await.reset(Failure::new(Code::NotFound, "no such task"));
    let error = soon(stream.read_u8()).await.unwrap_err();
    assert_eq!(failure_of(&error), Some(&Failure::new(Code::NotFound, "no such task")));
    assert_eq!(stream.reset_reason().unwrap().code, Code::NotFound);
    assert!(stream.write_all(&[1]).await.is_err());

    // Dropped in the middle: never taken for the whole.
    let mut stream = here.open(vec![]).await.unwrap();
    stream.write_all(b"half").await.unwrap();
    stream.flush().await.unwrap();
    let mut other = next_stream(&mut inbound).await;
    drop(stream);
    let error = soon(other.read_to_end(&mut Vec::new())).await.unwrap_err();
    assert_eq!(failure_of(&error).unwrap().outcome, Outcome::Unknown);
    drop(other);

    // Finished and dropped: all arrives, though the peer goes on to write.
    let mut stream = here.open(vec![]).await.unwrap();
    stream.write_all(&pattern(300_000)).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    let mut other = next_stream(&mut inbound).await;
    let mut got = Vec::new();
    soon(other.read_to_end(&mut got)).await.unwrap();
    assert!(got == pattern(300_000));
    let refused = async { while other.write_all(&[0; 1000]).await.is_ok() {} };
    soon(refused).await;
    assert!(other.reset_reason().is_some());
    drop(other);
    gone(&here).await;
    gone(&there).await;
}

#[tokio::test]
async fn goodbye_reaches_the_peer_and_all_who_wait() {
    let ((here, _in), (there, mut inbound)) = pair();
    let calling = here.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { calling.request(vec![], SOON).await });
    let request = next_request(&mut inbound).await;
    let mut stream = here.open(vec![]).await.unwrap();
    let _other = next_stream(&mut inbound).await;
    let reason = Failure::new(Code::Unavailable, "this node is leaving");
    let token = request.cancelled();
    there.close(reason.clone());
    assert!(there.is_closed());
    assert_eq!(soon(here.closed()).await, reason);
    assert_eq!(soon(there.closed()).await, reason);
    assert!(token.is_cancelled());
    let failure = soon(tasks.join_next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!((failure.code, failure.outcome), (Code::Unavailable, Outcome::Unknown));
    assert!(failure.message.contains("this node is leaving"), "{failure}");
    let error = soon(stream.read_u8()).await.unwrap_err();
    assert_eq!(failure_of(&error).unwrap().code, Code::Unavailable);
    let failure = here.request(vec![], SOON).await.unwrap_err();
    assert_eq!((failure.code, failure.outcome), (Code::Unavailable, Outcome::NotDone));
    assert!(here.notify(vec![]).await.is_err() && here.open(vec![]).await.is_err());
    request.reply(Ok(vec![]));
    assert!(soon(inbound.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn goodbye_is_heard_by_a_peer_that_is_talking() {
    for _ in 0..20 {
        let ((here, _in), (there, _in2)) = tcp_pair().await;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while there.notify(vec![0; 50_000]).await.is_ok() {}
            there.closed().await
        });
        while here.core().arrived.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        here.close(Failure::new(Code::Conflict, "enough"));
        assert_eq!(soon(tasks.join_next()).await.unwrap().unwrap().message, "enough");
        soon(here.closed()).await;
    }
}

#[tokio::test]
async fn the_last_handle_ends_the_session() {
    let ((here, inbound), (there, _in)) = pair();
    let second = here.clone();
    here.notify(b"last word".to_vec()).await.unwrap();
    drop((here, inbound));
    assert!(!there.is_closed());
    drop(second);
    assert_eq!(soon(there.closed()).await.code, Code::Unavailable);

    let ((here, _in), (there, inbound)) = pair();
    drop(inbound);
    let failure = soon(here.request(vec![], SOON)).await.unwrap_err();
    assert_eq!((failure.code, failure.outcome), (Code::Unavailable, Outcome::NotDone));
    there.abort();
    assert!(soon(here.closed()).await.message.contains("without a goodbye"));
    assert!(soon(there.closed()).await.message.contains("aborted"));
}

#[tokio::test]
async fn a_session_inside_a_stream_of_another() {
    let ((outer, _in), (_there, mut inbound)) = pair();
    let near = Link::tunnel(outer.open(b"tunnel".to_vec()).await.unwrap());
    let far = Link::tunnel(next_stream(&mut inbound).await);
    let (here, _in) = Session::start(proven(near, true), SessionOptions::default());
    let (there, inner) = Session::start(proven(far, false), SessionOptions::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(echo(inner));
    for size in [0, 10, 1_500_000] {
        assert_eq!(soon(here.request(pattern(size), SOON)).await.unwrap(), pattern(size));
    }
    here.close(Failure::new(Code::Conflict, "enough"));
    assert_eq!(soon(there.closed()).await.message, "enough");
    assert!(!outer.is_closed());
}

/// Notes of each write whether its waker is nobody's.
struct Noted<T>(T, Arc<std::sync::Mutex<Vec<bool>>>);

impl<T: tokio::io::AsyncRead + Unpin> tokio::io::AsyncRead for Noted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl<T: tokio::io::AsyncWrite + Unpin> tokio::io::AsyncWrite for Noted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.1.lock().unwrap().push(cx.waker().will_wake(Waker::noop()));
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A WebSocket wakes whoever wrote last with all that arrives: the writer task would run for nothing with every frame.
#[tokio::test]
async fn a_caller_that_writes_leaves_no_waker_with_the_link() {
    let (a, b) = memory_pair();
    let noted = Arc::default();
    let link = Link::new(Noted(a.io, Arc::clone(&noted)), a.info);
    let (here, _in) = Session::start(proven(link, true), SessionOptions::default());
    let (_there, inbound) = Session::start(proven(b, false), SessionOptions::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(echo(inbound));
    let mut stream = soon(here.open("bulk")).await.unwrap();
    soon(stream.write_all(b"by the writer task")).await.unwrap();
    soon(stream.shutdown()).await.unwrap();
    let mut echoed = Vec::new();
    soon(stream.read_to_end(&mut echoed)).await.unwrap();
    let rest = async {
        while here.core().outbox().is_signalled() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(rest).await;
    assert!(std::mem::take(&mut *noted.lock().unwrap()).contains(&false), "the writer task has written");
    assert_eq!(soon(here.request("by its caller", SOON)).await.unwrap(), "by its caller");
    let noted = noted.lock().unwrap().clone();
    assert!(!noted.is_empty() && noted.iter().all(|nobody| *nobody), "{noted:?}");
}
