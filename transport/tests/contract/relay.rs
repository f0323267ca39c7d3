//! What a handler and a relay promise, whatever carries their sessions.

use crate::harness::{Cluster, Dialler, identity, pair};
use bytes::Bytes;
use longshore_transport::{
    Carrier, Ending, First, Handler, Inbound, Incoming, Keyring, Onward, Request, Rescue, Session, SessionOptions,
    Stream,
};
use longshore_wire::{Code, Failure, Outcome, RequestId, Role};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

on_every_carrier!(
    a_handler_takes_all_that_arrives,
    a_handler_that_panics_ends_its_session,
    a_relay_gives_answers_back_as_they_are,
    a_relay_keeps_the_deadline,
    what_is_too_late_is_not_relayed,
    a_cancel_crosses_the_relay,
    a_lost_asker_cancels_behind_the_relay,
    a_lost_worker_is_told_with_its_outcome,
    a_closed_worker_is_not_done,
    directions_reach_the_dialler,
    what_a_lost_session_owes_is_taken_back,
    some_requests_are_settled_before_the_queue,
    who_is_not_the_owner_gives_the_request_back,
);

const PATIENCE: Duration = Duration::from_secs(20);
/// Body of a request whose time is over when the relay comes to it.
const OVERDUE: &[u8] = b"overdue";

async fn session(carrier: Carrier, number: u128, taker: Option<Arc<dyn Handler>>) -> (Session, Inbound, Session) {
    let cluster = Cluster::new();
    let dialler = Dialler {
        me: identity(number, Role::Worker),
        keyring: Keyring::new(cluster.worker.clone(), "worker".to_owned()),
        expect: Role::Control,
    };
    let (dialled, accepted) = cluster.meet(&dialler, pair(carrier).await).await;
    let (worker, inbound) = Session::start(dialled.unwrap(), SessionOptions::default());
    let control = match taker {
        Some(taker) => Session::serve(accepted.unwrap(), SessionOptions::default(), taker),
        None => Session::start(accepted.unwrap(), SessionOptions::default()).0,
    };
    (worker, inbound, control)
}

/// Passes every request on to one session.
#[derive(Default)]
struct Relay {
    to: OnceLock<Session>,
}

impl Handler for Relay {
    fn request(&self, mut request: Request) {
        let body = request.body.clone();
        if &body[..] == OVERDUE {
            request.deadline = Instant::now() - Duration::from_secs(1);
        }
        request.pass(self.to.get().unwrap(), body);
    }

    fn notify(&self, _body: Bytes) {}

    fn open(&self, _head: Bytes, stream: Stream) {
        stream.reset(Failure::new(Code::Unsupported, "no streams here"));
    }
}

/// An asker, a relay, a worker.
struct Line {
    asker: Session,
    /// The relay's end towards the asker.
    near: Session,
    /// The relay's end towards the worker.
    far: Session,
    worker: Session,
    inbound: Inbound,
    _quiet: Inbound,
}

async fn line(carrier: Carrier) -> Line {
    let relay = Arc::new(Relay::default());
    let (worker, inbound, far) = session(carrier, 3, None).await;
    relay.to.set(far.clone()).unwrap();
    let (asker, quiet, near) = session(carrier, 2, Some(relay)).await;
    Line { asker, near, far, worker, inbound, _quiet: quiet }
}

async fn next_request(inbound: &mut Inbound) -> Request {
    let Some(Incoming::Request(request)) = inbound.next().await else { panic!("no request") };
    request
}

#[derive(Default)]
struct Counter {
    heard: Mutex<Vec<Bytes>>,
    rang: Notify,
    streams: Mutex<JoinSet<()>>,
}

impl Handler for Counter {
    fn request(&self, request: Request) {
        match &request.body[..] {
            b"panic" => panic!("the handler's own fault"),
            b"drop" => drop(request),
            _ => {
                let body = request.body.clone();
                request.answer(body);
            }
        }
    }

