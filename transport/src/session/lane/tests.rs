//! Streams over QUIC: on lanes of their own, bounded, and with the reasons of their ends.

use super::super::tests::{proven, soon};
use super::*;
use crate::tls::{ClientTls, ClientTlsOptions, ServerTls};
use crate::{
    Admission, DialOptions, Inbound, Incoming, Io, Link, ListenOptions, Listener, Session, SessionOptions, dial,
    failure_of,
};
use longshore_wire::frame::{Header, Kind};
use longshore_wire::{Endpoint, Transport};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const BULK: usize = 4 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

async fn links() -> (Link, Link) {
    let tls = Some(ServerTls::self_signed(&["localhost".to_owned()], None).unwrap());
    let bind = "127.0.0.1:0".parse().unwrap();
    let (transport, path, admission) = (Transport::Quic, String::new(), Admission::default());
    let listener = Listener::bind(ListenOptions { transport, bind, path, tls, admission }).await.unwrap();
    let (address, host, path) = (listener.local_addr(), "localhost".to_owned(), String::new());
    let endpoint = Endpoint { transport, address, host, path, tls_verify: None };
    let options = DialOptions::new(ClientTls::new(ClientTlsOptions::default()).unwrap());
    let accept = async { listener.accept().await.unwrap().upgrade().await.unwrap() };
    let (dialled, accepted) = tokio::join!(dial(&endpoint, &options), accept);
    (dialled.unwrap(), accepted)
}

type End = (Session, Inbound);

async fn pair(max_streams: usize) -> (End, End) {
    let (a, b) = links().await;
    let options = SessionOptions { max_streams, ..SessionOptions::default() };
    (Session::start(proven(a, true), options.clone()), Session::start(proven(b, false), options))
}

async fn next_stream(inbound: &mut Inbound) -> Stream {
    match soon(inbound.next()).await {
        Some(Incoming::Open { stream, .. }) => stream,
        other => panic!("{other:?} instead of a stream"),
    }
}

async fn answer(inbound: &mut Inbound) {
    match soon(inbound.next()).await {
        Some(Incoming::Request(request)) => request.reply(Ok(b"here".to_vec())),
        other => panic!("{other:?} instead of a request"),
    }
}

