//! The worker: finds its owner, is driven by it, runs its tasks, and lets them use the cluster.
//!
//! ```text
//!            ┌── link: discovery → dial → prove → session → attach ──┐
//! owner ◀──▶ │  orders ─▶ supervisor ─▶ processes   reports ◀─ watch │
//!            │  archives ─▶ cache      logs ◀─ files                 │
//!            └── uplink ◀── app sockets ◀── tasks ───────────────────┘
//! ```
//!
//! It owns a worker's data folder, its processes and its conversation with whichever control node owns it. It opens a
//! listening port only where the configuration names one. It never obeys an owner of a lower epoch than it has seen, and never kills or doubles a task because it
//! was itself killed: tasks outlive the worker and are found again.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cache;
mod callers;
mod cluster;
mod fence;
mod folder;
mod link;
mod logs;
mod options;
mod outcomes;
mod pieces;
mod socket;
mod supervisor;
mod tasklog;
#[cfg(test)]
mod testing;
mod uplink;
mod vital;
mod worker;

pub use callers::Listen;
pub use options::{LinkStatus, OnStop, Options, WorkerStatus};
pub use worker::{StartError, Worker};
