//! A group of three over real sessions.
