//! Credentials: who may prove what, with which secrets, and since when no more.
//!
//! A credential has one valid secret, or two while it is rotated. All its secrets share salt and rounds, since the
//! acceptor's challenge names one salt before it knows which secret the dialler holds. Here stand verifiers only; a
//! secret never enters the log. A revoked credential stays listed, so that whoever still holds it learns why it is refused.

use crate::command::{Holder, Outcome, Reply};
use crate::machine::{At, State};
use imbl::OrdMap;
use longshore_wire::credential::{MAX_ITERATIONS, MIN_ITERATIONS, Verifier};
use longshore_wire::{Code, Failure, NodeId, Role};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most credentials of a cluster: one per node of a large one, in a few tens of MiB.
pub const MAX_CREDENTIALS: usize = 65_536;
/// Secrets that may be valid at the same time.
pub const MAX_VALID: usize = 2;
/// Secrets that are kept after their end, so that who still holds one is told so.
const MAX_RETIRED: usize = 4;
/// Longest name of a credential, in bytes.
const MAX_NAME: usize = 64;
/// Lengths of a salt, in bytes.
const SALTS: std::ops::RangeInclusive<usize> = 8..=64;
/// Bytes of a key.
const KEY: usize = 32;

/// What somebody proves itself with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Its name: what a dialler claims. Unique in the cluster.
    pub name: String,
    /// What its holder may be.
    pub role: Role,
    /// The only node that may use it; `None` for all nodes of its role.
    pub holder: Option<Holder>,
    /// Its secrets, oldest first. The ended ones come before the valid ones.
    pub secrets: Vec<StoredSecret>,
    /// When it was made, in Unix milliseconds.
    pub created_ms: u64,
    /// When it was revoked, in Unix milliseconds.
    pub revoked_ms: Option<u64>,
}

/// One secret of a credential, as far as the control side knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSecret {
    /// Its number; never used twice within a credential.
    pub number: u32,
    /// What checks it.
    pub verifier: Verifier,
    /// When it was added, in Unix milliseconds.
    pub created_ms: u64,
    /// When it was retired, in Unix milliseconds.
    pub retired_ms: Option<u64>,
}

impl Credential {
    /// The secrets that are accepted, oldest first.
    pub fn valid(&self) -> impl Iterator<Item = &StoredSecret> {
        let revoked = self.revoked_ms.is_some();
        self.secrets.iter().filter(move |secret| !revoked && secret.retired_ms.is_none())
    }

    /// Whether a session that was proven with this secret may go on. Number 0 stands for one that is not known: the
    /// dialling side does not learn the number.
    pub fn accepts(&self, secret: u32) -> bool {
        if secret == 0 { self.revoked_ms.is_none() } else { self.valid().any(|valid| valid.number == secret) }
    }

    fn new(at: At, verifier: &Verifier, holder: Option<Holder>) -> Self {
        let secret = StoredSecret { number: 1, verifier: verifier.clone(), created_ms: at.now_ms, retired_ms: None };
        Self {
            name: verifier.credential.clone(),
            role: verifier.role,
            holder,
            secrets: vec![secret],
            created_ms: at.now_ms,
            revoked_ms: None,
        }
    }

    /// What a founding command or an older snapshot holds.
    pub(crate) fn of_verifier(verifier: &Verifier, founded_ms: u64) -> Self {
        Self::new(At { index: 0, now_ms: founded_ms, room: 0 }, verifier, None)
    }

    fn next_number(&self) -> u32 {
        self.secrets.iter().map(|secret| secret.number).max().unwrap_or(0).saturating_add(1)
    }

    fn shed_retired(&mut self) {
        while self.secrets.len() - self.valid().count() > MAX_RETIRED {
            self.secrets.remove(0);
        }
    }
}

/// The credentials of a founding command.
pub(crate) fn founding(verifiers: &[Verifier], founded_ms: u64) -> OrdMap<String, Arc<Credential>> {
    let credential = |each: &Verifier| Arc::new(Credential::of_verifier(each, founded_ms));
    verifiers.iter().map(|each| (each.credential.clone(), credential(each))).collect()
}

