//! One attempt to get something from the leader, wherever it is.

use super::confirm::{self, Quick};
use super::engine::{Engine, no_quorum};
use super::message;
use super::status::Leadership;
use super::types::Batch;
use bytes::Bytes;
use longshore_state::Outcome;
use longshore_wire::peer::{PeerRequest, ReadIndex};
use longshore_wire::{Code, Failure, NodeId, decode};
use openraft::ReadPolicy;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Pause before another attempt: the news of a new leader is under way.
const PAUSE: Duration = Duration::from_millis(50);
/// Time for one question about the read index; an unanswered one has no effect, so it is simply asked again.
const ASK: Duration = Duration::from_secs(1);

/// Commits a batch, here or through the leader. Repeats until the deadline: the request ids inside make that safe, for as
/// long as the outcomes of a first attempt cannot have been forgotten.
pub(super) async fn commit(engine: &Engine, batch: Bytes, deadline: Instant) -> Result<Vec<Outcome>, Failure> {
    let mut uncertain = false;
    let begun = engine.0.view.state().carried_out();
    loop {
        let attempt = match engine.leader(deadline).await {
            Ok(now) => tokio::select! {
                biased;
                outcomes = attempt(engine, now, &batch, deadline) => outcomes,
                () = until_replaced(engine, now) => Err(replaced()),
            },
            Err(failure) => Err(failure),
        };
        let mut failure = match attempt {
            Ok(outcomes) => return Ok(outcomes),
            Err(failure) => failure,
        };
        uncertain |= failure.outcome != longshore_wire::Outcome::NotDone;
        let late = uncertain && is_forgotten(begun, engine.0.view.state().carried_out());
        if late || !worth_another(&failure) || Instant::now() + PAUSE >= deadline {
            if uncertain {
                failure.outcome = longshore_wire::Outcome::Unknown;
            }
            return Err(failure);
        }
        sleep(PAUSE).await;
    }
}

/// Whether what was carried out when the count stood at `begun` may be forgotten: then a repeat would be carried out a
/// second time. Half of the memory is left for what this node has not applied yet, or is under way.
fn is_forgotten(begun: u64, now: u64) -> bool {
    const SAFE: u64 = longshore_state::REMEMBERED as u64 / 2;
    // A snapshot that was installed meanwhile has begun a count of its own.
    now.checked_sub(begun).is_none_or(|since| since > SAFE)
}

async fn attempt(engine: &Engine, now: Leadership, batch: &Bytes, deadline: Instant) -> Result<Vec<Outcome>, Failure> {
    match now.leader {
        Some(leader) if !now.is_leader => forward(engine, leader, batch, deadline).await,
        _ => write(engine, batch.clone(), deadline).await,
    }
}

/// Resolves when somebody else leads, or nobody: a silent leader must not use up the whole deadline.
async fn until_replaced(engine: &Engine, then: Leadership) {
    let mut leadership = engine.0.leadership.subscribe();
    let _ = leadership.wait_for(|now| now.leader != then.leader || now.is_leader != then.is_leader).await;
}

fn replaced() -> Failure {
    Failure::unknown(Code::NoQuorum, "the control group's leader was replaced while it worked on the request")
}

/// Whether another leader, or the same one a moment later, may answer otherwise.
fn worth_another(failure: &Failure) -> bool {
    matches!(failure.code, Code::NoQuorum | Code::Unavailable | Code::Timeout | Code::Busy)
}

async fn write(engine: &Engine, batch: Bytes, deadline: Instant) -> Result<Vec<Outcome>, Failure> {
    engine.0.admission.admit()?;
    match timeout_at(deadline, engine.0.raft.client_write(Batch(batch))).await {
        Ok(Ok(written)) => Ok(written.data.0),
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(not_leader()),
        Ok(Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)))) => Err(replaced()),
        Ok(Err(RaftError::APIError(error))) => Err(Failure::new(Code::Internal, error.to_string())),
        Ok(Err(RaftError::Fatal(fatal))) => Err(Failure::unknown(Code::Internal, fatal.to_string())),
        Err(_) => Err(Failure::unknown(
            Code::NoQuorum,
            "no majority of the control group's voters has confirmed the write in time; see `longshore cluster status`",
        )),
    }
}

async fn forward(engine: &Engine, leader: NodeId, batch: &Bytes, deadline: Instant) -> Result<Vec<Outcome>, Failure> {
    let request = PeerRequest::Propose { body: batch.to_vec() };
    let reply = engine.0.peers.request(leader, &request, deadline - Instant::now()).await?;
    message::unpack(&reply).map_err(|failure| Failure::unknown(failure.code, failure.message))
}

/// A read index (Raft §6.4): whoever has applied it may answer reads that began before now.
pub(super) async fn read_index(engine: &Engine, quick: &mut Quick, deadline: Instant) -> Result<Option<u64>, Failure> {
    loop {
        let attempt = match engine.leader(deadline).await {
            Ok(now) if now.is_leader => confirm(engine, quick).await,
            Ok(now) => ask(engine, now.leader.unwrap_or(engine.0.node)).await,
            Err(failure) => Err(failure),
        };
        match attempt {
            Ok(index) => return Ok(index),
            // A read that failed has changed nothing, whatever was lost under way.
            Err(failure) if !worth_another(&failure) || Instant::now() + PAUSE >= deadline => {
                return Err(Failure::new(failure.code, failure.message));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// By asking a majority, never by the lease: openraft 0.10 lets a voter that has just started vote although the leader
/// still counts on it.
async fn confirm(engine: &Engine, quick: &mut Quick) -> Result<Option<u64>, Failure> {
    if let Some(index) = confirm::read_index(engine, quick).await {
        return Ok(Some(index));
    }
    match timeout(ASK, engine.0.raft.get_read_log_id(ReadPolicy::ReadIndex)).await {
        Ok(Ok((read, _))) => Ok(Some(read.index())),
        Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_)))) => Err(not_leader()),
        Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) | Err(_) => Err(no_quorum()),
        Ok(Err(RaftError::Fatal(fatal))) => Err(Failure::new(Code::Internal, fatal.to_string())),
    }
}

async fn ask(engine: &Engine, leader: NodeId) -> Result<Option<u64>, Failure> {
    let reply = engine.0.peers.request(leader, &PeerRequest::ReadIndex, ASK).await?;
    let read: ReadIndex = decode(&reply).map_err(|error| Failure::new(Code::Unsupported, error.to_string()))?;
    Ok(read.index)
}

pub(super) fn not_leader() -> Failure {
    Failure::new(Code::Unavailable, "this control node is not the leader now")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_must_come_before_the_memory_ends() {
        let memory = u64::try_from(longshore_state::REMEMBERED).unwrap();
        assert!(!is_forgotten(7, 7) && !is_forgotten(7, 7 + memory / 2));
        assert!(is_forgotten(7, 8 + memory / 2) && is_forgotten(7, 6));
    }
}
