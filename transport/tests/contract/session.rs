//! What a session promises, whatever carries it.

use crate::harness::{Cluster, identity, pair};
use longshore_transport::{
    Carrier, Inbound, Incoming, Link, Proven, Request, Session, SessionOptions, Stream, prove, verify,
};
use longshore_wire::frame::{HEADER, Header, Kind};
use longshore_wire::{Code, Failure, Outcome, Role};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

on_every_carrier!(
    requests_get_their_replies,
    a_big_request_and_its_reply_arrive_whole,
    a_failure_arrives_as_it_was,
    a_stream_carries_bulk_both_ways,
    a_goodbye_is_heard,
    a_cut_is_seen,
    a_session_runs_inside_a_stream,
    a_deadline_crosses_the_wire,
    a_dropped_call_is_cancelled_at_the_peer,
    what_was_queued_leaves_before_the_goodbye,
    control_frames_overtake_bulk,
);

const PATIENCE: Duration = Duration::from_secs(20);

type End = (Session, Inbound);

/// The worker's and the control node's end of one session.
async fn session(cluster: &Cluster, links: (Link, Link)) -> (End, End) {
    let (dialled, accepted) = cluster.meet(&cluster.dialler(), links).await;
    let start = |proven| Session::start(proven, SessionOptions::default());
    (start(dialled.unwrap()), start(accepted.unwrap()))
}

/// Answers requests with their own body, refuses empty ones, echoes streams; ends with the session.
async fn echo(mut inbound: Inbound) {
    let mut streams = JoinSet::new();
    while let Some(incoming) = inbound.next().await {
        match incoming {
            Incoming::Request(request) if request.body.is_empty() => {
                request.reply(Err(Failure::new(Code::Conflict, "an empty body says nothing")));
            }
            Incoming::Request(request) => {
                let body = request.body.to_vec();
                request.reply(Ok(body));
            }
            Incoming::Notify(_) => {}
            Incoming::Open { stream, .. } => {
                streams.spawn(echo_stream(stream));
            }
        }
    }
    streams.join_all().await;
}

async fn echo_stream(stream: Stream) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    writer.shutdown().await.unwrap();
}

async fn requests_get_their_replies(carrier: Carrier) {
    let cluster = Cluster::new();
    let ((worker, _inbound), (control, inbound)) = session(&cluster, pair(carrier).await).await;
    let ask = async {
        for number in 0..100_u32 {
            let body = number.to_be_bytes().to_vec();
            assert_eq!(worker.request(body.clone(), PATIENCE).await.unwrap(), body);
        }
        let mut at_once = JoinSet::new();
        for number in 0..64_u32 {
            let worker = worker.clone();
            at_once.spawn(async move {
                let body = number.to_le_bytes().to_vec();
                assert_eq!(worker.request(body.clone(), PATIENCE).await.unwrap(), body);
            });
        }
        at_once.join_all().await;
        worker.close(Failure::new(Code::Unavailable, "done"));
    };
    tokio::join!(ask, echo(inbound));
    assert!(control.is_closed());
    assert_eq!(control.peer().carrier, carrier);
}

