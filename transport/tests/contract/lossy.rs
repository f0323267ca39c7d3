//! QUIC where packets are lost, and with many streams: one transfer's loss is nobody else's.

use crate::harness::{Cluster, accept, client_tls, endpoint, listen, listen_with, pair};
use crate::trust::{Ca, with_ca};
use bytes::Bytes;
use longshore_transport::{Carrier, DialOptions, Inbound, Incoming, Link, Session, SessionOptions, Stream, When, dial};
use longshore_wire::Transport;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Each way.
const DELAY: Duration = Duration::from_millis(20);
/// Packets of this size and more carry bulk; of those, one of so many is lost.
const LARGE: usize = 1000;
const LOST: usize = 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// A way between one client and a server, both ways slow, on which large packets of the client are lost; gives its address
/// and the number of packets lost so far.
async fn lossy(server: SocketAddr, tasks: &mut JoinSet<()>) -> (SocketAddr, Arc<AtomicUsize>) {
    let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    back.connect(server).await.unwrap();
    let (address, lost) = (front.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let (up, mut upward) = mpsc::channel::<(Instant, Vec<u8>)>(4096);
    let (down, mut downward) = mpsc::channel::<(Instant, Vec<u8>)>(4096);
    let (client, mut clients) = mpsc::channel::<SocketAddr>(1);
    let (receiver, counted) = (Arc::clone(&front), Arc::clone(&lost));
    tasks.spawn(async move {
        let (mut bytes, mut large) = (vec![0; 65536], 0);
        while let Ok((length, from)) = receiver.recv_from(&mut bytes).await {
            let _known = client.try_send(from);
            if length >= LARGE {
                large += 1;
                if large % LOST == 0 {
                    counted.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            }
            // A full queue loses packets as well.
            let _full = up.try_send((Instant::now() + DELAY, bytes[..length].to_vec()));
        }
    });
    let sender = Arc::clone(&back);
    tasks.spawn(async move {
        while let Some((due, packet)) = upward.recv().await {
            tokio::time::sleep_until(due).await;
            let _gone = sender.send(&packet).await;
        }
    });
    tasks.spawn(async move {
        let mut bytes = vec![0; 65536];
        while let Ok(length) = back.recv(&mut bytes).await {
            let _full = down.try_send((Instant::now() + DELAY, bytes[..length].to_vec()));
        }
    });
    tasks.spawn(async move {
        let Some(client) = clients.recv().await else { return };
        while let Some((due, packet)) = downward.recv().await {
            tokio::time::sleep_until(due).await;
            let _gone = front.send_to(&packet, client).await;
        }
    });
    (address, lost)
}

async fn sessions(cluster: &Cluster, links: (Link, Link)) -> ((Session, Inbound), (Session, Inbound)) {
    let (dialled, accepted) = cluster.meet(&cluster.dialler(), links).await;
    let start = |proven| Session::start(proven, SessionOptions::default());
    (start(dialled.unwrap()), start(accepted.unwrap()))
}

/// Answers requests; reads streams to their ends and tells how many bytes came.
async fn sink(mut inbound: Inbound, read: Arc<AtomicUsize>) {
    let mut streams = JoinSet::new();
    while let Some(incoming) = inbound.next().await {
        match incoming {
            Incoming::Request(request) => {
                let body = request.body.to_vec();
                request.reply(Ok(body));
            }
            Incoming::Notify(_) => {}
            Incoming::Open { stream, .. } => {
                streams.spawn(drain(stream, Arc::clone(&read)));
            }
        }
    }
    streams.shutdown().await;
}

async fn drain(mut stream: Stream, read: Arc<AtomicUsize>) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut bytes).await {
        read.fetch_add(length, Ordering::Relaxed);
    }
    let _gone = stream.shutdown().await;
}

