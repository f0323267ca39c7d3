//! Peers that break the rules, die, or send noise: raw bytes on the other end of a session.

use super::reader::GATHER;
use super::tests::{proven, soon};
use super::*;
use crate::memory_pair;
use bytes::Bytes;
use longshore_wire::frame::{Goodbye, HEADER, Header, INITIAL_CREDIT, Kind, MAX_DATA, RequestHead};
use longshore_wire::{Outcome, decode, encode};
use proptest::prelude::*;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Waker};
use tokio::io::{AsyncRead as _, AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

/// The other end of a session, which was the dialler: ids of its own are even.
struct Raw(Box<dyn crate::Io>);

fn raw_with(options: SessionOptions) -> (Raw, Session, Inbound) {
    let (a, b) = memory_pair();
    let (session, inbound) = Session::start(proven(a, true), options);
    (Raw(b.io), session, inbound)
}

fn raw() -> (Raw, Session, Inbound) {
    raw_with(SessionOptions::default())
}

fn frame(kind: Kind, id: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Header { kind, id, length: payload.len() as u32 }.encode().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

fn request(id: u32) -> Vec<u8> {
    let head = encode(&RequestHead { timeout_ms: 1000 });
    let mut payload = (head.len() as u16).to_be_bytes().to_vec();
    payload.extend_from_slice(&head);
    frame(Kind::Request, id, &payload)
}

impl Raw {
    async fn send(&mut self, bytes: &[u8]) {
        soon(self.0.write_all(bytes)).await.unwrap();
    }

    async fn any(&mut self) -> (Kind, u32, Vec<u8>) {
        let mut header = [0; HEADER];
        soon(self.0.read_exact(&mut header)).await.unwrap();
        let header = Header::decode(header).unwrap();
        let mut payload = vec![0; header.length as usize];
        soon(self.0.read_exact(&mut payload)).await.unwrap();
        (header.kind, header.id, payload)
    }

    /// The next frame that is no ping; those are answered.
    async fn next(&mut self) -> (Kind, u32, Vec<u8>) {
        loop {
            match self.any().await {
                (Kind::Ping, _, payload) => self.send(&frame(Kind::Pong, 0, &payload)).await,
                other => return other,
            }
        }
    }

    async fn goodbye(&mut self) -> Failure {
        loop {
            if let (Kind::Goodbye, _, payload) = self.next().await {
                return decode::<Goodbye>(&payload).unwrap().reason;
            }
        }
    }
}

#[tokio::test]
async fn violations_end_the_session_with_a_reason_on_both_sides() {
    let mut overrun = frame(Kind::Open, 2, &[]);
    for _ in 0..=INITIAL_CREDIT as usize / MAX_DATA {
        overrun.extend(frame(Kind::Data, 2, &[0; MAX_DATA]));
    }
    let grants = frame(Kind::Credit, 2, &[0xff; 4]).repeat(2);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("unknown kind 99", vec![99, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("the limit is 65536", vec![Kind::Data as u8, 0, 0, 0, 2, 0, 2, 0, 0]),
        ("the limit is 2097152", vec![Kind::Request as u8, 0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff]),
        ("id 2 is used again", [request(2), request(2)].concat()),
        ("id 2 is used again", [request(4), request(2)].concat()),
        ("id 2 is used again", [frame(Kind::Open, 2, &[]), request(2)].concat()),
        ("id 3 is not the peer's", request(3)),
        ("id 0 is not the peer's", frame(Kind::Open, 0, &[])),
        ("nothing ever had the id 4", [request(2), frame(Kind::Data, 4, &[1])].concat()),
        ("nothing ever had the id 7", frame(Kind::Reply, 7, &[1])),
        ("nothing ever had the id 0", frame(Kind::Cancel, 0, &[])),
        ("more data than", overrun),
        ("more credit than", [frame(Kind::Open, 2, &[]), grants].concat()),
        ("credit without a number", [frame(Kind::Open, 2, &[]), frame(Kind::Credit, 2, &[1])].concat()),
        ("two ends", [frame(Kind::Open, 2, &[]), frame(Kind::Finish, 2, &[]).repeat(2)].concat()),
        (
            "data behind the end",
            [frame(Kind::Open, 2, &[]), frame(Kind::Finish, 2, &[]), frame(Kind::Data, 2, &[1])].concat(),
        ),
        ("not a valid Failure", [frame(Kind::Open, 2, &[]), frame(Kind::Reset, 2, &[0xc1])].concat()),
        ("not a valid Goodbye", frame(Kind::Goodbye, 0, &[])),
        ("not a valid RequestHead", frame(Kind::Request, 2, &[0, 1, 0xc1])),
        ("without head", frame(Kind::Request, 2, &[0xff, 0xff, 1])),
    ];
    for (what, bytes) in cases {
        let (mut raw, session, mut inbound) = raw();
        let held = JoinSet::from_iter([async move {
            let mut held = Vec::new();
            while let Some(incoming) = inbound.next().await {
                held.push(incoming);
            }
        }]);
        raw.send(&bytes).await;
        let told = raw.goodbye().await;
        drop(raw);
        assert!(told.message.contains("protocol violation by control") && told.message.contains(what), "{told}");
        assert_eq!(soon(session.closed()).await, told);
        soon(held.join_all()).await;
    }
}

#[tokio::test]
async fn late_frames_are_no_violation() {
    let (mut raw, session, mut inbound) = raw();
    let stream = session.open(vec![]).await.unwrap();
    assert_eq!(raw.next().await, (Kind::Open, 1, vec![]));
    drop(stream);
    assert_eq!(raw.next().await.0, Kind::Reset);
    for kind in [Kind::Data, Kind::Finish, Kind::Reply, Kind::Cancel] {
        raw.send(&frame(kind, 1, &[])).await;
    }
    raw.send(&request(8)).await;
    let Some(Incoming::Request(request)) = soon(inbound.next()).await else { panic!("a request") };
    request.reply(Ok(vec![5]));
    assert_eq!(raw.next().await, (Kind::Reply, 8, vec![5]));
}

#[tokio::test]
async fn a_silent_peer_and_a_stuck_link_are_lost() {
    let options = || SessionOptions {
        ping_every: Duration::from_millis(20),
        lost_after: Duration::from_millis(200),
        ..SessionOptions::default()
    };
    let (_silent, session, _in) = raw_with(options());
    assert!(soon(session.closed()).await.message.contains("nothing has arrived"));

    // It talks, but reads nothing.
    let (Raw(io), session, _in) = raw_with(options());
    let (_unread, mut talking) = tokio::io::split(io);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while talking.write_all(&frame(Kind::Pong, 0, &[0; 8])).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    session.notify(vec![0; 500_000]).await.unwrap();
    assert!(soon(session.closed()).await.message.contains("nothing could be written"));
}

#[tokio::test]
async fn what_never_left_is_not_done() {
    let (_raw, session, _in) = raw();
    // Fills the link, then the queue behind it.
    session.notify(vec![0; 1_000_000]).await.unwrap();
    while session.core().outbox().batch() == 0 {
        tokio::task::yield_now().await;
    }
    let mut calls = JoinSet::new();
    for size in [10, 1_500_000, 20] {
        let session = session.clone();
        calls.spawn(async move { session.request(vec![0; size], SOON).await.unwrap_err() });
    }
    let queued = async {
        while session.core().outbox().has_room() {
            tokio::task::yield_now().await;
        }
    };
    soon(queued).await;
    let late = session.request(vec![0; 30], Duration::from_millis(20)).await.unwrap_err();
    assert_eq!((late.code, late.outcome), (Code::Timeout, Outcome::NotDone));
    session.abort();
    while let Some(failure) = soon(calls.join_next()).await {
        let failure = failure.unwrap();
        assert_eq!((failure.code, failure.outcome), (Code::Unavailable, Outcome::NotDone), "{failure}");
    }
}

#[tokio::test]
async fn control_goes_before_bulk_and_streams_take_turns() {
    let (mut raw, session, _in) = raw();
    let mut streams = (session.open(vec![]).await.unwrap(), session.open(vec![]).await.unwrap());
    let bulk = vec![0; INITIAL_CREDIT as usize / 2];
    streams.0.write_all(&bulk).await.unwrap();
    streams.1.write_all(&bulk).await.unwrap();
    // The link is full and the writer holds a batch; what is queued now must come right behind it.
    session.notify(b"first".to_vec()).await.unwrap();
    let (mut before, mut turns, mut last) = (0, 0, 0);
    loop {
        let (kind, id, payload) = raw.next().await;
        match kind {
            Kind::Notify => break,
            Kind::Data => {
                before += payload.len();
                turns += u32::from(last != id);
                last = id;
            }
            Kind::Open => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(before <= 512 * 1024 / 2, "{before} bytes of bulk in front");
    let mut left = 2 * bulk.len() - before;
    while left > 0 {
        let (_, id, payload) = raw.next().await;
        left -= payload.len();
        turns += u32::from(last != id);
        last = id;
    }
    assert!(turns > 8, "{turns} turns");
}

#[tokio::test]
async fn a_flood_that_reads_nothing_costs_bounded_memory() {
    let options = SessionOptions { lost_after: Duration::from_secs(1), ..SessionOptions::default() };
    let (Raw(io), session, inbound) = raw_with(options);
    drop(inbound);
    let (_unread, mut flood) = tokio::io::split(io);
    let flooding = async {
        for id in (2..).step_by(2) {
            if flood.write_all(&request(id)).await.is_err() {
                return;
            }
        }
    };
    soon(flooding).await;
    assert!(!session.core().outbox().is_clogged());
    soon(session.closed()).await;
}

/// Passes all requests on.
struct Relay(Session);

impl Handler for Relay {
    fn request(&self, mut request: Request) {
        let body = std::mem::take(&mut request.body);
        request.pass(&self.0, body);
    }

    fn notify(&self, _body: Bytes) {}

    fn open(&self, _head: Bytes, _stream: Stream) {}
}

#[tokio::test]
async fn what_was_passed_on_ends_with_its_time_though_nobody_cancels() {
    let options = SessionOptions { ping_every: Duration::from_millis(400), ..SessionOptions::default() };
    let (mut worker, far, _in) = raw_with(options.clone());
    let (a, b) = memory_pair();
    let near = Session::serve(proven(a, true), options, Arc::new(Relay(far)));
    let mut asker = Raw(b.io);
    asker.send(&request(2)).await;
    assert_eq!(worker.next().await.0, Kind::Request);
    assert_eq!(worker.next().await, (Kind::Cancel, 1, vec![]));
    let (kind, id, payload) = asker.next().await;
    let failure: Failure = decode(&payload).unwrap();
    assert_eq!((kind, id), (Kind::ReplyError, 2));
    assert_eq!((failure.code, failure.outcome), (Code::Timeout, Outcome::Unknown));
    // A late answer is nobody's, and no violation.
    worker.send(&frame(Kind::Reply, 1, &[1])).await;
    asker.send(&request(4)).await;
    assert_eq!(worker.next().await.1, 3);
    worker.send(&frame(Kind::Reply, 3, &[7])).await;
    assert_eq!(asker.next().await, (Kind::Reply, 4, vec![7]));
    assert!(!near.is_closed());
}

#[tokio::test]
async fn what_is_passed_to_a_stuck_peer_is_refused_as_busy() {
    let (stuck, far, _in) = raw();
    let (a, b) = memory_pair();
    let near = Session::serve(proven(a, true), SessionOptions::default(), Arc::new(Relay(far)));
    let mut asker = Raw(b.io);
    let big = |id: u32| {
        let mut bytes = Header { kind: Kind::Request, id, length: 1_500_019 }.encode().to_vec();
        bytes.extend(RequestHead { timeout_ms: 60_000 }.front());
        bytes.extend(vec![0; 1_500_000]);
        bytes
    };
    for id in [2, 4, 6, 8, 10, 12] {
        asker.send(&big(id)).await;
    }
    let (kind, _, payload) = asker.next().await;
    let failure: Failure = decode(&payload).unwrap();
    assert_eq!((kind, failure.code, failure.outcome), (Kind::ReplyError, Code::Busy, Outcome::NotDone));
    drop((stuck, near));
}

/// Bytes that look like a conversation, more or less.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let header = (0_u8..16, 0_u32..12, 0_usize..40).prop_map(|(kind, id, length)| {
        let mut bytes = vec![kind];
        bytes.extend(id.to_be_bytes());
        bytes.extend((length as u32).to_be_bytes());
        bytes.extend(std::iter::repeat_n(kind ^ 0x80, length));
        bytes
    });
    let small = prop::collection::vec(any::<u8>(), 0..30);
    let valid = (
        prop::sample::select(vec![
            Kind::Ping,
            Kind::Open,
            Kind::Data,
            Kind::Credit,
            Kind::Finish,
            Kind::Cancel,
            Kind::Notify,
        ]),
        1_u32..5,
        small.clone(),
    )
        .prop_map(|(kind, id, payload)| match kind {
            Kind::Cancel | Kind::Finish => frame(kind, id * 2, &[]),
            Kind::Credit => frame(kind, id * 2, &[0, 0, 1, 0]),
            Kind::Ping => frame(kind, 0, &[9; 8]),
            _ => frame(kind, id * 2, &payload),
        });
    let reply = (0_u32..4, small.clone()).prop_map(|(id, body)| frame(Kind::Reply, id * 2 + 1, &body));
    let asks = (1_u32..8).prop_map(|id| request(id * 2));
    let piece = prop_oneof![1 => small, 2 => header, 6 => valid, 2 => reply, 4 => asks];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

/// Takes all that arrives, and does something with it.
async fn consume(mut inbound: Inbound) {
    let mut streams = JoinSet::new();
    while let Some(incoming) = inbound.next().await {
        match incoming {
            Incoming::Request(request) if request.body.len() % 2 == 0 => request.reply(Ok(vec![1])),
            Incoming::Open { mut stream, .. } => {
                streams.spawn(async move {
                    let _ = stream.write_all(&[1; 100]).await;
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                });
            }
            Incoming::Request(_) | Incoming::Notify(_) => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn noise_neither_panics_nor_hangs(bytes in noise()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (Raw(io), session, inbound) = raw();
            let (mut unread, mut noise) = tokio::io::split(io);
            let mut tasks = JoinSet::new();
            tasks.spawn(consume(inbound));
            tasks.spawn(async move { while unread.read_buf(&mut Vec::with_capacity(4096)).await.is_ok_and(|n| n > 0) {} });
            let calling = session.clone();
            tasks.spawn(async move { drop(calling.request(vec![1], SOON).await) });
            let opened = session.open(vec![]).await.unwrap();
            // The session may end in the middle.
            let _ = timeout(SOON, noise.write_all(&bytes)).await.expect("the session reads on");
            noise.shutdown().await.unwrap();
            let reason = soon(session.closed()).await;
            prop_assert_ne!(reason.code, Code::Internal, "{}", reason);
            drop((opened, session));
            while let Some(ended) = soon(tasks.join_next()).await {
                prop_assert!(ended.is_ok());
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn bulk_waits_for_the_answers_to_its_pings_and_nothing_else_does() {
    const ALL: usize = 400_000;
    let (mut raw, session, _inbound) = raw();
    let mut stream = session.open("bulk").await.unwrap();
    let _sending = JoinSet::from_iter([async move {
        stream.send(Bytes::from(vec![7; ALL])).await.unwrap();
        stream.shutdown().await.unwrap();
        // Dropped, it would be reset.
        std::future::pending::<()>().await;
    }]);
    let (mut sent, mut pings, mut asked) = (0, Vec::new(), false);
    loop {
        let pause = if asked { SOON } else { Duration::from_millis(300) };
        match timeout(pause, raw.any()).await {
            Ok((Kind::Data, _, payload)) => sent += payload.len(),
            Ok((Kind::Ping, _, payload)) => pings.push(payload),
            Ok((Kind::Notify, ..)) => break,
            Ok(_) => {}
            Err(_) if pings.is_empty() => {}
            Err(_) => {
                session.notify("over here").await.unwrap();
                asked = true;
            }
        }
    }
    assert!(sent < ALL / 2, "{sent} bytes were sent without an answer");
    while sent < ALL {
        for ping in pings.drain(..) {
            raw.send(&frame(Kind::Pong, 0, &ping)).await;
        }
        match raw.any().await {
            (Kind::Data, _, payload) => sent += payload.len(),
            (Kind::Ping, _, payload) => pings.push(payload),
            _ => {}
        }
    }
}

/// The peer's end of the link.
type Reading = tokio::io::ReadHalf<Box<dyn crate::Io>>;

/// Answers at once, and notes how many answers its peer could have read by then.
struct Watching {
    reading: Mutex<(Reading, Vec<u8>)>,
    seen: Mutex<Vec<usize>>,
}

impl Handler for Watching {
    fn request(&self, request: Request) {
        request.answer(Bytes::new());
        let mut reading = self.reading.lock().unwrap();
        let (io, bytes) = &mut *reading;
        let mut space = [0; 4096];
        let mut space = tokio::io::ReadBuf::new(&mut space);
        let cx = &mut Context::from_waker(Waker::noop());
        if Pin::new(io).poll_read(cx, &mut space).is_ready() {
            bytes.extend_from_slice(space.filled());
        }
        let (mut rest, mut answers) = (&bytes[..], 0);
        while let Some(header) = rest.first_chunk::<HEADER>() {
            let header = Header::decode(*header).unwrap();
            answers += usize::from(header.kind == Kind::Reply);
            rest = &rest[HEADER + header.length as usize..];
        }
        self.seen.lock().unwrap().push(answers);
    }

    fn notify(&self, _: Bytes) {}

    fn open(&self, _: Bytes, _: Stream) {}
}

#[tokio::test]
async fn the_first_answers_do_not_wait_for_a_long_portion() {
    let (a, b) = memory_pair();
    let (reading, mut writing) = tokio::io::split(b.io);
    let watching = Arc::new(Watching { reading: Mutex::new((reading, Vec::new())), seen: Mutex::default() });
    let session = Session::serve(proven(a, true), SessionOptions::default(), Arc::clone(&watching) as Arc<dyn Handler>);
    let requests: Vec<u8> = (1..=2 * GATHER as u32).flat_map(|number| request(2 * number)).collect();
    soon(writing.write_all(&requests)).await.unwrap();
    let all = async {
        while watching.seen.lock().unwrap().len() < 2 * GATHER {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(all).await;
    let seen = watching.seen.lock().unwrap().clone();
    assert_eq!(seen[..GATHER], [0; GATHER], "they gather");
    assert_eq!(seen[GATHER..], [GATHER; GATHER], "and leave before the rest is done");
    session.abort();
}
