//! The control node: Raft group, registry, ring, proxies, KV, blobs, HTTP API.
//!
//! ```text
//! listeners ─▶ accept ─┬─ control ─▶ peers ◀─▶ raft ── log, machine
//!                      ├─ worker ──▶ worker_link ─▶ proxy (one per worker) ─▶ raft
//!                      └─ client ──▶ client_link ─▶ reach ─▶ worker's session, here or at its owner
//! HTTP ─▶ api ─▶ kv, blobs, reach, raft          leader loops: state ⇄ actuality
//! ```
//!
//! It owns a control node's data folder, its sockets and its part in the cluster's decisions. It decides nothing that the
//! replicated state does not say, and knows nothing of how a worker runs its tasks.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod accept;
mod api;
mod blobs;
mod client_link;
mod clock;
mod counts;
mod credentials;
mod departure;
mod dialback;
mod drain;
mod durable;
mod founding;
mod histogram;
mod identity;
mod jobs;
mod kv;
mod leader;
mod log;
mod loops;
mod machine;
mod node;
mod options;
mod peer_service;
mod peers;
mod proxy;
mod raft;
mod reach;
mod recover;
mod register;
mod relay;
mod repair;
mod ring;
mod room;
mod saved;
mod schedule;
mod splice;
mod steer;
mod vitals;
mod worker_link;

pub use api::ApiError;
pub use founding::{Founded, FoundingError};
pub use identity::FolderError;
pub use longshore_state::Counts;
pub use loops::StopReason;
pub use node::{ControlNode, StartError};
pub use options::{ApiGuard, ApiListen, Bootstrap, Disk, Listen, Loopback, Options, Timers};
pub use raft::GroupError;
pub use recover::{RecoverError, Remains, inspect, recover};
pub use saved::{SavedError, Summary, restore, verify};
pub use schedule::Scheduled;
