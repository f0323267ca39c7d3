//! The dialler's secret, and the keys already derived from it.
//!
//! A derivation goes on when the handshake that wanted it has timed out, and its result stays: a slow machine fails its
//! first attempt at most, and a reconnect costs a few HMACs.

use super::scram::Keys;
use super::secret::Secret;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Most derived keys kept: a salt for each credential rotation that is under way, and a few for acceptors that make up
/// salts for names they do not know.
const KEPT: usize = 8;

struct Entry {
    salt: Vec<u8>,
    iterations: u32,
    keys: Arc<Keys>,
}

/// A credential's name and secret, with a cache of derived keys. Clones share the cache.
#[derive(Clone)]
pub struct Keyring {
    shared: Arc<Shared>,
}

struct Shared {
    credential: String,
    secret: Secret,
    derived: Mutex<VecDeque<Entry>>,
    /// One derivation at a time: an acceptor that sends ever new salts keeps one core busy at most.
    deriving: Arc<tokio::sync::Mutex<()>>,
}

impl Keyring {
    /// The keyring of one credential.
    pub fn new(secret: Secret, credential: String) -> Self {
        let derived = Mutex::new(VecDeque::with_capacity(KEPT));
        Self { shared: Arc::new(Shared { credential, secret, derived, deriving: Arc::default() }) }
    }

    /// Name of the credential.
    pub fn credential(&self) -> &str {
        &self.shared.credential
    }

    /// The keys for this salt and number of rounds, derived on a blocking thread unless known. Safe to drop: the
    /// derivation ends by itself and its result is kept. `None` when the runtime is shutting down.
    pub(crate) async fn keys(&self, salt: &[u8], iterations: u32) -> Option<Arc<Keys>> {
        if let Some(keys) = self.shared.known(salt, iterations) {
            return Some(keys);
        }
        let turn = Arc::clone(&self.shared.deriving).lock_owned().await;
        // Whoever had the turn before may have derived the same.
        if let Some(keys) = self.shared.known(salt, iterations) {
            return Some(keys);
        }
        let shared = Arc::clone(&self.shared);
        let salt = salt.to_vec();
        let derivation = tokio::task::spawn_blocking(move || {
            let keys = Arc::new(Keys::derive(shared.secret.as_bytes(), &salt, iterations));
            shared.keep(Entry { salt, iterations, keys: Arc::clone(&keys) });
            drop(turn);
            keys
        });
        derivation.await.ok()
    }
}

impl Shared {
    fn known(&self, salt: &[u8], iterations: u32) -> Option<Arc<Keys>> {
        let derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = derived.iter().find(|entry| entry.iterations == iterations && entry.salt == salt)?;
        Some(Arc::clone(&entry.keys))
    }

    fn keep(&self, entry: Entry) {
        let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        derived.truncate(KEPT - 1);
        derived.push_front(entry);
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("credential", &self.shared.credential).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn keys_are_derived_once_and_also_for_those_who_left() {
        let keyring = Keyring::new(Secret::generate().unwrap(), "worker".to_owned());
        let salt = [7; 16];
        assert!(tokio::time::timeout(Duration::ZERO, keyring.keys(&salt, 50_000)).await.is_err());
        let (a, b) = tokio::join!(keyring.keys(&salt, 50_000), keyring.keys(&salt, 50_000));
        assert!(Arc::ptr_eq(&a.unwrap(), &b.unwrap()));
        for number in 0..2 * KEPT {
            keyring.keys(&[u8::try_from(number).unwrap()], 1).await;
        }
        assert_eq!(keyring.shared.derived.lock().unwrap().len(), KEPT);
    }
}
