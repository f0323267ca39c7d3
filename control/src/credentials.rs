//! Credentials at work: what handshakes check, and which sessions a rotation or a revocation ends.
//!
//! Owns no credential: they stand in the replicated state.

use longshore_state::{Credential, Holder};
use longshore_transport::{Known, KnownSecret};

/// What a handshake needs of a credential.
pub(crate) fn known(credential: &Credential) -> Known {
    let secret = |secret: &longshore_state::StoredSecret| KnownSecret {
        number: secret.number,
        verifier: secret.verifier.clone(),
        retired: secret.retired_ms.is_some(),
    };
    Known {
        secrets: credential.secrets.iter().map(secret).collect(),
        node: match &credential.holder {
            Some(Holder::Node(node)) => Some(*node),
            Some(Holder::Awaited(_)) | None => None,
        },
        revoked: credential.revoked_ms.is_some(),
    }
}
