//! Which credentials are in use, all control nodes together; and whether the control group survives the end of one.

use super::Sessions;
use crate::peers::Peers;
use crate::raft::Group;
use longshore_state::{Credential, State};
use longshore_transport::Keyring;
use longshore_wire::peer::{CredentialReport, CredentialUse, PeerRequest};
use longshore_wire::{Code, Failure, NodeId, decode};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinSet;

/// Time for another control node to report.
const ANSWER: Duration = Duration::from_secs(2);
/// Oldest protocol version whose control nodes report.
const SINCE_VERSION: u16 = 2;
/// How many nodes a refusal names.
const SHOWN: usize = 10;

/// What the control nodes that answered have said.
#[derive(Debug, Default)]
pub(crate) struct Report {
    uses: BTreeMap<(String, u32), CredentialUse>,
    /// The credential and secret with which each control node dials others.
    own: BTreeMap<NodeId, (String, u32)>,
}

/// Collects what is in use.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    pub(crate) me: NodeId,
    pub(crate) group: Group,
    pub(crate) peers: Peers,
    pub(crate) sessions: Sessions,
}

impl Reporter {
    /// What this node says.
    pub(crate) async fn here(&self, nodes_of: Option<&str>) -> CredentialReport {
        let state = self.group.state();
        let keyring = self.peers.keyring();
        let secret = match state.credential(keyring.credential()) {
            Some(credential) => own_secret(keyring, credential).await,
            None => 0,
        };
        let uses = self.sessions.uses(nodes_of);
        CredentialReport { own: keyring.credential().to_owned(), own_secret: secret, uses }
    }

    /// What all control nodes say; those that do not answer in time are left out.
    pub(crate) async fn everywhere(&self, nodes_of: Option<&str>) -> Report {
        let mut asking = JoinSet::new();
        let able = |node: &NodeId| self.peers.session(*node).is_some_and(|it| it.peer().version >= SINCE_VERSION);
        for node in self.peers.connected().into_iter().filter(able) {
            let (peers, nodes_of) = (self.peers.clone(), nodes_of.map(str::to_owned));
            asking.spawn(async move {
                let reply = peers.request(node, &PeerRequest::CredentialUse { nodes_of }, ANSWER).await;
                (
                    node,
                    reply.and_then(|reply| {
                        decode(&reply).map_err(|error| Failure::new(Code::Unsupported, error.to_string()))
                    }),
                )
            });
        }
        let mut report = Report::default();
        report.add(self.me, self.here(nodes_of).await);
        while let Some(Ok((node, answer))) = asking.join_next().await {
            match answer {
                Ok(told) => report.add(node, told),
                Err(failure) => {
                    tracing::debug!(%node, %failure, "a control node does not tell which credentials it sees")
                }
            }
        }
        report
    }

    /// Refuses an end of secrets after which the voters could not talk to each other any more: it could not be taken back.
    ///
    /// # Errors
    /// [`Code::Conflict`] with the voters that stand in the way.
    pub(crate) async fn spares_the_group(
        &self,
        credential: &Credential,
        ends: impl Fn(u32) -> bool + Send,
    ) -> Result<(), Failure> {
        if credential.role != longshore_wire::Role::Control {
            return Ok(());
        }
        let report = self.everywhere(None).await;
        let voters = self.group.status().voters;
        let lost: Vec<NodeId> = voters
            .iter()
            .copied()
            .filter(|voter| {
                report.own.get(voter).is_none_or(|(name, secret)| *name == credential.name && ends(*secret))
            })
            .collect();
        if (voters.len() - lost.len()) * 2 > voters.len() {
            return Ok(());
        }
        let names = name_all(&self.group.state(), &lost);
        let message = format!(
            "the control nodes {names} use this secret of credential '{}' or do not answer, and without them there is no majority; give them another one first (`longshore credential rotate`), and see that they have it with `longshore credential show`",
            credential.name
        );
        Err(Failure::new(Code::Conflict, message))
    }
}

impl Report {
    fn add(&mut self, from: NodeId, told: CredentialReport) {
        self.own.insert(from, (told.own, told.own_secret));
        for each in told.uses {
            let key = (each.credential.clone(), each.secret);
            match self.uses.get_mut(&key) {
                None => drop(self.uses.insert(key, each)),
                Some(known) => {
                    known.sessions += each.sessions;
                    known.last_used_ms = known.last_used_ms.max(each.last_used_ms);
                    known.nodes.extend(each.nodes);
                    known.nodes.sort();
                    known.nodes.dedup();
                }
            }
        }
    }

    fn of(&self, credential: &str, secret: u32) -> Option<&CredentialUse> {
        self.uses.get(&(credential.to_owned(), secret))
    }

    /// Live sessions that were proven with a secret.
    pub(crate) fn sessions(&self, credential: &str, secret: u32) -> u64 {
        self.of(credential, secret).map_or(0, |known| known.sessions)
    }

    /// When a secret was last in use, in Unix milliseconds; `None` when nobody has seen it.
    pub(crate) fn last_used(&self, credential: &str, secret: u32) -> Option<u64> {
        self.of(credential, secret).map(|known| known.last_used_ms)
    }

    /// The nodes that use a secret now: with sessions, or as control nodes that dial with it.
    pub(crate) fn nodes(&self, credential: &str, secret: u32) -> Vec<NodeId> {
        let mut nodes = self.of(credential, secret).map(|known| known.nodes.clone()).unwrap_or_default();
        let own = |(node, own): (&NodeId, &(String, u32))| (own.0 == credential && own.1 == secret).then_some(*node);
        nodes.extend(self.own.iter().filter_map(own));
        nodes.sort();
        nodes.dedup();
        nodes
    }
}

/// The nodes by name, the first few of them.
pub(crate) fn name_all(state: &State, nodes: &[NodeId]) -> String {
    let name = |node: &NodeId| state.node(*node).map_or_else(|| node.to_string(), |node| node.name.clone());
    let shown = nodes.iter().take(SHOWN).map(name).collect::<Vec<_>>().join(", ");
    match nodes.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Number of the secret that this node's own file holds; 0 when it is none of the credential's.
async fn own_secret(keyring: &Keyring, credential: &Credential) -> u32 {
    for secret in credential.secrets.iter().rev() {
        if keyring.fits(&secret.verifier).await {
            return secret.number;
        }
    }
    0
}
