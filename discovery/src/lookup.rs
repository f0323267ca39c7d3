//! The questions that discovery asks DNS, behind a trait.
//!
//! An absent name is an empty answer, not an error: only a question that nobody answered is an error. The whole
//! decision between "there is no such record" and "DNS is down" rests on that difference.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

/// A question under way.
pub type Lookup<'a, T> = Pin<Box<dyn Future<Output = Result<Answer<T>, LookupError>> + Send + 'a>>;

/// Who answers questions about names. Every answer is fresh: an implementation must not cache.
pub trait Resolve: Send + Sync {
    /// The NAPTR records of a name (RFC 3403).
    fn naptr<'a>(&'a self, name: &'a str) -> Lookup<'a, Naptr>;
    /// The SRV records of a name (RFC 2782).
    fn srv<'a>(&'a self, name: &'a str) -> Lookup<'a, Srv>;
    /// The addresses of a name in one family.
    fn addresses<'a>(&'a self, name: &'a str, family: Family) -> Lookup<'a, IpAddr>;
}

/// A family of addresses, with a record type of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
}

impl Family {
    /// The record type's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
        }
    }
}

/// Records, and how long they may be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The records in the order in which they came; empty when there are none.
    pub records: Vec<T>,
    /// Why there are none.
    pub absent: Option<Absent>,
    /// How long this may be believed from now on: the shortest TTL of what led here, or the zone's word for how long a
    /// name may be held absent (RFC 2308). `None` when nothing says so.
    pub ttl: Option<Duration>,
    /// The names that the name asked for stands for (CNAME), one after the other.
    pub aliases: Vec<String>,
}

impl<T> Answer<T> {
    /// Records that nothing limits.
    pub const fn new(records: Vec<T>) -> Self {
        Self { records, absent: None, ttl: None, aliases: Vec::new() }
    }

    /// No records.
    pub const fn none(absent: Absent, ttl: Option<Duration>) -> Self {
        Self { records: Vec::new(), absent: Some(absent), ttl, aliases: Vec::new() }
    }
}

/// Why there are no records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// The name does not exist (NXDOMAIN).
    Name,
    /// The name exists, and has no record of this type.
    Record,
    /// No such name can exist: it is longer than DNS allows.
    TooLong,
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "no such name",
            Self::Record => "no such record",
            Self::TooLong => "the name is longer than DNS allows",
        })
    }
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
    /// `s`: the replacement is the name of SRV records; `a`: of addresses; empty: of further NAPTR records.
    pub flags: String,
    /// For example `LSS+D2W`.
    pub services: String,
    /// A rewriting rule; nothing of ours has one.
    pub regexp: String,
    /// The name to go on with.
    pub replacement: String,
}

impl fmt::Display for Naptr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { order, preference, flags, services, replacement, .. } = self;
        write!(f, "NAPTR {order} {preference} \"{flags}\" \"{services}\" {replacement}")
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
    /// The host; `.` when the service is decidedly not there.
    pub target: String,
}

impl fmt::Display for Srv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { priority, weight, port, target } = self;
        write!(f, "SRV {priority} {weight} {port} {target}")
    }
}
