//! Two honest nodes, and somebody between them who changes bytes.

use super::common::{Town, with_town};
use longshore_transport::{Link, Proven, memory_pair};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is done to one direction: at this offset of the stream, XOR with this byte.
type Edits = Vec<(usize, u8)>;

/// Both sides prove themselves only when nothing was changed.
pub(crate) fn run(data: &[u8]) {
    let mut edits: [Edits; 2] = Default::default();
    for edit in data.chunks_exact(3).take(16) {
        let direction = usize::from(edit[0] >> 7);
        edits[direction].push((usize::from(edit[0] & 0x7f) << 4 | usize::from(edit[1] & 0xf), edit[2]));
    }
    with_town(|town| {
        let mut changed = [false; 2];
        let (dialled, accepted) = meet(town, &edits, &mut changed);
        let (dialled, accepted) = (dialled.is_some(), accepted.is_some());
        assert!(!changed[0] || !accepted, "the acceptor took a changed message");
        assert!(!(changed[0] || changed[1]) || !dialled, "the dialler took a changed message");
        assert!(changed[0] || changed[1] || (dialled && accepted), "an honest handshake failed");
    });
}

/// Both sides' success, each with every message changed as the edits say.
fn meet(town: &Town, edits: &[Edits; 2], changed: &mut [bool; 2]) -> (Option<Proven>, Option<Proven>) {
    let ((a, mut left), (mut right, b)) = (memory_pair(), memory_pair());
    let (mut dialling, mut accepting) = (pin!(town.dial(a)), pin!(town.accept(b)));
    let (mut dialled, mut accepted) = (None, None);
    let mut offsets = [0; 2];
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..16 {
        poll(&mut dialled, dialling.as_mut(), &mut context);
        pass(&mut left, &mut right, &edits[0], &mut offsets[0], &mut changed[0]);
        poll(&mut accepted, accepting.as_mut(), &mut context);
        pass(&mut right, &mut left, &edits[1], &mut offsets[1], &mut changed[1]);
    }
    (dialled.and_then(Result::ok), accepted.and_then(Result::ok))
}

fn poll<T>(done: &mut Option<T>, future: Pin<&mut impl Future<Output = T>>, context: &mut Context<'_>) {
    if done.is_none()
        && let Poll::Ready(value) = future.poll(context)
    {
        *done = Some(value);
    }
}

/// Hands on what is there, changed.
fn pass(from: &mut Link, to: &mut Link, edits: &Edits, offset: &mut usize, changed: &mut bool) {
    let mut context = Context::from_waker(Waker::noop());
    let mut space = [0; 8192];
    let mut buffer = ReadBuf::new(&mut space);
    let Poll::Ready(Ok(())) = Pin::new(&mut from.io).poll_read(&mut context, &mut buffer) else { return };
    let bytes = buffer.filled_mut();
    for (at, mask) in edits {
        if let Some(byte) = at.checked_sub(*offset).and_then(|at| bytes.get_mut(at)) {
            *byte ^= mask;
        }
    }
    let mut net = std::collections::BTreeMap::<usize, u8>::new();
    edits.iter().for_each(|(at, mask)| *net.entry(*at).or_default() ^= mask);
    *changed |= net.iter().any(|(at, mask)| *mask != 0 && (*offset..*offset + bytes.len()).contains(at));
    *offset += bytes.len();
    let _ = Pin::new(&mut to.io).poll_write(&mut context, bytes);
}
