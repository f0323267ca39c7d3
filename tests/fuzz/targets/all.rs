//! Everything that reads bytes of somebody who has proven nothing. Called by the fuzzer (`fuzz/`) and by the smoke test.

pub(crate) mod acceptor;
pub(crate) mod common;
pub(crate) mod dialler;
pub(crate) mod dns;
pub(crate) mod messages;
pub(crate) mod middle;
pub(crate) mod proxy;
pub(crate) mod session;
pub(crate) mod uri;
pub(crate) mod websocket;

/// A target: its name, which is that of its corpus, and what it does with an input.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const ALL: &[Target] = &[
    ("acceptor", acceptor::run),
    ("dialler", dialler::run),
    ("dns", dns::run),
    ("messages", messages::run),
    ("middle", middle::run),
    ("proxy", proxy::run),
    ("session", session::run),
    ("uri", uri::run),
    ("websocket", websocket::run),
];
