//! A proxy's answers: HTTP CONNECT and SOCKS5, from whatever stands at the proxy's address.

use super::common::{drive, fed, with_town};
use longshore_transport::fuzzing::ask_proxy;
use longshore_transport::{Login, Proxy, ProxyKind};
use longshore_wire::{Endpoint, Transport};
use std::pin::pin;
use tokio::io::AsyncReadExt as _;

/// The first byte chooses the kind of proxy, and whether there is a login. What is left belongs to the peer behind.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let kind = [ProxyKind::Http, ProxyKind::Socks5, ProxyKind::Socks5h][usize::from(*choice) % 3];
    let login = (choice & 0x80 != 0).then(|| Login::new("user", "password"));
    let proxy = Proxy::new(kind, "proxy.test".to_owned(), 3128, login, Box::new(|_| false));
    let endpoint = Endpoint {
        transport: Transport::Wss,
        address: ([10, 0, 0, 1], 443).into(),
        host: "c1.test".to_owned(),
        path: "/".to_owned(),
        tls_verify: None,
    };
    with_town(|town| {
        let (link, _other) = fed(town, bytes);
        drive(pin!(async {
            let Ok(mut opened) = ask_proxy(&proxy, &endpoint, link.io).await else { return };
            let mut rest = Vec::new();
            let _ = opened.io.read_to_end(&mut rest).await;
            assert!(bytes.ends_with(&rest), "the peer's bytes are handed on as they are");
        }));
    });
}
