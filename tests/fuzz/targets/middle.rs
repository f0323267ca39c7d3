//! Two honest nodes, and somebody between them who changes bytes.

use super::common::{Town, with_town};
use longshore_transport::{Link, Proven, memory_pair};
use longshore_wire::handshake::{FromAcceptor, FromDialler};
use longshore_wire::{decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
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
        changed[0] |= pass::<FromDialler>(&mut left, &mut right, &edits[0], &mut offsets[0]);
        poll(&mut accepted, accepting.as_mut(), &mut context);
        changed[1] |= pass::<FromAcceptor>(&mut right, &mut left, &edits[1], &mut offsets[1]);
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

/// Hands on the message that is there, changed as the edits say. Whether that matters: the first message of a direction is
/// signed byte by byte; a second one carries nothing but a proof, which may be written in more than one way.
fn pass<M: Serialize + DeserializeOwned>(from: &mut Link, to: &mut Link, edits: &Edits, offset: &mut usize) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    let mut space = [0; 8192];
    let mut buffer = ReadBuf::new(&mut space);
    let Poll::Ready(Ok(())) = Pin::new(&mut from.io).poll_read(&mut context, &mut buffer) else { return false };
    let bytes = buffer.filled_mut();
    let before = bytes.to_vec();
    for (at, mask) in edits {
        if let Some(byte) = at.checked_sub(*offset).and_then(|at| bytes.get_mut(at)) {
            *byte ^= mask;
        }
    }
    let changed = bytes != before && (*offset == 0 || !mean_the_same::<M>(&before, bytes));
    *offset += bytes.len();
    let _ = Pin::new(&mut to.io).poll_write(&mut context, bytes);
    changed
}

/// Whether two messages, each behind its length, are one message written in two ways.
fn mean_the_same<M: Serialize + DeserializeOwned>(one: &[u8], other: &[u8]) -> bool {
    let read = |bytes: &[u8]| {
        let (length, body) = bytes.split_at_checked(4)?;
        Some((length.to_vec(), encode(&decode::<M>(body).ok()?)))
    };
    read(one).is_some_and(|one| read(other) == Some(one))
}
