//! From a cluster URI to ordered endpoints: NAPTR → SRV → A and AAAA.
//!
//! ```text
//! longshore://IP                    as it is
//! longshore://host:port             A, AAAA
//! longshore://host;transport=T      SRV _longshore._T.host, else A/AAAA and T's default port
//! longshore://host                  NAPTR (flag s) → SRV → A/AAAA; without NAPTR as if transport=tls
//! ```
//!
//! Owns the order in which endpoints are tried and the last known good answer of each URI. Every call resolves anew;
//! nothing is answered from a cache while DNS works. Never opens a connection to a node, and never turns to plaintext
//! by itself: `tcp` and `ws` appear only when the URI or a NAPTR record of the zone names them.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod discovery;
mod hickory;
mod lookup;
mod order;
mod resolution;
mod walk;

pub use discovery::{Discovery, DiscoveryError};
pub use hickory::ResolverOptions;
pub use lookup::{Answer, Lookup, LookupError, Naptr, Resolve, Srv};
pub use resolution::{Resolution, Step};
