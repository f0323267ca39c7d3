//! One walk from a URI over NAPTR, SRV and addresses to endpoints.