    fn notify(&self, body: Bytes) {
        self.heard.lock().unwrap().push(body);
        self.rang.notify_one();
    }

    fn open(&self, head: Bytes, mut stream: Stream) {
        self.streams.lock().unwrap().spawn(async move {
            stream.write_all(&head).await.unwrap();
            stream.shutdown().await.unwrap();
        });
    }
}

async fn a_handler_takes_all_that_arrives(carrier: Carrier) {
    let counter = Arc::new(Counter::default());
    let (worker, _quiet, control) = session(carrier, 2, Some(counter.clone())).await;
    let mut at_once = JoinSet::new();
    for number in 0..300_u32 {
        let worker = worker.clone();
        at_once.spawn(async move {
            let body = vec![number as u8; if number % 50 == 0 { 300_000 } else { 40 }];
            assert_eq!(worker.request(body.clone(), PATIENCE).await.unwrap(), body);
        });
    }
    at_once.join_all().await;
    let dropped = worker.request(b"drop".to_vec(), PATIENCE).await.unwrap_err();
    assert_eq!((dropped.code, dropped.outcome), (Code::Internal, Outcome::Unknown));
    worker.notify(b"one".to_vec()).await.unwrap();
    counter.rang.notified().await;
    assert_eq!(*counter.heard.lock().unwrap(), [&b"one"[..]]);
    let mut stream = worker.open(b"head".to_vec()).await.unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"head");
    drop(control);
    worker.closed().await;
}

async fn a_handler_that_panics_ends_its_session(carrier: Carrier) {
    let (worker, _quiet, control) = session(carrier, 2, Some(Arc::new(Counter::default()))).await;
    let lost = worker.request(b"panic".to_vec(), PATIENCE).await.unwrap_err();
    assert_eq!(lost.outcome, Outcome::Unknown);
    assert_eq!(control.closed().await.code, Code::Internal);
}

async fn a_relay_gives_answers_back_as_they_are(carrier: Carrier) {
    let mut line = line(carrier).await;
    let ask = async {
        let mut at_once = JoinSet::new();
        for number in 0..200_u32 {
            let asker = line.asker.clone();
            at_once.spawn(async move {
                let body = vec![number as u8; if number % 50 == 0 { 200_000 } else { 64 }];
                assert_eq!(asker.request(body.clone(), PATIENCE).await.unwrap(), body);
            });
        }
        at_once.join_all().await;
        let failure = line.asker.request(b"no".to_vec(), PATIENCE).await.unwrap_err();
        let sent = Failure { code: Code::Conflict, message: "no".to_owned(), outcome: Outcome::Done };
        assert_eq!(failure, sent);
        line.worker.close(Failure::new(Code::Unavailable, "done"));
    };
    let work = async {
        while let Some(Incoming::Request(request)) = line.inbound.next().await {
            match &request.body[..] {
                b"no" => {
                    let failure = Failure { code: Code::Conflict, message: "no".to_owned(), outcome: Outcome::Done };
                    request.reply(Err(failure));
                }
                _ => {
                    let body = request.body.to_vec();
                    request.reply(Ok(body));
                }
            }
        }
    };
    tokio::join!(ask, work);
}

async fn a_relay_keeps_the_deadline(carrier: Carrier) {
    let mut line = line(carrier).await;
    let given = Duration::from_secs(3);
    let begun = Instant::now();
    let ask = async {
        let late = line.asker.request(b"slow".to_vec(), given).await.unwrap_err();
        assert_eq!((late.code, late.outcome), (Code::Timeout, Outcome::Unknown));
    };
    let work = async {
        let request = next_request(&mut line.inbound).await;
        assert!(request.deadline <= Instant::now() + given, "no more than the asker has");
        assert!(request.deadline > begun, "and some");
        request.cancelled().cancelled().await;
    };
    tokio::join!(ask, work);
}

