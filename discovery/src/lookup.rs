//! The questions that discovery asks DNS, behind a trait.
//!
//! An absent name is an empty answer, not an error: only a question that nobody answered is an error. The whole
//! decision between "there is no such record" and "DNS is down" rests on that difference.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Instant;

/// A question under way.
pub type Lookup<'a, T> = Pin<Box<dyn Future<Output = Result<Answer<T>, LookupError>> + Send + 'a>>;

/// Who answers questions about names. Every answer is fresh: an implementation must not cache.
pub trait Resolve: Send + Sync {
    /// The NAPTR records of a name (RFC 3403).
    fn naptr<'a>(&'a self, name: &'a str) -> Lookup<'a, Naptr>;
    /// The SRV records of a name (RFC 2782).
    fn srv<'a>(&'a self, name: &'a str) -> Lookup<'a, Srv>;
    /// The addresses of a name (A and AAAA).
    fn addresses<'a>(&'a self, name: &'a str) -> Lookup<'a, IpAddr>;
}

/// Records, and how long they may be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The records in the order in which they came; empty when the name or the type does not exist.
    pub records: Vec<T>,
    /// When the shortest TTL among them ends; `None` when nothing limits the answer.
    pub valid_until: Option<Instant>,
}

/// A question without an answer: no server replied in time, or none was able to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {name}: {reason}")]
pub struct LookupError {
    /// Type of the record asked for.
    pub kind: &'static str,
    /// The name asked for.
    pub name: String,
    /// What went wrong.
    pub reason: String,
}

/// A NAPTR record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naptr {
    /// Lower ones first.
    pub order: u16,
    /// Lower ones first within one order.
    pub preference: u16,
    /// `s`: the replacement is the name of SRV records.
    pub flags: String,
    /// For example `LSS+D2W`.
    pub services: String,
    /// The name to go on with.
    pub replacement: String,
}

impl fmt::Display for Naptr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { order, preference, flags, services, replacement } = self;
        write!(f, "NAPTR {order} {preference} {flags:?} {services:?} {replacement}")
    }
}

/// An SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srv {
    /// Lower ones first.
    pub priority: u16,
    /// Share of the load within one priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host.
    pub target: String,
}

impl fmt::Display for Srv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { priority, weight, port, target } = self;
        write!(f, "SRV {priority} {weight} {port} {target}")
    }
}
