//! The acceptor's handshake, fed with a stranger's bytes.

use super::common::{drive, fed, with_town};
use std::pin::pin;

/// Nobody gets in without the secret, whatever he sends.
pub(crate) fn run(data: &[u8]) {
    with_town(|town| {
        let (link, _other) = fed(town, data);
        let accepted = drive(pin!(town.accept(link)));
        assert!(!matches!(accepted, Some(Ok(_))), "a stranger was let in");
    });
}
