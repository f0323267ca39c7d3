//! The control node: Raft group, registry, ring, proxies, KV, blobs, HTTP API.
