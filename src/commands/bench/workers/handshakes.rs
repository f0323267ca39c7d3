//! What a handshake costs without anything behind it: connecting, TLS, WebSocket, proof, both sides in this process.

use super::super::bare;
use super::super::children::CLUSTER;
use super::super::process;
use crate::RELEASE;
use longshore_transport::{Identity, Keyring, Secret, dial, make_verifier, prove, verify};
use longshore_wire::credential::MIN_ITERATIONS;
use longshore_wire::{NodeId, Role, Transport};
use std::net::Ipv4Addr;
use std::time::Duration;

/// So many are enough to know the cost of one.
pub(super) const MOST: u32 = 500;

/// Processor time of one handshake.
pub(super) async fn measure(transport: Transport, count: u32) -> anyhow::Result<Duration> {
    let secret = Secret::generate()?;
    let credential = Role::Worker.name();
    let verifier = make_verifier(&secret, credential, Role::Worker, MIN_ITERATIONS);
    let verifiers = |name: &str| (name == verifier.credential).then(|| verifier.clone());
    let keyring = Keyring::new(secret, credential.to_owned());
    let listener = bare::listen(transport, Ipv4Addr::LOCALHOST.into()).await?;
    let control = Identity::new(NodeId::from_u128(1), Role::Control, CLUSTER, RELEASE);
    let worker = Identity::new(NodeId::from_u128(2), Role::Worker, CLUSTER, RELEASE);
    let endpoint = bare::endpoint(transport, listener.local_addr());
    let mut dials = Vec::new();
    for _ in 0..=count {
        dials.push(bare::dial_options()?);
    }
    let mut begun = Duration::ZERO;
    for (number, options) in dials.iter().enumerate() {
        if number == 1 {
            // The first one has derived the keys, which a worker does once in its life.
            begun = process::cpu(std::process::id())?;
        }
        let accepted =
            async { anyhow::Ok(verify(listener.accept().await?.upgrade().await?, &control, &verifiers).await?) };
        let dialled =
            async { anyhow::Ok(prove(dial(&endpoint, options).await?, &worker, &keyring, Role::Control).await?) };
        let (_accepted, _dialled) = tokio::try_join!(accepted, dialled)?;
    }
    Ok((process::cpu(std::process::id())? - begun) / count)
}
