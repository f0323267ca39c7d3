//! The Raft group. Every type of openraft stays in this folder; the rest of the crate sees [`Group`] only.
//!
//! ```text
//! propose ─▶ batcher ─┬─ leader: one log entry for all that wait ─▶ openraft ─▶ outcomes
//!                     └─ else: one request to the leader ─────────▶ its batcher
//! read_index ─▶ one question for all that wait, asked by the leader ─▶ wait until applied
//! ```
//!
//! openraft 0.9 writes one entry at a time and waits for its sync, so the batcher makes the speed. It does not restore a
//! stored snapshot at its start, nor notice that the log behind one is missing: we do, before it starts. Must never
//! report a proposal as done or not done when nobody can know, and never answer a read from a leader that has not just
//! proved to be one.

mod batcher;
mod convert;
mod engine;
mod group;
mod incoming;
mod leader_link;
mod log_store;
mod machine_store;
mod membership;
mod message;
mod network;
mod reads;
mod start;
mod status;
mod storage;
mod types;
mod upkeep;

pub(crate) use group::Group;
pub use start::GroupError;
pub(crate) use start::{Bootstrapping, GroupOptions};
pub(crate) use status::GroupStatus;

#[cfg(test)]
mod tests;
