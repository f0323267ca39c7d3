//! What both accepting sides share, a control node's and a listening worker's: the clock over the whole, the hello, the
//! line in the log, and how a dialler is turned away.

use super::hello::check_hello;
use super::message::{receive, send};
use super::{DEADLINE, HandshakeError, Identity, Peer, Proven, shown};
use crate::link::{Io, Link, LinkInfo};
use crate::listen::admission::Ticket;
use longshore_wire::handshake::{FromAcceptor, FromDialler, Hello, Reject, RejectCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

/// Pause before a wrong proof is answered on a link that no listener counts: inside a tunnel, and in memory.
const WRONG_PROOF: Duration = Duration::from_millis(500);
/// Whoever holds a revoked credential is asked to stay away for so many milliseconds.
const REVOKED_MS: u64 = 60_000;
/// Time for a refusal to reach the dialler.
const FAREWELL: Duration = Duration::from_secs(1);
/// Most bytes of a refused dialler that are read and thrown away, so that closing does not overtake the refusal.
const DISCARDED: u64 = 64 * 1024;

/// One accepting side's part of the conversation, from the hello to the welcome.
pub(super) trait Accepting {
    /// Who this node says it is.
    fn me(&self) -> &Identity;
    /// Talks until the dialler is proven and welcome.
    async fn talk(&self, link: &mut Link, progress: &mut Progress) -> Result<Peer, HandshakeError>;
}

/// How far it came: outlives the deadline, for the log.
pub(super) struct Progress {
    /// What is awaited.
    pub(super) stage: &'static str,
    hello: Option<Arc<Hello>>,
}

/// A hello that was not refused.
pub(super) struct Greeting {
    pub(super) hello: Arc<Hello>,
    /// Its bytes, for the transcript.
    pub(super) raw: Vec<u8>,
    /// The version to speak.
    pub(super) version: u16,
}

/// Runs the conversation within [`DEADLINE`], or until the listener's own clock ends. A refusal is told to the dialler and
/// logged here in one line.
pub(super) async fn accept(link: Link, side: &impl Accepting) -> Result<Proven, HandshakeError> {
    accept_within(link, side, DEADLINE).await
}

async fn accept_within(mut link: Link, side: &impl Accepting, deadline: Duration) -> Result<Proven, HandshakeError> {
    let mut progress = Progress { stage: "the hello", hello: None };
    let latest = Instant::now() + deadline;
    let latest = link.prove_by.take().map_or(latest, |by| by.min(latest));
    let result = match tokio::time::timeout_at(latest, side.talk(&mut link, &mut progress)).await {
        Ok(result) => result,
        Err(_) => Err(HandshakeError::Timeout { stage: progress.stage, after: deadline }),
    };
    match result {
        Ok(peer) => {
            link.admission = None;
            Ok(Proven { link, peer, dialled: false })
        }
        Err(error) => {
            log(side.me(), &link.info, progress.hello.as_deref(), &error);
            // Boxed: those who are welcome shall not pay for it.
            Box::pin(turn_away(link, &error)).await;
            Err(error)
        }
    }
}

/// The first message, and what can be refused in it.
pub(super) async fn greeting(
    link: &mut Link,
    me: &Identity,
    progress: &mut Progress,
) -> Result<Greeting, HandshakeError> {
    let (message, raw) = hear(&mut *link.io, progress.stage).await?;
    let FromDialler::Hello(hello) = message else {
        return Err(out_of_order(progress.stage, &message));
    };
    let hello = Arc::clone(progress.hello.insert(Arc::new(hello)));
    let version = check_hello(me, &hello, &link.info)?;
    Ok(Greeting { hello, raw, version })
}

/// The dialler's next message, and its bytes.
pub(super) async fn hear(io: &mut dyn Io, stage: &'static str) -> Result<(FromDialler, Vec<u8>), HandshakeError> {
    let raw = receive(io, stage).await?;
    Ok((longshore_wire::decode_whole(&raw)?, raw))
}

/// The dialler said something else than what was awaited.
pub(super) fn out_of_order(stage: &'static str, message: &FromDialler) -> HandshakeError {
    let got = match message {
        FromDialler::Hello(_) => "a hello",
        FromDialler::Proof(_) => "a dialler's proof",
        FromDialler::Claim(_) => "a caller's proof",
    };
    HandshakeError::OutOfOrder { stage, got }
}

/// One line for every dialler that was not let in. Who says nothing at all is a balancer's health check or a port scan.
fn log(me: &Identity, info: &LinkInfo, hello: Option<&Hello>, error: &HandshakeError) {
    if hello.is_some_and(|hello| me.hellos.is_own(&hello.nonce)) {
        tracing::debug!(remote = info.remote.map(tracing::field::display), "this node has met itself");
        return;
    }
    if matches!(error, HandshakeError::Closed { .. } | HandshakeError::Timeout { .. }) && hello.is_none() {
        tracing::debug!(remote = info.remote.map(tracing::field::display), "connected, and said no hello: {error}");
        return;
    }
    tracing::warn!(
        remote = info.remote.map(tracing::field::display),
        carrier = %info.carrier,
        node = hello.map(|hello| tracing::field::display(hello.node)),
        role = hello.map(|hello| tracing::field::display(hello.role)),
        credential = hello.map(|hello| shown(&hello.credential)),
        code = error.code().map(tracing::field::debug),
        "handshake refused: {error}"
    );
}

/// Tells the dialler why, then closes without overtaking that.
async fn turn_away(mut link: Link, error: &HandshakeError) {
    let Some(code) = error.code() else { return };
    if code == RejectCode::Credential {
        let pause = link.admission.as_ref().map_or(WRONG_PROOF, Ticket::failed);
        tokio::time::sleep(pause).await;
    }
    // Nothing but an operator changes that.
    let retry_after_ms = (code == RejectCode::Revoked).then_some(REVOKED_MS);
    let reject = FromAcceptor::Reject(Reject { code, message: error.to_string(), retry_after_ms });
    // Whether the dialler still listens is its own affair: our error stands either way.
    let _ = tokio::time::timeout(FAREWELL, farewell(&mut *link.io, &reject)).await;
}

async fn farewell(io: &mut dyn Io, reject: &FromAcceptor) -> Result<(), HandshakeError> {
    let stage = "sending the refusal";
    send(io, reject, stage).await?;
    let closed = async {
        io.shutdown().await?;
        tokio::io::copy(&mut io.take(DISCARDED), &mut tokio::io::sink()).await
    };
    closed.await.map(drop).map_err(|source| HandshakeError::Io { stage, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_wire::{NodeId, Role};

    struct Patient(Identity);

    impl Accepting for Patient {
        fn me(&self) -> &Identity {
            &self.0
        }

        async fn talk(&self, link: &mut Link, progress: &mut Progress) -> Result<Peer, HandshakeError> {
            greeting(link, &self.0, progress).await.map(|_| unreachable!("nobody speaks"))
        }
    }

    #[tokio::test]
    async fn a_silent_dialler_costs_no_more_than_the_deadline() {
        let (link, _silent) = crate::memory_pair();
        let side = Patient(Identity::new(NodeId::from_u128(1), Role::Control, "prod", "0"));
        let error = accept_within(link, &side, Duration::from_millis(30)).await.unwrap_err();
        assert!(matches!(error, HandshakeError::Timeout { stage: "the hello", .. }), "{error}");
    }

    #[tokio::test]
    async fn the_listeners_clock_goes_on() {
        let (mut link, _silent) = crate::memory_pair();
        link.prove_by = Some(Instant::now() + Duration::from_millis(30));
        let side = Patient(Identity::new(NodeId::from_u128(1), Role::Control, "prod", "0"));
        let accepting = accept_within(link, &side, Duration::from_secs(3600));
        let error =
            tokio::time::timeout(Duration::from_secs(20), accepting).await.expect("it ends in time").unwrap_err();
        assert!(matches!(error, HandshakeError::Timeout { stage: "the hello", .. }), "{error}");
    }
}
