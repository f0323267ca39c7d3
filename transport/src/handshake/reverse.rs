//! The handshake turned around: a control node dials a worker that listens.
//!
//! | attack | stopped by |
//! |---|---|
//! | a stranger who calls itself a control node | it proves first, with the server key of the worker's credential |
//! | a proof of the usual direction, sent here or the other way | labels of their own; a hello of the other direction is refused |
//! | a stranger who lets the worker derive keys | bounded rounds, one derivation at a time, a pause behind each |
//! | a worker's address that leads to somebody else | the node id that is expected is compared, and proven |
//! | replay, changes under way, a TLS man in the middle | as in the usual direction: nonces, transcript, exporter |
//!
//! Whoever holds a worker's secret can derive its server key: workers that shall not be able to call each other need a
//! credential each.

mod answer;
mod call;

pub use answer::answer;
pub use call::call;