impl State {
    /// Control nodes that nobody shall talk to: a credential of their own was revoked, and they have got no other one.
    pub fn banished(&self) -> BTreeSet<NodeId> {
        let own = |each: &Credential| match each.holder {
            Some(Holder::Node(node)) if each.role == Role::Control => Some((node, each.revoked_ms.is_some())),
            _ => None,
        };
        let (revoked, valid): (Vec<_>, Vec<_>) = self.credentials().filter_map(own).partition(|(_, revoked)| *revoked);
        let kept: BTreeSet<NodeId> = valid.into_iter().map(|(node, _)| node).collect();
        revoked.into_iter().map(|(node, _)| node).filter(|node| !kept.contains(node)).collect()
    }

    /// Makes a credential. The name of a revoked one can be given again: its numbers go on, so that no session of the
    /// former one is taken for a session of this one.
    pub(crate) fn create_credential(&mut self, at: At, verifier: &Verifier, holder: Option<&Holder>) -> Outcome {
        check_verifier(verifier)?;
        if holder.is_some() && verifier.role == Role::Client {
            return Err(Failure::new(Code::Invalid, "a client has no lasting node id; its credential takes no node"));
        }
        if let Some(Holder::Node(node)) = holder {
            let fits = self.node(*node).is_some_and(|node| node.roles.contains(&verifier.role));
            if !fits {
                let message = format!("no {} node {node}; see `longshore node list`", verifier.role);
                return Err(Failure::new(Code::NotFound, message));
            }
        }
        let mut credential = Credential::new(at, verifier, holder.cloned());
        match self.credentials.get(&verifier.credential) {
            Some(former) if former.revoked_ms.is_none() => {
                let message = format!(
                    "there is a credential '{0}' already; choose another name, or give it a new secret with `longshore credential rotate {0}`",
                    former.name
                );
                return Err(Failure::new(Code::Conflict, message));
            }
            Some(former) => credential.secrets[0].number = former.next_number(),
            None if self.credentials.len() >= MAX_CREDENTIALS => {
                let message = format!("there are {MAX_CREDENTIALS} credentials already; use one for several nodes");
                return Err(Failure::new(Code::TooLarge, message));
            }
            None => (),
        }
        let reply = Reply::Secret { number: credential.secrets[0].number };
        self.credentials.insert(credential.name.clone(), Arc::new(credential));
        Ok(reply)
    }

    /// Lets a second secret be valid beside the present one.
    pub(crate) fn add_secret(&mut self, at: At, verifier: &Verifier) -> Outcome {
        check_verifier(verifier)?;
        let credential = self.live_credential(&verifier.credential)?;
        let (name, valid) = (&credential.name, credential.valid().count());
        if valid >= MAX_VALID {
            let message = format!(
                "credential '{name}' has {valid} valid secrets; end the older one first with `longshore credential rotate {name} --finish`"
            );
            return Err(Failure::new(Code::Conflict, message));
        }
        if credential.role != verifier.role {
            let message = format!("credential '{name}' is for the role {}, not {}", credential.role, verifier.role);
            return Err(Failure::new(Code::Invalid, message));
        }
        let alike = |each: &crate::StoredSecret| {
            each.verifier.salt == verifier.salt && each.verifier.iterations == verifier.iterations
        };
        if !credential.valid().all(alike) {
            let message = format!("the new secret of credential '{name}' must be derived with its salt and rounds");
            return Err(Failure::new(Code::Invalid, message));
        }
        if credential.secrets.iter().any(|each| each.verifier.stored_key == verifier.stored_key) {
            let message = format!("credential '{name}' has or had this very secret; generate another one");
            return Err(Failure::new(Code::Invalid, message));
        }
        let number = credential.next_number();
        let secret = StoredSecret { number, verifier: verifier.clone(), created_ms: at.now_ms, retired_ms: None };
        credential.secrets.push(secret);
        Ok(Reply::Secret { number })
    }

