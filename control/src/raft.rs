//! The Raft group. Every type of openraft stays in this folder; the rest of the crate sees [`Group`] only.
//!
//! ```text
//! propose ─▶ batcher ─┬─ leader: one log entry for all that wait ─▶ openraft ─▶ outcomes
//!                     └─ else: one request to the leader ─────────▶ its batcher
//! read_index ─▶ one question for all that wait, asked by the leader ─▶ wait until applied
//! ```
//!
//! The batcher makes entries large under load, since an entry costs more than a proposal. A stored snapshot is restored,
//! and a log that does not reach back to it is refused, before openraft starts. Must never report a proposal as done or
//! not done when nobody can know, and never answer a read from a leader that has not just proved to be one.

mod admission;
mod batcher;
mod confirm;
mod convert;
mod engine;
mod gathering;
mod group;
mod incoming;
mod leader_link;
mod linger;
mod log_store;
mod machine_store;
mod membership;
mod message;
mod network;
mod pin;
mod reads;
mod start;
mod status;
mod storage;
mod succession;
mod tally;
mod transfer;
mod types;
mod upkeep;

pub(crate) use group::Group;
pub use start::GroupError;
pub(crate) use start::{Bootstrapping, GroupOptions};
pub(crate) use status::GroupStatus;
pub(crate) use upkeep::Limits;

#[cfg(test)]
mod tests;
