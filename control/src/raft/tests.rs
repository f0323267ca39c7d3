//! The storage suite of openraft, and a group of three over real sessions.

mod cluster;
mod suite;
