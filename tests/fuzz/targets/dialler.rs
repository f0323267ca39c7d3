//! The dialler's handshake, fed with the answers of somebody who is not the cluster.

use super::common::{drive, fed, with_town};
use std::pin::pin;

/// No worker believes whoever does not hold its verifier.
pub(crate) fn run(data: &[u8]) {
    with_town(|town| {
        let (link, _other) = fed(town, data);
        let dialled = drive(pin!(town.dial(link)));
        assert!(!matches!(dialled, Some(Ok(_))), "a stranger was believed");
    });
}
