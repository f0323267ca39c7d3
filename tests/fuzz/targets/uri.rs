//! Cluster URIs: from operators, from DNS zones' owners, and from peers that say where to go.

use longshore_wire::ClusterUri;

/// Whatever is taken is written back so that it means the same.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(uri) = text.parse::<ClusterUri>() else { return };
    let again: ClusterUri = uri.to_string().parse().expect("a URI is written as it can be read");
    assert_eq!(again, uri);
    assert!(!uri.host.contains(['/', ';', '@', '\r', '\n', ' ']), "{:?}", uri.host);
    assert!(uri.path.is_none_or(|path| !path.contains(['\r', '\n', ' '])), "a path ends up in an HTTP request");
}
