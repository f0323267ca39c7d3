//! The storage suite of openraft, a group of three over real sessions, and snapshots on their way.

mod cluster;
mod suite;
mod transfer;
