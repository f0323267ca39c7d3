//! What a session promises, whatever carries it.

use crate::harness::{Cluster, identity, pair};
use longshore_transport::{Carrier, Inbound, Incoming, Link, Session, SessionOptions, Stream, prove, verify};
use longshore_wire::{Code, Failure, Outcome, Role};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

on_every_carrier!(
    requests_get_their_replies,
    a_big_request_and_its_reply_arrive_whole,
    a_failure_arrives_as_it_was,
    a_stream_carries_bulk_both_ways,
    a_goodbye_is_heard,
    a_cut_is_seen,
    a_session_runs_inside_a_stream,
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
