//! From a cluster URI to ordered endpoints: NAPTR, SRV, A and AAAA.
