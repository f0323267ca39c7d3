//! The control node: Raft group, registry, ring, proxies, KV, blobs, HTTP API.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod identity;
mod log;
mod machine;
mod peers;
mod raft;
