//! Changes of the group's membership. For the leader's loop: on any other node they fail.

use super::engine::stopped;
use super::group::Group;
use super::leader_link::not_leader;
use super::types::{Metrics, Types};
use longshore_wire::{Code, Failure, NodeId};
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::ClientWriteResponse;
use openraft::{ChangeMembers, EmptyNode};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::timeout;

/// Time for one change: it commits one or two entries.
const DEADLINE: Duration = Duration::from_secs(10);

type Changed = Result<ClientWriteResponse<Types>, RaftError<Types, ClientWriteError<Types>>>;

impl Group {
    /// Takes a node in without a vote. Returns when that is committed, not when the node has caught up.
    ///
    /// # Errors
    /// `Unavailable` when this node does not lead, `Conflict` while another change is under way, `NoQuorum` (unknown)
    /// when it is not committed in time.
    pub(crate) async fn add_learner(&self, node: NodeId) -> Result<(), Failure> {
        self.change(ChangeMembers::AddNodes(BTreeMap::from([(node, EmptyNode {})]))).await
    }

    /// Makes these members, and only these, the voters; former voters stay as learners.
    ///
    /// # Errors
    /// As [`Group::add_learner`]; `Conflict` also when one of them is no member.
    pub(crate) async fn set_voters(&self, voters: BTreeSet<NodeId>) -> Result<(), Failure> {
        self.change(ChangeMembers::ReplaceAllVoters(voters)).await
    }

    /// Takes a member out, voter or learner. A member that is none already is no error.
    ///
    /// # Errors
    /// As [`Group::add_learner`]; `Conflict` also when it is the last voter.
    pub(crate) async fn remove_member(&self, node: NodeId) -> Result<(), Failure> {
        let status = self.status();
        if status.voters.contains(&node) {
            let rest: BTreeSet<NodeId> = status.voters.into_iter().filter(|voter| *voter != node).collect();
            if rest.is_empty() {
                return Err(Failure::new(Code::Conflict, format!("{node} is the last voter of the control group")));
            }
            self.set_voters(rest).await?;
        } else if !status.learners.contains(&node) {
            return Ok(());
        }
        self.change(ChangeMembers::RemoveNodes(BTreeSet::from([node]))).await
    }

    /// A change that is under way already is waited for.
    async fn change(&self, change: ChangeMembers<NodeId, EmptyNode>) -> Result<(), Failure> {
        let carried_out = async {
            loop {
                self.until_settled().await?;
                match self.engine().0.raft.change_membership(change.clone(), true).await {
                    Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                        ChangeMembershipError::InProgress(_),
                    ))) => tokio::task::yield_now().await,
                    changed => return outcome(changed),
                }
            }
        };
        timeout(DEADLINE, carried_out).await.unwrap_or_else(|_| {
            Err(Failure::unknown(
                Code::NoQuorum,
                "the change of the control group's membership was not confirmed by a majority in time",
            ))
        })
    }

    /// Waits until the newest membership is committed.
    async fn until_settled(&self) -> Result<(), Failure> {
        let mut metrics = self.engine().0.raft.metrics();
        let settled = |now: &Metrics| now.committed_membership_config.log_id() == now.membership_config.log_id();
        while !settled(&metrics.borrow_and_update()) {
            metrics.changed().await.map_err(|_| stopped())?;
        }
        Ok(())
    }
}

fn outcome(changed: Changed) -> Result<(), Failure> {
    match changed {
        Ok(_) => Ok(()),
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(not_leader()),
        Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => {
            Err(Failure::unknown(Code::NoQuorum, "the leader was replaced while it changed the group's membership"))
        }
        Err(RaftError::APIError(
            error @ (ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_)),
        )) => Err(Failure::new(Code::Conflict, error.to_string())),
        Err(RaftError::Fatal(fatal)) => Err(Failure::unknown(Code::Internal, fatal.to_string())),
    }
}
