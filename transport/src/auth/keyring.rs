//! The dialler's secret, and the keys already derived from it.
//!
//! A secret that came from a file is read again once the file has changed, so that a rotation needs no restart.
//! A derivation goes on when the handshake that wanted it has timed out, and its result stays: a slow machine fails its
//! first attempt at most, and a reconnect costs a few HMACs.

mod stranger;

use super::scram::Keys;
use super::secret::{Secret, Stamp};
use longshore_wire::credential::Verifier;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Most derived keys kept: a salt for each credential rotation that is under way, and a few for acceptors that make up
/// salts for names they do not know.
const KEPT: usize = 8;

struct Entry {
    /// Of the secret that they were derived from.
    version: u64,
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
    held: Mutex<Held>,
    /// Rises with every new secret.
    version: watch::Sender<u64>,
    derived: Mutex<VecDeque<Entry>>,
    /// One derivation at a time: an acceptor that sends ever new salts keeps one core busy at most.
    deriving: Arc<tokio::sync::Mutex<()>>,
    /// The same for salts that strangers name.
    strangers: stranger::Turn,
}

/// The secret of the moment.
struct Held {
    secret: Secret,
    version: u64,
    /// State of the file that could not be used, so that it is complained of once.
    unusable: Option<Stamp>,
}

impl Keyring {
    /// The keyring of one credential.
    pub fn new(secret: Secret, credential: String) -> Self {
        let derived = Mutex::new(VecDeque::with_capacity(KEPT));
        let held = Mutex::new(Held { secret, version: 0, unusable: None });
        let version = watch::Sender::new(0);
        Self {
            shared: Arc::new(Shared {
                credential,
                held,
                version,
                derived,
                deriving: Arc::default(),
                strangers: Arc::default(),
            }),
        }
    }

    /// Whether the present secret is the one behind this verifier. Derives, so the first time is slow.
    pub async fn fits(&self, verifier: &Verifier) -> bool {
        let keys = self.keys(&verifier.salt, verifier.iterations).await;
        keys.is_some_and(|keys| *keys.stored == *verifier.stored_key)
    }

    /// Reads the secret's file again if it has changed; a file that cannot be used leaves the secret as it is, and is
    /// logged. Says whether there is another secret now. A secret that came from no file never changes.
    pub async fn refresh(&self) -> bool {
        if self.shared.held().secret.origin().is_none() {
            return false;
        }
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || shared.refresh()).await.unwrap_or(false)
    }

    /// Wakes when there is another secret.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
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
            let (secret, version) = {
                let held = shared.held();
                (held.secret.clone(), held.version)
            };
            let keys = Arc::new(Keys::derive(secret.as_bytes(), &salt, iterations));
            shared.keep(Entry { version, salt, iterations, keys: Arc::clone(&keys) });
            drop(turn);
            keys
        });
        derivation.await.ok()
    }
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refresh(&self) -> bool {
        let mut held = self.held();
        let Some((path, stamp)) = held.secret.origin().cloned() else { return false };
        // A file that is gone for a moment is being replaced.
        let Ok(now) = Secret::stamp(&path) else { return false };
        if now == stamp || held.unusable == Some(now) {
            return false;
        }
        match Secret::from_file(&path) {
            Ok(secret) => {
                let is_new = secret.text() != held.secret.text();
                held.secret = secret;
                held.unusable = None;
                if is_new {
                    held.version += 1;
                    self.version.send_replace(held.version);
                    tracing::info!(path = %path.display(), credential = self.credential, "the secret file has changed; its new content is used from now on");
                }
                is_new
            }
            Err(error) => {
                tracing::warn!(
                    credential = self.credential,
                    "the secret file has changed but cannot be used, so the former secret stays: {error}"
                );
                held.unusable = Some(now);
                false
            }
        }
    }

    fn known(&self, salt: &[u8], iterations: u32) -> Option<Arc<Keys>> {
        let version = self.held().version;
        let derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |entry: &&Entry| (entry.version, entry.iterations) == (version, iterations) && entry.salt == salt;
        let entry = derived.iter().find(fits)?;
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

    #[tokio::test]
    async fn a_changed_file_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker.secret");
        let replace = |text: &str| {
            std::fs::write(dir.path().join("new"), text).unwrap();
            std::fs::rename(dir.path().join("new"), &path).unwrap();
        };
        replace("the first secret of all");
        let keyring = Keyring::new(Secret::from_file(&path).unwrap(), "worker".to_owned());
        let changed = keyring.changed();
        let first = keyring.keys(b"salt", 1).await.unwrap();
        assert!(!keyring.refresh().await);
        replace("short");
        assert!(!keyring.refresh().await, "what is no secret does not take the place of one");
        std::fs::remove_file(&path).unwrap();
        assert!(!keyring.refresh().await);
        assert!(Arc::ptr_eq(&first, &keyring.keys(b"salt", 1).await.unwrap()) && !changed.has_changed().unwrap());
        replace("the second secret of all");
        assert!(keyring.refresh().await && changed.has_changed().unwrap());
        let second = keyring.keys(b"salt", 1).await.unwrap();
        assert_ne!(*first.stored, *second.stored, "keys of the former secret are not used any more");
        assert!(!keyring.refresh().await);
    }
}
