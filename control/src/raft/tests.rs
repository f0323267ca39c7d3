//! The storage suite of openraft, a group of three over real sessions, who leads it, and snapshots on their way.

mod cluster;
mod confirm;
mod suite;
mod transfer;
