//! Leases: keys that go away unless somebody keeps them alive.
//!
//! There is no clock in here. The leader measures how long a lease has not been kept alive, and proposes its end under
//! the number of renewals that it has seen: a renewal that came in between wins. A new leader measures anew, so that a
//! lease never ends early.

use super::store::Store;
use crate::command::{Outcome, Reply};
use imbl::{OrdMap, OrdSet};
use longshore_wire::{Code, Failure};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Shortest time to live, in milliseconds.
pub const MIN_TTL_MS: u64 = 1_000;
/// Longest time to live, in milliseconds.
pub const MAX_TTL_MS: u64 = 24 * 60 * 60 * 1_000;
/// Most leases at a time.
const MAX_LEASES: usize = 65_536;
/// Most keys of one lease: its end is one step.
const MAX_KEYS: usize = 10_000;

/// A lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its id.
    pub id: u64,
    /// How long it lives without being kept alive, in milliseconds.
    pub ttl_ms: u64,
    /// How often it was kept alive.
    pub renewals: u64,
}

#[derive(Clone)]
struct Held {
    lease: Lease,
    keys: OrdSet<Arc<str>>,
}

#[derive(Clone, Default)]
pub(super) struct Leases(OrdMap<u64, Held>);

impl Leases {
    pub(super) fn restore(&mut self, lease: Lease) {
        self.0.insert(lease.id, Held { lease, keys: OrdSet::new() });
    }

    /// Whether a key may go with this lease.
    pub(super) fn check(&self, lease: u64, key: &str) -> Result<(), Failure> {
        let held = self.0.get(&lease).ok_or_else(|| missing(lease))?;
        if held.keys.len() >= MAX_KEYS && !held.keys.contains(key) {
            let message = format!("lease {lease} has {MAX_KEYS} keys already, which is the limit; grant another one");
            return Err(Failure::new(Code::TooLarge, message));
        }
        Ok(())
    }

    pub(super) fn attach(&mut self, lease: u64, key: &str) {
        if let Some(held) = self.0.get_mut(&lease) {
            held.keys.insert(Arc::from(key));
        }
    }

    pub(super) fn detach(&mut self, lease: u64, key: &str) {
        if let Some(held) = self.0.get_mut(&lease) {
            held.keys.remove(key);
        }
    }
}

impl Store {
    /// All leases in order, each with the number of its keys.
    pub(crate) fn leases(&self) -> impl Iterator<Item = (Lease, usize)> {
        self.leases.0.values().map(|held| (held.lease, held.keys.len()))
    }

    /// A lease with its keys.
    pub(crate) fn lease(&self, id: u64) -> Option<(Lease, impl Iterator<Item = &str>)> {
        let held = self.leases.0.get(&id)?;
        Some((held.lease, held.keys.iter().map(AsRef::as_ref)))
    }

    pub(crate) fn grant(&mut self, id: u64, ttl_ms: u64) -> Outcome {
        if !(MIN_TTL_MS..=MAX_TTL_MS).contains(&ttl_ms) {
            let message = format!("a lease of {ttl_ms} ms: the time to live is 1 second to 24 hours");
            return Err(Failure::new(Code::Invalid, message));
        }
        if self.leases.0.len() >= MAX_LEASES {
            let message = format!("there are {MAX_LEASES} leases, which is the limit; revoke some, or share them");
            return Err(Failure::new(Code::TooLarge, message));
        }
        self.leases.restore(Lease { id, ttl_ms, renewals: 0 });
        Ok(Reply::Lease { lease: id, ttl_ms })
    }

    pub(crate) fn keep(&mut self, id: u64) -> Outcome {
        let held = self.leases.0.get_mut(&id).ok_or_else(|| missing(id))?;
        held.lease.renewals += 1;
        Ok(Reply::Lease { lease: id, ttl_ms: held.lease.ttl_ms })
    }

    pub(crate) fn revoke(&mut self, id: u64, renewals: Option<u64>) -> Outcome {
        let held = self.leases.0.get(&id).ok_or_else(|| missing(id))?;
        if renewals.is_some_and(|seen| seen != held.lease.renewals) {
            let message = format!("lease {id} has been kept alive in the meantime");
            return Err(Failure::new(Code::Conflict, message));
        }
        let keys = held.keys.clone();
        for key in &keys {
            self.remove(key);
        }
        self.leases.0.remove(&id);
        Ok(Reply::LeaseEnded { keys: u32::try_from(keys.len()).unwrap_or(u32::MAX) })
    }
}

fn missing(lease: u64) -> Failure {
    Failure::new(
        Code::NotFound,
        format!("there is no lease {lease}; it has ended, and its keys are gone: grant another"),
    )
}
