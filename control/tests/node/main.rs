//! Whole control nodes in one process, over real sockets: the API, a worker played by the test, failover.
#![allow(missing_docs)]

mod api;
mod failover;
mod rig;
mod worker;
