//! How a session ended, and what the dialler should do then.

use super::core::{SHORT_TEXT, shortened};
use longshore_wire::frame::{Goodbye, Kind};
use longshore_wire::{ClusterUri, Failure, encode};
use std::time::Duration;

/// Why a session has ended, and what the side that ended it wants of the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub reason: Failure,
    /// The dialler should not come back before this time has passed. The number is the peer's: bound it.
    pub retry_after: Option<Duration>,
    /// Where the dialler should go instead, best first; empty for nowhere in particular.
    pub go_to: Vec<ClusterUri>,
}

impl Ending {
    /// An end without directions.
    pub(super) const fn plain(reason: Failure) -> Self {
        Self { reason, retry_after: None, go_to: Vec::new() }
    }

    /// The payload of a goodbye. As many of the directions as the frame holds.
    pub(super) fn goodbye(&self) -> Vec<u8> {
        let retry_after_ms = self.retry_after.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let mut goodbye =
            Goodbye { reason: shortened(&self.reason, SHORT_TEXT), retry_after_ms, go_to: self.go_to.clone() };
        loop {
            let bytes = encode(&goodbye);
            if bytes.len() <= Kind::Goodbye.max_payload() {
                return bytes;
            }
            goodbye.go_to.pop();
        }
    }
}

impl From<Goodbye> for Ending {
    fn from(goodbye: Goodbye) -> Self {
        let retry_after = goodbye.retry_after_ms.map(Duration::from_millis);
        Self { reason: goodbye.reason, retry_after, go_to: goodbye.go_to }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_wire::{Code, decode};

    #[test]
    fn a_goodbye_holds_as_many_directions_as_fit() {
        let place: ClusterUri = format!("longshore://{}.example", "a".repeat(60)).parse().unwrap();
        let reason = Failure::new(Code::Unavailable, "\u{e9}".repeat(4000));
        let ending = Ending { reason, retry_after: Some(Duration::MAX), go_to: vec![place.clone(); 100] };
        let goodbye: Goodbye = decode(&ending.goodbye()).unwrap();
        assert!(!goodbye.go_to.is_empty() && goodbye.go_to.len() < 100);
        assert_eq!(goodbye.retry_after_ms, Some(u64::MAX));
        let short = Ending { reason: Failure::new(Code::Busy, "full"), retry_after: None, go_to: vec![place] };
        assert_eq!(Ending::from(decode::<Goodbye>(&short.goodbye()).unwrap()), short);
    }
}
