//! From a cluster URI to ordered endpoints: NAPTR → SRV → A and AAAA.
//!
//! ```text
//! longshore://IP                    as it is
//! longshore://host:port             A, AAAA
//! longshore://host;transport=T      SRV _longshore._T.host, else A/AAAA and T's default port
//! longshore://host                  NAPTR (flags s, a, or none) → SRV → A/AAAA; without NAPTR as if transport=tls
//! ```
//!
//! Owns the order in which endpoints are tried, and what is remembered: the last known good answer of each URI, for when
//! DNS is down; and that a record is absent, as long as the zone says and at most 30 s. What exists is asked for anew at
//! every call, so no record is ever used past its TTL while DNS works. Never opens a connection to a node, and never turns to plaintext
//! by itself: `tcp` and `ws` appear only when the URI or a NAPTR record of the zone names them.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod addresses;
mod discovery;
mod hickory;
mod lookup;
mod nameservers;
mod negative;
mod order;
mod resolution;
mod walk;

pub use discovery::{Discovery, DiscoveryError};
pub use hickory::{Nameless, ResolverOptions};
pub use lookup::{Absent, Answer, Family, Lookup, LookupError, Naptr, Resolve, Srv};
pub use resolution::{Line, Resolution, Said, Step};
