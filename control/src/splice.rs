//! Joins two streams: tunnels of workers, and output that is read through another node. Never looks at the bytes.

use longshore_transport::{Stream, failure_of};
use longshore_wire::{Code, Failure};
use tokio::io::copy_bidirectional;

/// Copies both ways until both sides have finished or one has failed; a failure is passed on to the other side.
pub(crate) async fn splice(mut one: Stream, mut other: Stream) {
    if let Err(error) = copy_bidirectional(&mut one, &mut other).await {
        let broken = || Failure::unknown(Code::Unavailable, format!("the stream's other half broke off: {error}"));
        let failure = failure_of(&error).cloned().unwrap_or_else(broken);
        one.reset(failure.clone());
        other.reset(failure);
    }
}
