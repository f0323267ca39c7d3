//! A WebSocket's opening and its messages: the acceptor's side from anybody, the dialler's from whatever answers.

use super::common::{drive, fed, with_town};
use longshore_transport::fuzzing::{accept_websocket, open_websocket};
use longshore_wire::{Endpoint, Transport};
use std::pin::pin;
use tokio::io::AsyncReadExt as _;

/// The first byte chooses the side. Whatever opens is read to its end.
pub(crate) fn run(data: &[u8]) {
    let Some((side, bytes)) = data.split_first() else { return };
    with_town(|town| {
        let (link, _other) = fed(town, bytes);
        let endpoint = Endpoint {
            transport: Transport::Ws,
            address: ([127, 0, 0, 1], 80).into(),
            host: "c1".to_owned(),
            path: "/longshore".to_owned(),
            tls_verify: None,
        };
        drive(pin!(async {
            let opened = match side % 2 {
                0 => accept_websocket("/longshore", link.io).await,
                _ => open_websocket(&endpoint, link.io).await,
            };
            let Ok(mut opened) = opened else { return };
            let mut content = Vec::new();
            let _ = opened.io.read_to_end(&mut content).await;
            assert!(content.len() <= bytes.len(), "no byte comes out that did not go in");
        }));
    });
}