/// The median round trip of so many requests, one after the other.
async fn round_trip(session: &Session, times: usize) -> Duration {
    let mut took = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        session.request(b"ping".to_vec(), PATIENCE).await.unwrap();
        took.push(start.elapsed());
    }
    took.sort();
    took[times / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_bulk_does_not_hold_up_control() {
    let (mut tasks, cluster, listener) = (JoinSet::new(), Cluster::new(), listen(Transport::Quic).await);
    let (way, lost) = lossy(listener.local_addr(), &mut tasks).await;
    let (endpoint, options) = (endpoint(Transport::Quic, way), DialOptions::new(client_tls()));
    let (dialled, accepted) = tokio::join!(dial(&endpoint, &options), accept(&listener));
    let ((worker, _kept), (_control, inbound)) = sessions(&cluster, (dialled.unwrap(), accepted)).await;
    let read = Arc::new(AtomicUsize::new(0));
    tasks.spawn(sink(inbound, Arc::clone(&read)));
    let idle = round_trip(&worker, 11).await;
    let mut bulk = worker.open(b"bulk".to_vec()).await.unwrap();
    tasks.spawn(async move { while bulk.write_all(&[5; 64 * 1024]).await.is_ok() {} });
    let waiting = async {
        while lost.load(Ordering::Relaxed) < 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("bulk is lost");
    let (before, had) = (lost.load(Ordering::Relaxed), read.load(Ordering::Relaxed));
    let busy = round_trip(&worker, 31).await;
    let (more, moved) = (lost.load(Ordering::Relaxed) - before, read.load(Ordering::Relaxed) - had);
    println!("round trip idle {idle:?}, beside lossy bulk {busy:?} ({more} packets lost, {moved} bytes arrived)");
    assert!(more > 0 && moved > 0, "bulk was under way, and lost");
    assert!(busy < idle * 6, "{busy:?} instead of {idle:?}");
    tasks.shutdown().await;
}

/// Together they have far more under way than fits a narrow path: all of it is on its way before a control frame can be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_unacknowledged_bulk_does_not_hold_up_control() {
    const STREAMS: usize = 60;
    let (mut tasks, cluster, listener) = (JoinSet::new(), Cluster::new(), listen(Transport::Quic).await);
    let (way, _lost) = lossy(listener.local_addr(), &mut tasks).await;
    let (endpoint, options) = (endpoint(Transport::Quic, way), DialOptions::new(client_tls()));
    let (dialled, accepted) = tokio::join!(dial(&endpoint, &options), accept(&listener));
    let ((worker, _kept), (_control, inbound)) = sessions(&cluster, (dialled.unwrap(), accepted)).await;
    tasks.spawn(sink(inbound, Arc::default()));
    let idle = round_trip(&worker, 11).await;
    let full = Arc::new(AtomicUsize::new(0));
    for _ in 0..STREAMS {
        let mut bulk = worker.open(b"bulk".to_vec()).await.unwrap();
        let full = Arc::clone(&full);
        tasks.spawn(async move {
            while bulk.write_all(&[5; 64 * 1024]).await.is_ok() {
                full.fetch_add(64, Ordering::Relaxed);
            }
        });
    }
    let much = async {
        while full.load(Ordering::Relaxed) < 20 * 1024 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, much).await;
    assert!(in_time.is_ok(), "only {} KiB are taken", full.load(Ordering::Relaxed));
    let busy = round_trip(&worker, 15).await;
    println!("round trip idle {idle:?}, beside the bulk {busy:?}, {} KiB taken", full.load(Ordering::Relaxed));
    assert!(busy < idle * 6, "{busy:?} instead of {idle:?}");
    tasks.shutdown().await;
}

/// More streams than the windows that a connection takes in: all are open at once, and none waits for another's end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_go_on_beside_one_another() {
    const STREAMS: usize = 300;
    const PIECE: usize = 4096;
    let cluster = Cluster::new();
    let ((worker, _kept), (_control, inbound)) = sessions(&cluster, pair(Carrier::Quic).await).await;
    let (mut tasks, read) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    tasks.spawn(sink(inbound, Arc::clone(&read)));
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(worker.open(b"one of many".to_vec()).await.unwrap());
    }
    for round in 1..=3 {
        for stream in &mut streams {
            stream.write_all(&[7; PIECE]).await.unwrap();
            stream.flush().await.unwrap();
        }
        let arrived = async {
            while read.load(Ordering::Relaxed) < round * STREAMS * PIECE {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, arrived).await;
        assert!(in_time.is_ok(), "round {round}: only {} bytes arrived", read.load(Ordering::Relaxed));
    }
    assert!(worker.request(b"control".to_vec(), PATIENCE).await.is_ok());
    tasks.shutdown().await;
}