/// Counts what is written.
struct Counted(Box<dyn Io>, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.1.fetch_add(bytes.len(), Relaxed);
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_is_not_on_the_control_lane() {
    let (mut a, b) = links().await;
    let count = Arc::<AtomicUsize>::default();
    a.io = Box::new(Counted(a.io, Arc::clone(&count)));
    let (here, _in) = Session::start(proven(a, true), SessionOptions::default());
    let (_there, mut inbound) = Session::start(proven(b, false), SessionOptions::default());
    let mut stream = here.open(b"bulk".to_vec()).await.unwrap();
    let write = async {
        stream.write_all(&vec![7; BULK]).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let read = async {
        let mut got = Vec::new();
        next_stream(&mut inbound).await.read_to_end(&mut got).await.unwrap();
        got.len()
    };
    let ((), read) = soon(async { tokio::join!(write, read) }).await;
    assert_eq!(read, BULK);
    assert!(count.load(Relaxed) < 10_000, "{count:?} bytes on the control lane");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starving_readers_hold_up_nothing_else() {
    let ((here, _in), (_there, mut inbound)) = pair(64).await;
    let mut writers = JoinSet::new();
    let mut starving = Vec::new();
    for _ in 0..20 {
        let mut stream = here.open(b"starves".to_vec()).await.unwrap();
        starving.push(next_stream(&mut inbound).await);
        writers.spawn(async move { stream.write_all(&vec![7; BULK]).await });
    }
    // All of them wait for their readers.
    if let Ok(ended) = tokio::time::timeout(Duration::from_millis(500), writers.join_next()).await {
        panic!("{ended:?}: a writer does not wait for its reader");
    }
    let ask = async { here.request(b"are you there".to_vec(), PATIENCE).await.unwrap() };
    soon(async { tokio::join!(ask, answer(&mut inbound)) }).await;
    let mut stream = here.open(b"flows".to_vec()).await.unwrap();
    let write = async {
        stream.send(vec![7; BULK].into()).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let read = async {
        let (mut stream, mut sum) = (next_stream(&mut inbound).await, 0);
        while let Some(bytes) = stream.chunk().await.unwrap() {
            sum += bytes.len();
        }
        sum
    };
    assert_eq!(soon(async { tokio::join!(write, read) }).await.1, BULK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_has_its_reason_on_both_sides() {
    let ((here, _in), (_there, mut inbound)) = pair(8).await;
    let why = Failure::new(Code::Conflict, "the disk is full");
    let mut stream = here.open(b"a".to_vec()).await.unwrap();
    stream.write_all(b"some").await.unwrap();
    next_stream(&mut inbound).await.reset(why.clone());
    let error = soon(stream.read_to_end(&mut Vec::new())).await.unwrap_err();
    assert_eq!(failure_of(&error), Some(&why));
    assert_eq!(stream.reset_reason(), Some(why));
    assert!(soon(stream.write_all(b"more")).await.is_err());
    drop(stream);

    let mut stream = here.open(b"b".to_vec()).await.unwrap();
    stream.write_all(b"half").await.unwrap();
    let mut theirs = next_stream(&mut inbound).await;
    drop(stream);
    let error = soon(theirs.read_to_end(&mut Vec::new())).await.unwrap_err();
    assert!(failure_of(&error).is_some_and(|why| why.message.contains("before its end")), "{error}");

    // Who has said all and listens no more is no error, but must not be written to.
    let mut stream = here.open(b"c".to_vec()).await.unwrap();
    soon(stream.shutdown()).await.unwrap();
    drop(stream);
    let mut theirs = next_stream(&mut inbound).await;
    assert_eq!(soon(theirs.read_to_end(&mut Vec::new())).await.unwrap(), 0);
    let error = soon(async {
        loop {
            if let Err(error) = theirs.write_all(&[0; 1000]).await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    });
    let error = error.await;
    assert!(failure_of(&error).is_some_and(|why| why.message.contains("nobody reads")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_counted() {
    let ((here, _in), (there, mut inbound)) = pair(2).await;
    let first = here.open(b"1".to_vec()).await.unwrap();
    let second = here.open(b"2".to_vec()).await.unwrap();
    let _back = soon(there.open(b"the other way".to_vec())).await.unwrap();
    let refused = here.open(b"3".to_vec()).await.unwrap_err();
    assert_eq!(refused.code, Code::Busy);
    // They arrive in any order.
    drop([next_stream(&mut inbound).await, next_stream(&mut inbound).await]);
    drop([first, second]);
    let third = soon(here.open(b"3".to_vec())).await;
    assert!(third.is_ok(), "{third:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_arrived_outlives_the_session() {
    let ((here, _in), (there, mut inbound)) = pair(2).await;
    let mut stream = here.open(b"last words".to_vec()).await.unwrap();
    stream.write_all(b"all of it").await.unwrap();
    soon(stream.shutdown()).await.unwrap();
    let mut theirs = next_stream(&mut inbound).await;
    here.close(Failure::new(Code::Unavailable, "done"));
    soon(there.closed()).await;
    let mut got = Vec::new();
    soon(theirs.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got, b"all of it");
    let late = here.open(b"late".to_vec()).await.unwrap_err();
    assert_eq!(late.outcome, Outcome::NotDone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_streams_are_a_violation() {
    for (kind, payload) in [(Kind::Open, &b"x"[..]), (Kind::Data, b"x"), (Kind::Finish, b""), (Kind::Credit, &[0; 4])] {
        let (mut a, b) = links().await;
        let (there, _inbound) = Session::start(proven(b, false), SessionOptions::default());
        let header = Header { kind, id: 1, length: payload.len() as u32 }.encode();
        a.io.write_all(&[&header, payload].concat()).await.unwrap();
        a.io.flush().await.unwrap();
        let reason = soon(there.closed()).await;
        assert!(reason.message.contains("stream on the control lane"), "{kind:?}: {reason}");
    }
}
