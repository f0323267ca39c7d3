//! `bench push`: bulk to one worker, beside a bare copy over the same kind of connection.
//!
//! ```text
//! copy     a process ── bytes ──▶ this one, which throws them away
//! stream   a process ── a session's stream ──▶ the same; with or without the BLAKE3 of what comes
//! push     control node ── the archive ──▶ worker: digest checked and unpacked as it comes, then made durable
//! ```

pub(super) mod bulk;
mod line;
mod link;
mod whole;

use super::figures::{Case, Figures};
use crate::args::bench::Push;
use crate::output::Progress;
use bulk::{Copying, Sink, Streaming};
use longshore_wire::Transport;
use std::time::{Duration, Instant};

/// The floors. The digests alone are some too: one stands between any transfer and its use.
const FLOORS: &[&str] = &["bare copy", "BLAKE3 alone", "SHA-256 alone"];
/// Bytes of which the digest alone is made.
const DIGESTED: usize = 128 << 20;

pub(super) async fn push(args: &Push) -> anyhow::Result<Vec<Case>> {
    if args.link {
        return link::link(args).await;
    }
    let mut cases = Vec::new();
    let mut progress = Progress::new("measuring", args.transport.len() as u64 * u64::from(args.rounds));
    for transport in &args.transport {
        cases.extend(one(args, *transport, &mut progress).await?);
    }
    Ok(cases)
}

async fn one(args: &Push, transport: Transport, progress: &mut Progress) -> anyhow::Result<Vec<Case>> {
    let size = args.size;
    let mut copying = Copying::start(transport).await?;
    let streaming = Streaming::start(transport).await?;
    let mut whole = whole::Whole::start(transport, size).await?;
    let names = [
        "a session's stream",
        "the same with BLAKE3 of what comes",
        "the whole push, unpacked",
        "the whole push, durable in the cache",
    ];
    let mut cases: Vec<Case> =
        names.iter().map(|name| Case::new(format!("{name}, over {transport}"), "GB/s", FLOORS)).collect();
    for _ in 0..args.rounds {
        let copy = rate(size, copying.copy(size).await?);
        let digests = tokio::task::spawn_blocking(digests_alone).await?;
        let [blake3, sha256] = digests.map(|time| rate(DIGESTED as u64, time));
        let floors = [copy, blake3, sha256];
        let pushed = whole.push().await?;
        let ours = [
            streaming.send(size, Sink::Drop).await?,
            streaming.send(size, Sink::Digest).await?,
            pushed.unpacked,
            pushed.ready,
        ];
        for (case, time) in cases.iter_mut().zip(ours) {
            case.add(rate(size, time), floors);
        }
        progress.add(1);
    }
    Ok(cases)
}

fn rate(bytes: u64, time: Duration) -> Figures {
    Figures::rate(bytes as f64 / 1e9 / time.as_secs_f64())
}

fn digests_alone() -> [Duration; 2] {
    let bytes = vec![b'x'; DIGESTED];
    let start = Instant::now();
    std::hint::black_box(blake3::hash(&bytes));
    let blake3 = start.elapsed();
    let start = Instant::now();
    std::hint::black_box(ring::digest::digest(&ring::digest::SHA256, &bytes));
    [blake3, start.elapsed()]
}