async fn what_is_too_late_is_not_relayed(carrier: Carrier) {
    let mut line = line(carrier).await;
    let ask = async {
        let late = line.asker.request(OVERDUE.to_vec(), PATIENCE).await.unwrap_err();
        assert_eq!((late.code, late.outcome), (Code::Timeout, Outcome::NotDone), "{late}");
        assert_eq!(line.asker.request(b"in time".to_vec(), PATIENCE).await.unwrap(), &b"in time"[..]);
    };
    tokio::join!(ask, async {
        let first = next_request(&mut line.inbound).await;
        let body = first.body.clone();
        first.answer(body);
    });
}

async fn a_cancel_crosses_the_relay(carrier: Carrier) {
    let mut line = line(carrier).await;
    let request = tokio::select! {
        _ = line.asker.request(b"never mind".to_vec(), PATIENCE) => panic!("nobody has answered"),
        request = next_request(&mut line.inbound) => request,
    };
    request.cancelled().cancelled().await;
    request.reply(Ok(vec![1]));
    let again = async { assert_eq!(line.asker.request(b"again".to_vec(), PATIENCE).await.unwrap(), &b"2"[..]) };
    tokio::join!(again, async { next_request(&mut line.inbound).await.answer(&b"2"[..]) });
}

async fn a_lost_asker_cancels_behind_the_relay(carrier: Carrier) {
    let mut line = line(carrier).await;
    let ask = line.asker.request(b"gone soon".to_vec(), PATIENCE);
    let cut = async {
        let request = next_request(&mut line.inbound).await;
        line.near.abort();
        request.cancelled().cancelled().await;
    };
    let (asked, ()) = tokio::join!(ask, cut);
    assert_eq!(asked.unwrap_err().outcome, Outcome::Unknown);
}

async fn a_lost_worker_is_told_with_its_outcome(carrier: Carrier) {
    let mut line = line(carrier).await;
    let ask = line.asker.request(b"lost".to_vec(), PATIENCE);
    let cut = async {
        let request = next_request(&mut line.inbound).await;
        line.far.abort();
        drop(request);
    };
    let (asked, ()) = tokio::join!(ask, cut);
    let failure = asked.unwrap_err();
    assert_eq!((failure.code, failure.outcome), (Code::Unavailable, Outcome::Unknown), "{failure}");
    assert!(!line.asker.is_closed());
}

async fn a_closed_worker_is_not_done(carrier: Carrier) {
    let line = line(carrier).await;
    line.far.close(Failure::new(Code::NotOwner, "it moved away"));
    let failure = line.asker.request(b"too late".to_vec(), PATIENCE).await.unwrap_err();
    assert_eq!((failure.code, failure.outcome), (Code::Unavailable, Outcome::NotDone), "{failure}");
    assert!(failure.message.contains("it moved away"), "{failure}");
}

async fn directions_reach_the_dialler(carrier: Carrier) {
    let (worker, _quiet, control) = session(carrier, 2, None).await;
    let directions = Ending {
        reason: Failure::new(Code::NotOwner, "another node is nearer"),
        retry_after: Some(Duration::from_millis(1500)),
        go_to: vec!["longshore://a.example:8137;transport=tls".parse().unwrap()],
    };
    let Ending { reason, retry_after, go_to } = directions.clone();
    control.steer(reason.clone(), retry_after, go_to);
    assert_eq!(worker.ended().await, directions);
    assert_eq!((worker.closed().await, control.ended().await), (reason, directions));
    let (worker, _quiet, control) = session(carrier, 2, None).await;
    control.close(Failure::new(Code::Unavailable, "plain"));
    let plain = worker.ended().await;
    assert_eq!((plain.retry_after, plain.go_to.len()), (None, 0));
}

/// Of the process that is asked.
const BOOT: RequestId = RequestId::from_u128(7);

/// Passes every request on, in parts, and answers those that come back with what is known of them.
struct Mender {
    to: Session,
    seen: Mutex<Vec<Outcome>>,
}

struct Mending(Arc<Mender>);

