//! Secrets, what is derived from them, and the proof of RFC 5802/7677 (SCRAM-SHA-256) over a transcript of ours.
//!
//! ```text
//! secret ─PBKDF2─▶ salted ─┬─HMAC "Client Key"─▶ client key ─SHA-256─▶ stored key ┐
//!                          └─HMAC "Server Key"─▶ server key ──────────────────────┴─▶ Verifier
//! ```
//!
//! The dialler holds the secret, the acceptor only the verifier. Nothing here does IO beside reading a secret's file, also
//! again once it has changed, and
//! no type here shows a secret in its `Debug`.

mod keyring;
mod scram;
mod secret;
#[cfg(test)]
mod vectors;
mod verifier;

pub use keyring::Keyring;
pub use secret::{Secret, SecretError};
pub use verifier::{Known, KnownSecret, Verifiers, make_verifier, verifier_with};

pub(crate) use scram::{Transcript, call_proof, check_answer, check_client, random, server_proof};
pub(crate) use verifier::{Found, find_or_fake};
