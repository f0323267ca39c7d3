//! The Raft log and the vote on disk: segment files, one writer thread, one synced write for everything that waits.
//!
//! ```text
//! append ─┐                      ┌─ writer thread ─────────────────────┐   ┌─ helper thread ───┐
//! vote  ──┤   bounded queue      │ drain → one frame → write → sync    │ ◀─│ next segment,     │
//! truncate┼──▶ ▯ ▯ ▯ ▯ ▯ ▯ ▯ ────▶ │ → callbacks, in order               │   │ filled with zeros │
//! purge ──┘                      └─────────────────────────────────────┘   └───────────────────┘
//!    └─▶ in-memory index and tail: an appended entry can be read at once
//!
//! log/00000000000000000007.seg   header │ frame │ frame │ … │ zeros      (`segment`, `frame`, `item`)
//! log/00000000000000000008.seg   header │ zeros
//! ```
//!
//! Everything that changes the log is a record in one sequence and goes through the one queue, since a vote that overtakes
//! an append breaks Raft. Nothing is ever written over: a truncation is a record, a purge is one too and then removes whole
//! segments, and each segment begins with vote, purge and commit as they were before it. After a failed write or sync
//! nothing is tried again: the kernel may have dropped the dirty pages, so a later success would prove nothing. A disk
//! without room for the next segment is no such failure: nothing was written then. Must never report something as stored
//! that a power cut could take away, and knows nothing of openraft.

mod disk;
mod entry;
mod error;
mod first_format;
mod folder;
mod frame;
mod index;
mod item;
mod load;
mod places;
mod record;
mod segment;
mod sizes;
mod spare;
mod store;
mod writer;

pub(crate) use entry::{Ballot, Entry, Members, Payload, Position};
pub(crate) use error::LogError;
pub(crate) use record::{open_record, seal_record};
pub(crate) use store::Log;

#[cfg(test)]
mod tests;