    /// Ends one of two valid secrets. A repeat is no error.
    pub(crate) fn retire_secret(&mut self, at: At, name: &str, number: u32) -> Outcome {
        let credential = self.live_credential(name)?;
        let valid = credential.valid().count();
        let Some(secret) = credential.secrets.iter_mut().find(|secret| secret.number == number) else {
            return Err(Failure::new(Code::NotFound, format!("credential '{name}' has no secret {number}")));
        };
        if secret.retired_ms.is_some() {
            return Ok(Reply::Done);
        }
        if valid < MAX_VALID {
            let message = format!(
                "secret {number} is the only one of credential '{name}'; add another first with `longshore credential rotate {name}`"
            );
            return Err(Failure::new(Code::Conflict, message));
        }
        secret.retired_ms = Some(at.now_ms);
        credential.secrets.sort_by_key(|secret| (secret.retired_ms.is_none(), secret.number));
        credential.shed_retired();
        Ok(Reply::Done)
    }

    /// Ends a credential for good. A repeat is no error.
    pub(crate) fn revoke_credential(&mut self, at: At, name: &str) -> Outcome {
        let known = self.known_credential(name)?;
        if known.revoked_ms.is_some() {
            return Ok(Reply::Done);
        }
        let other = |each: &&Arc<Credential>| {
            each.role == Role::Control && each.name != name && each.holder.is_none() && each.revoked_ms.is_none()
        };
        if known.role == Role::Control && known.holder.is_none() && !self.credentials.values().any(|each| other(&each))
        {
            let message = format!(
                "'{name}' is the last credential that all control nodes may use: without it they could not talk to each other, and nothing could be mended; rotate it instead"
            );
            return Err(Failure::new(Code::Conflict, message));
        }
        let credential = self.live_credential(name)?;
        credential.revoked_ms = Some(at.now_ms);
        Ok(Reply::Done)
    }

    /// Binds a credential that awaits its node to the first one that has proven it. A repeat by the same node is no error.
    pub(crate) fn bind_credential(&mut self, name: &str, node: NodeId) -> Outcome {
        let credential = self.live_credential(name)?;
        match &credential.holder {
            None => Err(Failure::new(Code::Conflict, format!("credential '{name}' is not for a single node"))),
            Some(Holder::Node(holder)) if *holder == node => Ok(Reply::Done),
            Some(Holder::Node(holder)) => Err(Failure::new(Code::Forbidden, not_its_holder(name, *holder, node))),
            Some(Holder::Awaited(_)) => {
                credential.holder = Some(Holder::Node(node));
                Ok(Reply::Done)
            }
        }
    }

    fn known_credential(&self, name: &str) -> Result<&Credential, Failure> {
        self.credential(name).ok_or_else(|| {
            let shown: String = name.chars().take(MAX_NAME).filter(|letter| !letter.is_control()).collect();
            Failure::new(Code::NotFound, format!("no credential '{shown}'; see `longshore credential list`"))
        })
    }

    /// A credential that is not revoked, to be changed.
    fn live_credential(&mut self, name: &str) -> Result<&mut Credential, Failure> {
        if self.known_credential(name)?.revoked_ms.is_some() {
            let message = format!("credential '{name}' is revoked; create a new one");
            return Err(Failure::new(Code::Conflict, message));
        }
        let credential = self.credentials.get_mut(name).expect("it was just looked up");
        Ok(Arc::make_mut(credential))
    }
}

/// Why a node may not use another node's credential.
pub fn not_its_holder(name: &str, holder: NodeId, node: NodeId) -> String {
    format!(
        "credential '{name}' belongs to node {holder}, not to node {node}; give this node a credential of its own (`longshore credential create`)"
    )
}

/// Everything that a handshake relies on later.
fn check_verifier(verifier: &Verifier) -> Result<(), Failure> {
    let name = &verifier.credential;
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let why = if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(fine) {
        format!("a credential's name is 1 to {MAX_NAME} of letters, digits, - _ .")
    } else if !SALTS.contains(&verifier.salt.len()) {
        format!("a salt of {} bytes; {} to {} are allowed", verifier.salt.len(), SALTS.start(), SALTS.end())
    } else if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&verifier.iterations) {
        format!("{} rounds; {MIN_ITERATIONS} to {MAX_ITERATIONS} are allowed", verifier.iterations)
    } else if verifier.stored_key.len() != KEY || verifier.server_key.len() != KEY {
        format!("both keys of a verifier have {KEY} bytes")
    } else {
        return Ok(());
    };
    Err(Failure::new(Code::Invalid, why))
}
