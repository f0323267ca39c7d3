//! The replicated state machine: commands, apply, reads, ring, placement, snapshot.
//!
//! Every control node applies the same commands in the same order and must come to the same [`State`], so nothing here
//! does input or output, reads a clock, draws a random number or depends on the order of a hash map. Apply is total: a
//! refusal is an outcome like any other, remembered under its request id. Loops outside read the new state and act.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod apps;
mod command;
mod credentials;
mod instances;
mod kv;
mod machine;
mod memory;
pub mod placement;
mod read;
mod record;
mod refound;
mod registry;
pub mod ring;
mod roster;
pub mod selector;
pub mod snapshot;
mod tokens;

pub use command::{Command, ControlNode, Holder, InstanceSpec, On, OnError, Outcome, Proposal, Reply};
pub use credentials::{Credential, MAX_CREDENTIALS, MAX_VALID, StoredSecret, not_its_holder};
pub use kv::{KV_QUOTA, KvGap, KvRecord, Lease, MAX_TTL_MS, MIN_TTL_MS, check_txn};
pub use machine::State;
pub use memory::REMEMBERED;
pub use record::{App, AppVersion, CloneAlarm, Cluster, Instance, Node, Task, Via, Wanted};
pub use refound::Counts;
pub use registry::SHORT_ID_REST;
pub use ring::Ring;
pub use roster::{Change, Parting, Roster, Standing, standing_of};
pub use selector::Selector;
pub use tokens::{MAX_TOKENS, Scope, Token};
