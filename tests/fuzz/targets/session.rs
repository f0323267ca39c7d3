//! A session's reader, fed with the bytes of a peer that has proven itself and then gone bad.

use super::common::{fed, with_town};
use longshore_transport::{Carrier, Incoming, Peer, Proven, Session, SessionOptions};
use longshore_wire::{NodeId, Role};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The first byte chooses who dialled. The session ends, in order, whatever comes.
pub(crate) fn run(data: &[u8]) {
    let Some((dialled, bytes)) = data.split_first() else { return };
    with_town(|town| {
        let (link, other) = fed(town, bytes);
        let peer = Peer {
            node: NodeId::from_u128(2),
            role: Role::Worker,
            credential: "worker".to_owned(),
            secret: 1,
            cluster_id: None,
            version: longshore_wire::handshake::MAX_VERSION,
            release: String::new(),
            carrier: Carrier::Memory,
            remote: None,
        };
        let proven = Proven { link, peer, dialled: dialled % 2 == 0 };
        let options = SessionOptions { max_requests: 8, max_streams: 4, ..SessionOptions::default() };
        town.runtime.block_on(async {
            let (session, mut inbound) = Session::start(proven, options);
            drop(other);
            while let Some(incoming) = inbound.next().await {
                match incoming {
                    Incoming::Request(request) => {
                        let body = request.body.to_vec();
                        request.reply(Ok(body));
                    }
                    Incoming::Notify(_) => {}
                    Incoming::Open { head, mut stream } => {
                        let mut got = [0; 64];
                        let _ = tokio::select! {
                            biased;
                            read = stream.read(&mut got) => read,
                            () = std::future::ready(()) => Ok(0),
                        };
                        if head.len() % 2 == 0 {
                            let _ = tokio::select! {
                                biased;
                                wrote = stream.write_all(&head) => wrote,
                                () = std::future::ready(()) => Ok(()),
                            };
                        }
                    }
                }
            }
            session.closed().await;
        });
    });
}
