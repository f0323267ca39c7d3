//! The key-value store: keys with revisions, a history of changes, leases, transactions.
//!
//! ```text
//! record   what one write left of a key
//! store    the keys in byte order, the quota; every change goes through it
//! history  the newest changes, for watches; bounded, in no snapshot
//! lease    leases and the keys that go with them; time is measured outside, by the leader
//! txn      comparisons, then operations, all or nothing
//! ```
//!
//! Reads and writes of one copy; nothing about freshness.

mod history;
mod lease;
mod record;
mod store;
mod txn;

pub use history::KvGap;
pub use lease::{Lease, MAX_TTL_MS, MIN_TTL_MS};
pub use record::KvRecord;
pub use store::KV_QUOTA;
pub(crate) use store::Store;
pub use txn::check_txn;
