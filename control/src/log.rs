//! The Raft log and the vote on disk: one redb file, one writer thread, one synced commit for everything that waits.
//!
//! ```text
//! append ─┐                      ┌─ writer thread ─────────────────────┐
//! vote  ──┤   bounded queue      │ drain → one transaction → fsync     │
//! truncate┼──▶ ▯ ▯ ▯ ▯ ▯ ▯ ────▶ │ → callbacks, in order               │
//! purge ──┘                      └─────────────────────────────────────┘
//!    └─▶ in-memory index and tail: an appended entry can be read at once
//! ```
//!
//! Everything that changes the file goes through the one queue, since a vote that overtakes an append breaks Raft. After
//! a failed write or sync nothing is tried again: the kernel may have dropped the dirty pages, so a later success would
//! prove nothing. Must never report something as stored that a power cut could take away, and knows nothing of openraft.

mod entry;
mod error;
mod index;
mod record;
mod sizes;
mod store;
mod writer;

pub(crate) use entry::{Ballot, Entry, Members, Payload, Position};
pub(crate) use error::LogError;
pub(crate) use record::{open_record, seal_record};
pub(crate) use store::Log;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
