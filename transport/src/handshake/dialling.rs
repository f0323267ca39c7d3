//! What both dialling sides share, a node's that dials as usual and a control node's that calls a worker: the clock over
//! the whole, and the acceptor's messages, of which a refusal ends it.

use super::message::receive;
use super::{DEADLINE, HandshakeError, Peer, Proven, shown};
use crate::link::{Io, Link};
use longshore_wire::handshake::{FromAcceptor, Welcome};
use std::time::Duration;

/// One dialling side's part of the conversation, from the hello to the welcome.
pub(super) trait Dialling {
    /// Talks until the acceptor is proven; `stage` says what is awaited.
    async fn talk(&self, link: &mut Link, stage: &mut &'static str) -> Result<Peer, HandshakeError>;
}

/// Runs the conversation within [`DEADLINE`].
pub(super) async fn dial(link: Link, side: &impl Dialling) -> Result<Proven, HandshakeError> {
    dial_within(link, side, DEADLINE).await
}

async fn dial_within(mut link: Link, side: &impl Dialling, deadline: Duration) -> Result<Proven, HandshakeError> {
    let mut stage = "the answer to the hello";
    match tokio::time::timeout(deadline, side.talk(&mut link, &mut stage)).await {
        Ok(peer) => Ok(Proven { peer: peer?, link, dialled: true }),
        Err(_) => Err(HandshakeError::Timeout { stage, after: deadline }),
    }
}

/// The acceptor's next message, and its bytes. Its refusal is an error.
pub(super) async fn hear(io: &mut dyn Io, stage: &'static str) -> Result<(FromAcceptor, Vec<u8>), HandshakeError> {
    let raw = receive(io, stage).await?;
    match longshore_wire::decode_whole(&raw)? {
        FromAcceptor::Reject(reject) => {
            let retry_after = reject.retry_after_ms.map(Duration::from_millis);
            Err(HandshakeError::Rejected { code: reject.code, message: shown(&reject.message), retry_after })
        }
        message => Ok((message, raw)),
    }
}

/// The last message.
pub(super) async fn welcome(io: &mut dyn Io, stage: &'static str) -> Result<Welcome, HandshakeError> {
    match hear(io, stage).await?.0 {
        FromAcceptor::Welcome(welcome) => Ok(welcome),
        other => Err(out_of_order(stage, &other)),
    }
}

/// The acceptor said something else than what was awaited.
pub(super) fn out_of_order(stage: &'static str, message: &FromAcceptor) -> HandshakeError {
    let got = match message {
        FromAcceptor::Challenge(_) => "a challenge",
        FromAcceptor::Welcome(_) => "a welcome",
        FromAcceptor::Present(_) => "a called worker's name",
        FromAcceptor::Reject(_) => "a refusal",
    };
    HandshakeError::OutOfOrder { stage, got }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Patient;

    impl Dialling for Patient {
        async fn talk(&self, link: &mut Link, stage: &mut &'static str) -> Result<Peer, HandshakeError> {
            *stage = "the challenge";
            hear(&mut *link.io, stage).await.map(|_| unreachable!("nobody speaks"))
        }
    }

    #[tokio::test]
    async fn a_silent_acceptor_costs_no_more_than_the_deadline() {
        let (link, _silent) = crate::memory_pair();
        let error = dial_within(link, &Patient, Duration::from_millis(30)).await.unwrap_err();
        assert!(matches!(error, HandshakeError::Timeout { stage: "the challenge", .. }), "{error}");
    }
}
