//! End to end: real processes of the built program, on loopback, with a DNS server of the test's own.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod acceptance;
mod archives;
mod attacks;
mod bench;
mod boxes;
mod capture;
mod certificates;
mod cli;
mod clones;
mod cluster;
mod counter;
mod credentials;
mod dev;
mod dialback;
mod discovery;
mod disk;
mod dns;
mod events;
mod flood;
mod frozen;
mod full_disk;
mod kv;
mod linear;
mod middlebox;
mod moves;
mod netns;
mod netns_dns;
mod netns_loss;
mod netns_quic;
mod netns_shore;
mod older;
mod older_more;
mod outcome;
mod powercut;
mod process;
mod proxies;
mod python_worker;
mod recovery;
mod refusals;
mod restart;
mod single;
mod stranger;
mod tokens;
mod tunnel;
