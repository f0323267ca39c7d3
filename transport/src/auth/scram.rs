//! The arithmetic of SCRAM-SHA-256 (RFC 5802 §3, RFC 7677) over a transcript of ours.
//!
//! Pure but for random numbers. Comparison of anything derived from a secret takes the same time whatever it finds.

mod turned;

pub(crate) use turned::{call_proof, check_answer};

use longshore_wire::credential::Verifier;
use ring::rand::SecureRandom as _;
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Bytes of every key and proof.
pub(crate) const KEY: usize = 32;
/// In front of every transcript, so that a proof made here means nothing to another protocol, nor the other way round.
const LABEL: &[u8] = b"longshore-v1";

/// Fills a buffer with random bytes.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), ring::error::Unspecified> {
    ring::rand::SystemRandom::new().fill(bytes)
}

/// HMAC-SHA-256.
pub(super) fn mac(key: &[u8], data: &[u8]) -> [u8; KEY] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    let mut bytes = [0; KEY];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

fn sha256(data: &[u8]) -> [u8; KEY] {
    let mut bytes = [0; KEY];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    bytes
}

fn xor(a: &[u8; KEY], b: &[u8; KEY]) -> Zeroizing<[u8; KEY]> {
    let mut bytes = Zeroizing::new(*a);
    bytes.iter_mut().zip(b).for_each(|(byte, other)| *byte ^= other);
    bytes
}

/// What follows from a secret, a salt and a number of rounds.
pub(crate) struct Keys {
    client: Zeroizing<[u8; KEY]>,
    pub(super) stored: Zeroizing<[u8; KEY]>,
    pub(super) server: Zeroizing<[u8; KEY]>,
}

impl Keys {
    /// Derives; takes as long as the rounds want, so never on a runtime's thread.
    pub(in crate::auth) fn derive(secret: &[u8], salt: &[u8], iterations: u32) -> Self {
        let mut salted = Zeroizing::new([0; KEY]);
        let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, secret, salted.as_mut_slice());
        let client = Zeroizing::new(mac(&*salted, b"Client Key"));
        let stored = Zeroizing::new(sha256(&*client));
        Self { stored, client, server: Zeroizing::new(mac(&*salted, b"Server Key")) }
    }

    /// The dialler's proof: the client key, covered by a signature that only a holder of the stored key can lift.
    pub(crate) fn client_proof(&self, transcript: &Transcript<'_>) -> Vec<u8> {
        xor(&self.client, &mac(&*self.stored, &transcript.of(Signed::Dialler))).to_vec()
    }

    /// Whether the acceptor knows the server key.
    pub(crate) fn check_server(&self, transcript: &Transcript<'_>, proof: &[u8]) -> bool {
        mac(&*self.server, &transcript.of(Signed::Acceptor)).ct_eq(proof).into()
    }
}

/// Whether the dialler knows the client key behind this verifier.
pub(crate) fn check_client(verifier: &Verifier, transcript: &Transcript<'_>, proof: &[u8]) -> bool {
    let Ok(proof) = <&[u8; KEY]>::try_from(proof) else { return false };
    let client = xor(proof, &mac(&verifier.stored_key, &transcript.of(Signed::Dialler)));
    sha256(&*client).ct_eq(&verifier.stored_key).into()
}

/// The acceptor's proof.
pub(crate) fn server_proof(verifier: &Verifier, transcript: &Transcript<'_>) -> Vec<u8> {
    mac(&verifier.server_key, &transcript.of(Signed::Acceptor)).to_vec()
}

/// Who makes a proof. Each direction has its own label, so that no proof can be sent back to its maker.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signed {
    /// The dialler's proof.
    Dialler,
    /// The acceptor's proof.
    Acceptor,
    /// The proof of a control node that dials a worker.
    Caller,
    /// The proof of a worker that was dialled.
    Answerer,
}

