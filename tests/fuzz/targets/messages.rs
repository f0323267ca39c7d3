//! Single messages: those of the handshake, from anybody, and those of a session, from a peer that may have gone bad.

use longshore_wire::frame::{Goodbye, Header, RequestHead};
use longshore_wire::handshake::{FromAcceptor, FromDialler};
use longshore_wire::{Failure, client, decode, edge, encode, peer};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Whatever decodes can be encoded again, and means the same then.
fn round<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(message) = decode::<T>(bytes) {
        let again: T = decode(&encode(&message)).expect("what we encode can be decoded");
        // Not a number is not equal to itself, and JSON values may not hold it.
        assert_eq!(again, message);
    }
}

/// The first byte chooses the type.
pub(crate) fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 11 {
        0 => round::<FromDialler>(bytes),
        1 => round::<FromAcceptor>(bytes),
        2 => round::<Goodbye>(bytes),
        3 => round::<RequestHead>(bytes),
        4 => round::<Failure>(bytes),
        5 => round::<edge::ToControl>(bytes),
        6 => round::<edge::ToWorker>(bytes),
        7 => round::<edge::AttachReply>(bytes),
        8 => round::<client::FromClient>(bytes),
        9 => round::<peer::PeerRequest>(bytes),
        _ => {
            let Some(header) = bytes.first_chunk() else { return };
            if let Ok(read) = Header::decode(*header) {
                assert_eq!(read.encode(), *header);
                assert!(read.length as usize <= read.kind.max_payload());
            }
        }
    }
}
