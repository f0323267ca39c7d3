//! Verifiers: making them, finding them, and hiding which exist.

use super::scram::{self, Keys, mac};
use super::secret::Secret;
use longshore_wire::credential::{DEFAULT_ITERATIONS, MAX_ITERATIONS, MIN_ITERATIONS, Verifier};
use longshore_wire::{NodeId, Role};
use std::sync::OnceLock;

/// Bytes of a salt.
const SALT: usize = 16;

/// What the accepting side knows of a credential.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its secrets, at least one, oldest first. All share salt and rounds: the challenge names them before the dialler has
    /// shown which secret it holds. The ended ones are here so that their holder, and nobody else, learns of their end.
    pub secrets: Vec<KnownSecret>,
    /// The only node that may use it.
    pub node: Option<NodeId>,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// One secret of a credential, as the accepting side knows it.
#[derive(Debug, Clone)]
pub struct KnownSecret {
    /// Its number within the credential.
    pub number: u32,
    /// What checks it.
    pub verifier: Verifier,
    /// Whether a newer one has taken its place.
    pub retired: bool,
}

impl From<Verifier> for Known {
    fn from(verifier: Verifier) -> Self {
        Self { secrets: vec![KnownSecret { number: 1, verifier, retired: false }], node: None, revoked: false }
    }
}

/// Where the accepting side looks credentials up. Any `Fn(&str) -> Option<Verifier>` is one.
pub trait Verifiers: Send + Sync {
    /// What is known of the credential with this name, if there is one.
    fn find(&self, credential: &str) -> Option<Known>;
}

impl<F: Fn(&str) -> Option<Verifier> + Send + Sync> Verifiers for F {
    fn find(&self, credential: &str) -> Option<Known> {
        self(credential).map(Known::from)
    }
}

/// Makes the verifier of a secret, with a fresh salt. Blocks for as long as the rounds take (about 0.2 s for the default
/// number on a server): not for a runtime's thread. Rounds outside what a dialler accepts are moved to the nearest bound.
///
/// # Panics
/// When the system's random number source fails; nothing secure can be done then.
pub fn make_verifier(secret: &Secret, credential: &str, role: Role, iterations: u32) -> Verifier {
    let mut salt = vec![0; SALT];
    scram::random(&mut salt).expect("the system's random number source works");
    verifier_with(secret, credential, role, salt, iterations)
}

/// As [`make_verifier`], with a salt that is given: a second secret of a credential shares the first one's.
pub fn verifier_with(secret: &Secret, credential: &str, role: Role, salt: Vec<u8>, iterations: u32) -> Verifier {
    let iterations = iterations.clamp(MIN_ITERATIONS, MAX_ITERATIONS);
    let keys = Keys::derive(secret.as_bytes(), &salt, iterations);
    Verifier {
        credential: credential.to_owned(),
        role,
        salt,
        iterations,
        stored_key: keys.stored.to_vec(),
        server_key: keys.server.to_vec(),
    }
}

/// What the acceptor challenges with: a verifier that can be satisfied, or one that nobody can.
pub(crate) struct Found {
    pub(crate) known: Known,
    pub(crate) real: bool,
}

impl Found {
    /// Whose salt and rounds the dialler is told.
    pub(crate) fn challenge(&self) -> &Verifier {
        &self.known.secrets.last().expect("a found credential has a secret").verifier
    }
}

/// The verifier, or a fake that looks the same to a stranger at every attempt, so that nobody learns which names exist.
pub(crate) fn find_or_fake(verifiers: &dyn Verifiers, credential: &str, role: Role) -> Found {
    if let Some(known) = verifiers.find(credential).filter(|known| !known.secrets.is_empty()) {
        return Found { known, real: true };
    }
    let seed = |what: &[u8]| mac(fake_key(), &[what, credential.as_bytes()].concat());
    let verifier = Verifier {
        credential: credential.to_owned(),
        role,
        salt: seed(b"salt ")[..SALT].to_vec(),
        iterations: DEFAULT_ITERATIONS,
        stored_key: seed(b"stored ").to_vec(),
        server_key: seed(b"server ").to_vec(),
    };
    Found { known: verifier.into(), real: false }
}

/// Key of the fake salts: random per process, so that they cannot be told from real ones.
fn fake_key() -> &'static [u8; 32] {
    static FAKE: OnceLock<[u8; 32]> = OnceLock::new();
    FAKE.get_or_init(|| {
        let mut key = [0; 32];
        scram::random(&mut key).expect("the system's random number source works");
        key
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_looks_like_a_known_one() {
        let none = |_: &str| None;
        let first = find_or_fake(&none, "ghost", Role::Worker);
        let second = find_or_fake(&none, "ghost", Role::Worker);
        let other = find_or_fake(&none, "phantom", Role::Worker);
        assert!(!first.real);
        assert_eq!(first.challenge(), second.challenge());
        assert_ne!(first.challenge().salt, other.challenge().salt);
        let secret = Secret::generate().unwrap();
        let known = make_verifier(&secret, "worker", Role::Worker, 1);
        assert_eq!(known.salt.len(), first.challenge().salt.len());
        assert_eq!(known.iterations, MIN_ITERATIONS);
        assert_ne!(make_verifier(&secret, "worker", Role::Worker, 4096).salt, known.salt);
    }
}