/// All that both sides must have seen alike: the raw bytes of the first two messages and, where the proof is bound to
/// TLS, the exporter of that very connection.
#[derive(Clone, Copy)]
pub(crate) struct Transcript<'a> {
    /// Raw bytes of the first message.
    pub(crate) hello: &'a [u8],
    /// Raw bytes of the second message.
    pub(crate) challenge: &'a [u8],
    /// The TLS exporter, or nothing.
    pub(crate) exporter: &'a [u8],
}

impl Transcript<'_> {
    /// Every part has its length in front: two different transcripts never give the same bytes.
    fn of(&self, signed: Signed) -> Vec<u8> {
        let direction: &[u8] = match signed {
            Signed::Dialler => b"dialler proves",
            Signed::Acceptor => b"acceptor proves",
            Signed::Caller => b"control node calls",
            Signed::Answerer => b"worker answers",
        };
        let parts = [LABEL, direction, self.hello, self.challenge, self.exporter];
        let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
        for part in parts {
            let length = u32::try_from(part.len()).expect("messages are limited to a few KiB");
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::auth::{Secret, verifier_with};
    use longshore_wire::Role;

    /// What both sides know of a secret.
    pub(in crate::auth) fn keys_and_verifier(secret: &[u8], salt: &[u8]) -> (Keys, Verifier) {
        let held = Secret::from_bytes(secret).unwrap();
        (Keys::derive(secret, salt, 4096), verifier_with(&held, "worker", Role::Worker, salt.to_vec(), 4096))
    }

    /// The example of RFC 7677 §3: user "user", password "pencil".
    #[test]
    fn keys_of_rfc_7677() {
        let salt = [0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81];
        let keys = Keys::derive(b"pencil", &salt, 4096);
        let auth = b"n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let proof = xor(&keys.client, &mac(&*keys.stored, auth));
        // p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ= and v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=
        assert_eq!(hex(&*proof), "747cdb65aa56224e2352137e52d7bdcad6a0f738df30782caa69a2cfb0277554");
        assert_eq!(hex(&mac(&*keys.server, auth)), "eabae24d1062db75a9451ff0b6ea7e98c8546549ff741e672d3251b2397de46e");
    }

    /// Part of the protocol: a change here needs a new protocol version.
    #[test]
    fn golden_transcript() {
        let transcript = Transcript { hello: b"H", challenge: b"CC", exporter: b"" };
        let framed = b"\0\0\0\x01H\0\0\0\x02CC\0\0\0\0";
        let dialler = [b"\0\0\0\x0clongshore-v1\0\0\0\x0edialler proves", &framed[..]].concat();
        assert_eq!(transcript.of(Signed::Dialler), dialler);
        let acceptor = [b"\0\0\0\x0clongshore-v1\0\0\0\x0facceptor proves", &framed[..]].concat();
        assert_eq!(transcript.of(Signed::Acceptor), acceptor);
    }

    #[test]
    fn proofs_hold_for_their_own_transcript_only() {
        let (keys, verifier) = keys_and_verifier(b"a secret of enough bytes", b"salt");
        let transcript = Transcript { hello: b"hello", challenge: b"challenge", exporter: b"" };
        let proof = keys.client_proof(&transcript);
        assert!(check_client(&verifier, &transcript, &proof));
        assert!(keys.check_server(&transcript, &server_proof(&verifier, &transcript)));
        assert!(!keys.check_server(&transcript, &proof), "a proof sent back to its maker");
        for other in [
            Transcript { hello: b"hell", challenge: b"ochallenge", exporter: b"" },
            Transcript { exporter: b"x", ..transcript },
            Transcript { challenge: b"challenge2", ..transcript },
        ] {
            assert!(!check_client(&verifier, &other, &proof));
            assert!(!keys.check_server(&other, &server_proof(&verifier, &transcript)));
        }
        assert!(!check_client(&verifier, &transcript, &proof[1..]));
        assert!(!keys.check_server(&transcript, b""));
    }
}
