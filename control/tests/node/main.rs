//! Whole control nodes in one process, over real sockets: the API, a worker played by the test, failover.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod api;
mod credentials;
mod failover;
mod kv;
mod rig;
mod steer;
mod worker;
