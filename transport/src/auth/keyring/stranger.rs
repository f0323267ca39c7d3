//! Keys for a salt that whoever dials this node names. Nobody is proven yet, so that a stranger could name ever new salts and
//! let this node work: one derivation at a time, then a pause four times as long as it took, and nothing is kept of it
//! unless its proof is right.

use super::{Derived, Keyring};
use std::sync::Arc;
use std::time::Instant;

/// A fifth of one core at most.
const REST: u32 = 4;

/// Another derivation for a stranger goes on, or has just ended.
#[derive(Debug)]
pub(crate) struct Busy;

/// When the next derivation may begin.
pub(super) type Turn = Arc<tokio::sync::Mutex<Option<Instant>>>;

impl Keyring {
    /// The keys for this salt and number of rounds: at once where they are known, which is so for a cluster that has proven
    /// itself before. The caller has bounded the rounds.
    pub(crate) async fn keys_for_stranger(&self, salt: &[u8], iterations: u32) -> Result<Arc<Derived>, Busy> {
        if let Some(derived) = self.shared.known(salt, iterations) {
            return Ok(derived);
        }
        let mut turn = Arc::clone(&self.shared.strangers).try_lock_owned().map_err(|_| Busy)?;
        if turn.is_some_and(|free_at| Instant::now() < free_at) {
            return Err(Busy);
        }
        let (shared, salt) = (Arc::clone(&self.shared), salt.to_vec());
        let derivation = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let derived = shared.derive(salt, iterations);
            *turn = Some(Instant::now() + begun.elapsed() * REST);
            derived
        });
        derivation.await.map_err(|_| Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Secret;

    #[tokio::test]
    async fn strangers_cannot_make_a_node_work() {
        let keyring = Keyring::new(Secret::generate().unwrap(), "worker".to_owned());
        let first = keyring.keys_for_stranger(b"one salt", 200_000).await.unwrap();
        assert!(keyring.keys_for_stranger(b"two salt", 1).await.is_err(), "there is a pause");
        assert!(keyring.keys_for_stranger(b"one salt", 200_000).await.is_err(), "nothing is kept for a stranger");
        keyring.keep_proven(Arc::clone(&first));
        let again = keyring.keys_for_stranger(b"one salt", 200_000).await.unwrap();
        assert!(Arc::ptr_eq(&first, &again), "who was right is known");
        let held = Arc::clone(&keyring.shared.strangers).lock_owned().await;
        assert!(keyring.keys_for_stranger(b"three", 1).await.is_err(), "one at a time");
        drop(held);
    }
}
