//! Whether a hello is this process's own: a node that meets itself through discovery is no news, while a copy of its data
//! folder that runs elsewhere is.

use longshore_wire::handshake::NONCE;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Hellos that are remembered. A hello comes back within its handshake's deadline, and a node dials few peers at a time.
const REMEMBERED: usize = 256;

/// The nonces of the last hellos of an identity.
#[derive(Debug, Clone, Default)]
pub(super) struct Hellos(Arc<Mutex<VecDeque<[u8; NONCE]>>>);

impl Hellos {
    pub(super) fn said(&self, nonce: &[u8]) {
        let Ok(nonce) = nonce.try_into() else { return };
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.truncate(REMEMBERED - 1);
        said.push_front(nonce);
    }

    pub(super) fn is_own(&self, nonce: &[u8]) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|said| said == nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_said_lately_is_own() {
        let hellos = Hellos::default();
        let clone = hellos.clone();
        clone.said(&[7; NONCE]);
        assert!(hellos.is_own(&[7; NONCE]));
        assert!(!hellos.is_own(&[8; NONCE]) && !hellos.is_own(&[7; 3]));
        (0..REMEMBERED).for_each(|_| hellos.said(&[9; NONCE]));
        assert!(!hellos.is_own(&[7; NONCE]));
        assert_eq!(hellos.0.lock().unwrap().len(), REMEMBERED);
    }
}
