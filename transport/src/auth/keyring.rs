//! The dialler's secret, and the keys already derived from it.
//!
//! A secret that came from a file is read again once the file has changed, so that a rotation needs no restart.
//! A derivation goes on when the handshake that wanted it has timed out, and its result stays: a slow machine fails its
//! first attempt at most, and a reconnect costs a few HMACs. Whoever answers can name a salt, so that what came of it has a
//! place of its own until its namer has proven that it knows the verifier.

mod stranger;

use super::scram::Keys;
use super::secret::{Secret, Stamp};
use longshore_wire::credential::Verifier;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Most keys kept whose salt somebody has proven: one for each credential rotation that is under way, and to spare.
const PROVEN: usize = 8;
/// Most keys kept whose salt nobody has proven yet: for a slow machine's next attempt, and for acceptors that make up
/// salts for names they do not know.
const UNPROVEN: usize = 4;

/// Keys, and what they were derived from.
pub(crate) struct Derived {
    /// Of the secret that they were derived from.
    version: u64,
    salt: Vec<u8>,
    iterations: u32,
    pub(crate) keys: Keys,
}

/// The keys that were derived, newest first.
#[derive(Default)]
struct Cache {
    proven: VecDeque<Arc<Derived>>,
    unproven: VecDeque<Arc<Derived>>,
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
    derived: Mutex<Cache>,
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
        let held = Mutex::new(Held { secret, version: 0, unusable: None });
        let version = watch::Sender::new(0);
        Self {
            shared: Arc::new(Shared {
                credential,
                held,
                version,
                derived: Mutex::default(),
                deriving: Arc::default(),
                strangers: Arc::default(),
            }),
        }
    }

    /// Whether the present secret is the one behind this verifier. Derives, so the first time is slow.
    pub async fn fits(&self, verifier: &Verifier) -> bool {
        let Some(derived) = self.keys(&verifier.salt, verifier.iterations).await else { return false };
        let fits = *derived.keys.stored == *verifier.stored_key;
        if fits {
            self.keep_proven(derived);
        }
        fits
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
    /// derivation ends by itself and its result is kept for a while. `None` when the runtime is shutting down.
    pub(crate) async fn keys(&self, salt: &[u8], iterations: u32) -> Option<Arc<Derived>> {
        if let Some(derived) = self.shared.known(salt, iterations) {
            return Some(derived);
        }
        let turn = Arc::clone(&self.shared.deriving).lock_owned().await;
        // Whoever had the turn before may have derived the same.
        if let Some(derived) = self.shared.known(salt, iterations) {
            return Some(derived);
        }
        let shared = Arc::clone(&self.shared);
        let salt = salt.to_vec();
        let derivation = tokio::task::spawn_blocking(move || {
            let derived = shared.derive(salt, iterations);
            push(&mut shared.derived().unproven, Arc::clone(&derived), UNPROVEN);
            drop(turn);
            derived
        });
        derivation.await.ok()
    }

    /// Keeps what a salt led to, now that its namer has proven that it knows the verifier: no stranger drives it out.
    pub(crate) fn keep_proven(&self, derived: Arc<Derived>) {
        let mut cache = self.shared.derived();
        cache.unproven.retain(|other| !Arc::ptr_eq(other, &derived));
        if !cache.proven.iter().any(|other| other.is_for(derived.version, &derived.salt, derived.iterations)) {
            push(&mut cache.proven, derived, PROVEN);
        }
    }
}

impl Derived {
    fn is_for(&self, version: u64, salt: &[u8], iterations: u32) -> bool {
        (self.version, self.iterations) == (version, iterations) && self.salt == salt
    }
}

fn push(kept: &mut VecDeque<Arc<Derived>>, derived: Arc<Derived>, most: usize) {
    kept.truncate(most - 1);
    kept.push_front(derived);
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

    fn derived(&self) -> MutexGuard<'_, Cache> {
        self.derived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Derives from the secret of the moment, whatever it is later. Blocks.
    fn derive(&self, salt: Vec<u8>, iterations: u32) -> Arc<Derived> {
        let (secret, version) = {
            let held = self.held();
            (held.secret.clone(), held.version)
        };
        let keys = Keys::derive(secret.as_bytes(), &salt, iterations);
        Arc::new(Derived { version, salt, iterations, keys })
    }

    fn known(&self, salt: &[u8], iterations: u32) -> Option<Arc<Derived>> {
        let version = self.held().version;
        let cache = self.derived();
        let mut kept = cache.proven.iter().chain(&cache.unproven);
        kept.find(|derived| derived.is_for(version, salt, iterations)).map(Arc::clone)
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
    }

    /// An acceptor may name any salt; the keys of one who has proven itself stay where they are.
    #[tokio::test]
    async fn salts_of_strangers_drive_nothing_out() {
        let keyring = Keyring::new(Secret::generate().unwrap(), "worker".to_owned());
        let proven = keyring.keys(b"the cluster's salt", 1).await.unwrap();
        keyring.keep_proven(Arc::clone(&proven));
        for number in 0..2 * (PROVEN + UNPROVEN) {
            keyring.keys(&[u8::try_from(number).unwrap()], 1).await;
        }
        assert!(Arc::ptr_eq(&proven, &keyring.keys(b"the cluster's salt", 1).await.unwrap()));
        let kept = || {
            let cache = keyring.shared.derived();
            (cache.proven.len(), cache.unproven.len())
        };
        assert_eq!(kept(), (1, UNPROVEN));
        // Those who prove themselves do not fill the memory either.
        for number in 0..2 * PROVEN {
            let derived = keyring.keys(&[u8::try_from(number).unwrap(); 2], 1).await.unwrap();
            keyring.keep_proven(derived);
        }
        assert_eq!(kept(), (PROVEN, UNPROVEN - 1), "what was proven is no longer among the others");
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
        assert_ne!(*first.keys.stored, *second.keys.stored, "keys of the former secret are not used any more");
        assert!(!keyring.refresh().await);
        // A proof with the former secret may come in late.
        keyring.keep_proven(first);
        assert!(Arc::ptr_eq(&second, &keyring.keys(b"salt", 1).await.unwrap()));
    }
}
