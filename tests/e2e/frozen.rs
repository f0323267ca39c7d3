//! FROZEN. Peers that speak protocol version 1 as the last release before version 2 spoke it: a worker, a client and a
//! control node. They are never to be changed: what they do not understand, a peer in the field does not understand either.
//!
//! They share nothing with the program: messages, framing, proofs and limits are written down here once more, over plain
//! TCP, and for workers over TLS and WSS. A test that fails here says that version 1 was broken, and the program has to be mended. Once version 1 is no
//! longer spoken, the folder goes as a whole, and a copy of the then older version takes its place.

pub(crate) mod carrier;
pub(crate) mod client;
pub(crate) mod control;
pub(crate) mod handshake;
pub(crate) mod member;
pub(crate) mod messages;
pub(crate) mod session;
pub(crate) mod worker;