/// Streams that nobody reads are full, each with a window of its own: neither another stream nor the control lane waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_streams_hold_nothing_up() {
    const STREAMS: usize = 300;
    /// Nearly the window of a stream: its head takes some of that, too.
    const FULL: usize = 1000 * 1024;
    let cluster = Cluster::new();
    let ((worker, _kept), (_control, mut inbound)) = sessions(&cluster, pair(Carrier::Quic).await).await;
    let (mut tasks, full) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    let (mut unread, piece) = (Vec::new(), Bytes::from(vec![7; FULL]));
    for _ in 0..STREAMS {
        let mut stream = worker.open(b"nobody reads it".to_vec()).await.unwrap();
        let Some(Incoming::Open { stream: other, .. }) = inbound.next().await else { panic!("no stream") };
        unread.push(other);
        let (piece, full) = (piece.clone(), Arc::clone(&full));
        tasks.spawn(async move {
            stream.send(piece).await.unwrap();
            full.fetch_add(1, Ordering::Relaxed);
            // Dropped, it would be reset.
            std::future::pending::<()>().await;
        });
    }
    let all = async {
        while full.load(Ordering::Relaxed) < STREAMS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, all).await;
    assert!(in_time.is_ok(), "only {} streams took what they may", full.load(Ordering::Relaxed));
    let mut free = worker.open(b"one more".to_vec()).await.unwrap();
    let Some(Incoming::Open { stream: other, .. }) = inbound.next().await else { panic!("no stream") };
    let read = Arc::default();
    tasks.spawn(drain(other, Arc::clone(&read)));
    tasks.spawn(sink(inbound, Arc::default()));
    free.write_all(&[7; 4096]).await.unwrap();
    assert!(worker.request(b"control".to_vec(), PATIENCE).await.is_ok());
    let arrived = async {
        while read.load(Ordering::Relaxed) < 4096 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, arrived).await.is_ok(), "the stream that is read waits");
    tasks.shutdown().await;
}

/// New connections are shown the new certificate, those that stand go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_replaced_under_a_standing_session() {
    let (first, second, cluster) = (Ca::new(), Ca::new(), Cluster::new());
    let tls = first.server();
    let listener = listen_with(Transport::Quic, tls.clone()).await;
    let endpoint = endpoint(Transport::Quic, listener.local_addr());
    let (old, new) =
        (DialOptions::new(with_ca(&first.file("ca.pem"))), DialOptions::new(with_ca(&second.file("ca.pem"))));
    let (dialled, accepted) = tokio::join!(dial(&endpoint, &old), accept(&listener));
    let ((worker, _kept), (_control, inbound)) = sessions(&cluster, (dialled.unwrap(), accepted)).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(sink(inbound, Arc::default()));
    for name in ["cert.pem", "key.pem"] {
        std::fs::copy(second.file(name), first.file(name)).unwrap();
    }
    assert!(tls.reload(When::Now).unwrap());
    let (dialled, accepted) = tokio::join!(dial(&endpoint, &new), accept(&listener));
    assert!(dialled.is_ok(), "{dialled:?}");
    drop(accepted);
    let (refused, _) = tokio::join!(dial(&endpoint, &old), async { listener.accept().await.unwrap().upgrade().await });
    assert!(refused.is_err(), "the former certificate is still shown");
    assert!(worker.request(b"still there".to_vec(), PATIENCE).await.is_ok());
    tasks.shutdown().await;
}
