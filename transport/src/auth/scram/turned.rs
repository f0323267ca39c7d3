//! The same arithmetic turned around, for a control node that dials a worker: the dialler knows only the verifier and signs
//! with the server key; the worker answers with the client proof. Labels of their own keep the two directions apart.

use super::{KEY, Keys, Signed, Transcript, mac, sha256, xor};
use longshore_wire::credential::Verifier;
use subtle::ConstantTimeEq as _;

/// The control node's proof.
pub(crate) fn call_proof(verifier: &Verifier, transcript: &Transcript<'_>) -> Vec<u8> {
    mac(&verifier.server_key, &transcript.of(Signed::Caller)).to_vec()
}

/// Whether the worker knows the client key behind this verifier.
pub(crate) fn check_answer(verifier: &Verifier, transcript: &Transcript<'_>, proof: &[u8]) -> bool {
    let Ok(proof) = <&[u8; KEY]>::try_from(proof) else { return false };
    let client = xor(proof, &mac(&verifier.stored_key, &transcript.of(Signed::Answerer)));
    sha256(&*client).ct_eq(&verifier.stored_key).into()
}

impl Keys {
    /// Whether the control node knows the server key.
    pub(crate) fn check_call(&self, transcript: &Transcript<'_>, proof: &[u8]) -> bool {
        mac(&*self.server, &transcript.of(Signed::Caller)).ct_eq(proof).into()
    }

    /// The worker's proof.
    pub(crate) fn answer_proof(&self, transcript: &Transcript<'_>) -> Vec<u8> {
        xor(&self.client, &mac(&*self.stored, &transcript.of(Signed::Answerer))).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::keys_and_verifier;
    use super::super::{check_client, server_proof};
    use super::*;

    #[test]
    fn no_proof_of_one_direction_means_anything_in_the_other() {
        let (keys, verifier) = keys_and_verifier(b"a secret of enough bytes", b"salt");
        let transcript = Transcript { hello: b"hello", challenge: b"present", exporter: b"" };
        let (call, answer) = (call_proof(&verifier, &transcript), keys.answer_proof(&transcript));
        assert!(keys.check_call(&transcript, &call) && check_answer(&verifier, &transcript, &answer));
        assert!(!keys.check_call(&transcript, &server_proof(&verifier, &transcript)));
        assert!(!keys.check_server(&transcript, &call));
        assert!(!check_client(&verifier, &transcript, &answer));
        assert!(!check_answer(&verifier, &transcript, &keys.client_proof(&transcript)));
        assert!(!keys.check_call(&transcript, &answer) && !check_answer(&verifier, &transcript, &call));
        let other = Transcript { exporter: b"x", ..transcript };
        assert!(!keys.check_call(&other, &call) && !check_answer(&verifier, &other, &answer));
    }
}