async fn a_big_request_and_its_reply_arrive_whole(carrier: Carrier) {
    let cluster = Cluster::new();
    let ((worker, _inbound), (_control, inbound)) = session(&cluster, pair(carrier).await).await;
    let body: Vec<u8> = (0..1_500_000_u32).map(|at| (at.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
    let ask = async {
        assert!(worker.request(body.clone(), PATIENCE).await.unwrap() == body);
        let too_big = worker.request(vec![0; 3 * 1024 * 1024], PATIENCE).await.unwrap_err();
        assert_eq!((too_big.code, too_big.outcome), (Code::TooLarge, Outcome::NotDone));
        assert!(worker.request(b"still there".to_vec(), PATIENCE).await.is_ok());
        worker.close(Failure::new(Code::Unavailable, "done"));
    };
    tokio::join!(ask, echo(inbound));
}

async fn a_failure_arrives_as_it_was(carrier: Carrier) {
    let cluster = Cluster::new();
    let ((worker, _inbound), (_control, inbound)) = session(&cluster, pair(carrier).await).await;
    let ask = async {
        let failure = worker.request(Vec::new(), PATIENCE).await.unwrap_err();
        assert_eq!(failure, Failure::new(Code::Conflict, "an empty body says nothing"));
        worker.close(Failure::new(Code::Unavailable, "done"));
    };
    tokio::join!(ask, echo(inbound));
}

async fn a_stream_carries_bulk_both_ways(carrier: Carrier) {
    const BULK: usize = 8 * 1024 * 1024;
    let cluster = Cluster::new();
    let ((_worker, inbound), (control, _inbound)) = session(&cluster, pair(carrier).await).await;
    let sent: Vec<u8> = (0..BULK).map(|at| (at.wrapping_mul(0x9e37_79b1) >> 13) as u8).collect();
    let ask = async {
        let (mut reader, mut writer) = tokio::io::split(control.open(b"echo".to_vec()).await.unwrap());
        let mut back = Vec::with_capacity(BULK);
        let write = async {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        tokio::join!(write, async { reader.read_to_end(&mut back).await.unwrap() });
        assert!(back == sent);
        control.close(Failure::new(Code::Unavailable, "done"));
    };
    tokio::join!(ask, echo(inbound));
}

async fn a_goodbye_is_heard(carrier: Carrier) {
    let cluster = Cluster::new();
    let ((worker, mut inbound), (control, _inbound)) = session(&cluster, pair(carrier).await).await;
    control.close(Failure::new(Code::NotOwner, "another node owns you now"));
    let reason = worker.closed().await;
    assert_eq!((reason.code, reason.message.contains("another node owns you now")), (Code::NotOwner, true), "{reason}");
    assert!(inbound.next().await.is_none());
    let late = worker.request(b"late".to_vec(), PATIENCE).await.unwrap_err();
    assert_eq!(late.outcome, Outcome::NotDone, "nothing of it was sent");
}

async fn a_cut_is_seen(carrier: Carrier) {
    let cluster = Cluster::new();
    let ((worker, mut quiet), (control, mut inbound)) = session(&cluster, pair(carrier).await).await;
    let ask = worker.request(b"never answered".to_vec(), PATIENCE);
    let cut = async {
        let Some(Incoming::Request(request)) = inbound.next().await else { panic!("no request") };
        control.abort();
        request.cancelled().cancelled().await;
        drop(request);
    };
    let (asked, ()) = tokio::join!(ask, cut);
    assert_eq!(asked.unwrap_err().outcome, Outcome::Unknown, "it arrived, and nobody knows more");
    worker.closed().await;
    assert!(worker.is_closed() && quiet.next().await.is_none() && inbound.next().await.is_none());
}

async fn a_session_runs_inside_a_stream(carrier: Carrier) {
    let cluster = Cluster::new();
    let ((outer, _inbound), (_control, mut inbound)) = session(&cluster, pair(carrier).await).await;
    let dialler = cluster.dialler();
    let owner = identity(5, Role::Control);
    let find = |name: &str| cluster.verifiers.iter().find(|verifier| verifier.credential == name).cloned();
    let inner = async {
        let tunnel = Link::tunnel(outer.open(b"tunnel".to_vec()).await.unwrap());
        prove(tunnel, &dialler.me, &dialler.keyring, Role::Control).await.unwrap()
    };
    let owned = async {
        let Some(Incoming::Open { stream, .. }) = inbound.next().await else { panic!("no stream") };
        verify(Link::tunnel(stream), &owner, &find).await.unwrap()
    };
    let (dialled, accepted) = tokio::join!(inner, owned);
    assert_eq!((dialled.peer.node, dialled.peer.carrier), (owner.node, Carrier::Tunnel));
    let (worker, _quiet) = Session::start(dialled, SessionOptions::default());
    let (_owner, served) = Session::start(accepted, SessionOptions::default());
    let ask = async {
        assert_eq!(worker.request(b"through".to_vec(), PATIENCE).await.unwrap(), &b"through"[..]);
        worker.close(Failure::new(Code::Unavailable, "done"));
    };
    tokio::join!(ask, echo(served));
}

async fn next_request(inbound: &mut Inbound) -> Request {
    let Some(Incoming::Request(request)) = inbound.next().await else { panic!("no request") };
    request
}

async fn a_deadline_crosses_the_wire(carrier: Carrier) {
    let cluster = Cluster::new();
    let ((worker, _quiet), (_control, mut inbound)) = session(&cluster, pair(carrier).await).await;
    for given in [Duration::from_millis(200), Duration::from_millis(1600)] {
        let begun = Instant::now();
        let ask = async {
            let late = worker.request(b"slow".to_vec(), given).await.unwrap_err();
            assert_eq!((late.code, late.outcome), (Code::Timeout, Outcome::Unknown));
            assert!(begun.elapsed() >= given);
        };
        let serve = async {
            let request = next_request(&mut inbound).await;
            assert!(request.deadline >= begun + given - Duration::from_millis(1));
            assert!(request.deadline <= Instant::now() + given);
            request.cancelled().cancelled().await;
            request.reply(Ok(vec![1]));
        };
        tokio::join!(ask, serve);
    }
    let ask = worker.request(b"still there".to_vec(), PATIENCE);
    let (asked, ()) = tokio::join!(ask, async { next_request(&mut inbound).await.answer(&b"yes"[..]) });
    assert_eq!(asked.unwrap(), &b"yes"[..]);
}

async fn a_dropped_call_is_cancelled_at_the_peer(carrier: Carrier) {
    let cluster = Cluster::new();
    let ((worker, _quiet), (_control, mut inbound)) = session(&cluster, pair(carrier).await).await;
    let request = tokio::select! {
        _ = worker.request(b"never mind".to_vec(), PATIENCE) => panic!("nobody has answered"),
        request = next_request(&mut inbound) => request,
    };
    request.cancelled().cancelled().await;
}

async fn what_was_queued_leaves_before_the_goodbye(carrier: Carrier) {
    let cluster = Cluster::new();
    let ((worker, mut heard), (control, mut inbound)) = session(&cluster, pair(carrier).await).await;
    let ask = worker.request(b"the last one".to_vec(), PATIENCE);
    let leave = async {
        let request = next_request(&mut inbound).await;
        for number in 0..50_u8 {
            control.notify(vec![number; 10_000]).await.unwrap();
        }
        request.answer(vec![9; 500_000]);
        control.close(Failure::new(Code::Unavailable, "this node is leaving"));
        let late = control.request(Vec::new(), PATIENCE).await.unwrap_err();
        assert_eq!((late.code, late.outcome), (Code::Unavailable, Outcome::NotDone));
    };
    let (asked, ()) = tokio::join!(ask, leave);
    assert!(asked.unwrap() == vec![9; 500_000]);
    for number in 0..50_u8 {
        assert!(matches!(heard.next().await, Some(Incoming::Notify(body)) if body == vec![number; 10_000]));
    }
    assert_eq!(worker.closed().await.message, "this node is leaving");
}

async fn control_frames_overtake_bulk(carrier: Carrier) {
    const STREAMS: usize = 32;
    if carrier == Carrier::Quic {
        // There bulk is not on this line at all: `session::lane` has its own tests.
        return;
    }
    let cluster = Cluster::new();
    let (dialled, accepted) = cluster.meet(&cluster.dialler(), pair(carrier).await).await;
    let (worker, _quiet) = Session::start(dialled.unwrap(), SessionOptions::default());
    let Proven { link, .. } = accepted.unwrap();
    // The other end reads nothing yet: the line fills up, and most of the bulk waits here.
    let mut held = Vec::new();
    let mut queued = 0;
    for _ in 0..STREAMS {
        let mut stream = worker.open(Vec::new()).await.unwrap();
        while let Ok(wrote) = timeout(Duration::from_millis(20), stream.write(&[7; 64 * 1024])).await {
            queued += wrote.unwrap();
        }
        held.push(stream);
    }
    worker.notify(b"first".to_vec()).await.unwrap();
    let (mut io, mut before) = (link.io, 0);
    loop {
        let mut header = [0; HEADER];
        io.read_exact(&mut header).await.unwrap();
        let header = Header::decode(header).unwrap();
        let mut payload = vec![0; header.length as usize];
        io.read_exact(&mut payload).await.unwrap();
        match header.kind {
            Kind::Notify => break,
            Kind::Data => before += payload.len(),
            _ => {}
        }
    }
    assert!(queued - before > queued / 4, "{before} bytes of {queued} were in front");
}