impl First for Mending {
    fn take(&self, request: Request) -> Option<Request> {
        if &request.body[..] == b"for the queue" {
            return Some(request);
        }
        let (middle, end) = (request.body.len() / 2, request.body.len());
        let onward = Onward::Parts(b"", [0..middle, middle..end]);
        request.pass_or(&self.0.to, onward, self.0.clone(), Some(BOOT));
        None
    }
}

impl Rescue for Mender {
    fn lost(&self, request: Request, boot: Option<RequestId>, failure: Failure) {
        assert_eq!(boot, Some(BOOT));
        self.seen.lock().unwrap().push(failure.outcome);
        assert!(request.deadline > Instant::now());
        let answer = [b"mended ", &request.body[..]].concat();
        request.answer(answer);
    }
}

/// A relay that mends, its asker, and the worker behind it.
async fn mended(carrier: Carrier) -> (Arc<Mender>, Session, Inbound, Session, Inbound) {
    let (worker, inbound, far) = session(carrier, 3, None).await;
    let mender = Arc::new(Mender { to: far, seen: Mutex::default() });
    let cluster = Cluster::new();
    let dialler = Dialler {
        me: identity(2, Role::Worker),
        keyring: Keyring::new(cluster.worker.clone(), "worker".to_owned()),
        expect: Role::Control,
    };
    let (dialled, accepted) = cluster.meet(&dialler, pair(carrier).await).await;
    let (asker, quiet) = Session::start(dialled.unwrap(), SessionOptions::default());
    drop(quiet);
    let first = Arc::new(Mending(Arc::clone(&mender)));
    let (near, queue) = Session::start_with(accepted.unwrap(), SessionOptions::default(), first);
    drop(near);
    (mender, asker, queue, worker, inbound)
}

async fn what_a_lost_session_owes_is_taken_back(carrier: Carrier) {
    let (mender, asker, _queue, worker, mut inbound) = mended(carrier).await;
    let (answer, ()) = tokio::join!(asker.request(b"this".to_vec(), PATIENCE), async {
        let held = next_request(&mut inbound).await;
        worker.abort();
        worker.closed().await;
        drop(held);
    });
    assert_eq!(answer.unwrap(), &b"mended this"[..]);
    mender.to.closed().await;
    assert_eq!(mender.seen.lock().unwrap().len(), 1);
    assert_eq!(asker.request(b"that".to_vec(), PATIENCE).await.unwrap(), &b"mended that"[..]);
    assert_eq!(*mender.seen.lock().unwrap(), [Outcome::Unknown, Outcome::NotDone]);
}

async fn some_requests_are_settled_before_the_queue(carrier: Carrier) {
    let (_mender, asker, mut queue, _worker, mut inbound) = mended(carrier).await;
    let (queued, ()) = tokio::join!(asker.request(b"for the queue".to_vec(), PATIENCE), async {
        next_request(&mut queue).await.answer(&b"queued"[..]);
    });
    assert_eq!(queued.unwrap(), &b"queued"[..]);
    let (passed, ()) = tokio::join!(asker.request(b"to the worker".to_vec(), PATIENCE), async {
        next_request(&mut inbound).await.answer(&b"passed"[..]);
    });
    assert_eq!(passed.unwrap(), &b"passed"[..]);
}

async fn who_is_not_the_owner_gives_the_request_back(carrier: Carrier) {
    let (mender, asker, _queue, _worker, mut inbound) = mended(carrier).await;
    let mut ask = async |code| {
        let (answer, ()) = tokio::join!(asker.request(b"this".to_vec(), PATIENCE), async {
            next_request(&mut inbound).await.reply(Err(Failure::new(code, "no")));
        });
        answer
    };
    assert_eq!(ask(Code::NotOwner).await.unwrap(), &b"mended this"[..]);
    assert_eq!(ask(Code::NotFound).await.unwrap_err().code, Code::NotFound);
    assert_eq!(*mender.seen.lock().unwrap(), [Outcome::NotDone]);
}
