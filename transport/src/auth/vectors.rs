//! The worked example of docs/protocol.md: computed here, and compared with what stands there.

use super::scram::tests::keys_and_verifier;
use super::scram::{Transcript, check_client, server_proof};
use longshore_wire::handshake::{Binding, Challenge, FromAcceptor, FromDialler, Hello};
use longshore_wire::{ClusterId, NodeId, Role};
use std::fmt::Write as _;

const DOCUMENT: &str = include_str!("../../../docs/protocol.md");
/// Hexadecimal digits on a line of the document.
const WIDTH: usize = 96;
const SECRET: &str = "correct horse battery staple";

fn hello() -> Vec<u8> {
    longshore_wire::encode(&FromDialler::Hello(Hello {
        versions: (1, 2),
        node: NodeId::from_u128(0x0192_3c1a_5a5a_0000_0000_0000_0000_0002),
        role: Role::Worker,
        peer_role: Role::Control,
        cluster: "prod".to_owned(),
        cluster_id: None,
        credential: "worker".to_owned(),
        binding: Binding::None,
        nonce: (0x20..0x40).collect(),
        release: "0.1.0".to_owned(),
    }))
}

fn challenge(salt: &[u8]) -> Vec<u8> {
    longshore_wire::encode(&FromAcceptor::Challenge(Challenge {
        version: 1,
        node: NodeId::from_u128(0x0192_3c1a_5a5a_0000_0000_0000_0000_0001),
        role: Role::Control,
        cluster: "prod".to_owned(),
        cluster_id: Some(ClusterId::from_u128(0x0192_3c1a_5a5a_0000_0000_0000_0000_0009)),
        nonce: (0x40..0x60).collect(),
        salt: salt.to_vec(),
        iterations: 4096,
        release: "0.1.0".to_owned(),
    }))
}

fn line(out: &mut String, name: &str, bytes: &[u8]) {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut rest = hex.as_str();
    let mut front = format!("{name} =");
    loop {
        let (now, later) = rest.split_at(rest.len().min(WIDTH));
        writeln!(out, "{front} {now}").unwrap();
        if later.is_empty() {
            return;
        }
        (rest, front) = (later, " ".to_owned());
    }
}

fn example() -> String {
    let salt: Vec<u8> = (0..16).collect();
    let (keys, verifier) = keys_and_verifier(SECRET.as_bytes(), &salt);
    let (hello, challenge) = (hello(), challenge(&salt));
    let mut out = String::new();
    line(&mut out, "salt", &salt);
    line(&mut out, "stored key", &*keys.stored);
    line(&mut out, "server key", &*keys.server);
    line(&mut out, "hello", &hello);
    line(&mut out, "challenge", &challenge);
    for (name, exporter) in [("", Vec::new()), (" bound", (0x60..0x80).collect::<Vec<u8>>())] {
        let transcript = Transcript { hello: &hello, challenge: &challenge, exporter: &exporter };
        let proof = keys.client_proof(&transcript);
        assert!(check_client(&verifier, &transcript, &proof));
        line(&mut out, &format!("dialler's proof{name}"), &proof);
        line(&mut out, &format!("acceptor's proof{name}"), &server_proof(&verifier, &transcript));
    }
    out
}

#[test]
fn the_document_has_the_right_numbers() {
    let start = DOCUMENT.find("```vectors\n").expect("the block") + "```vectors\n".len();
    let length = DOCUMENT[start..].find("```").expect("its end");
    let (written, computed) = (&DOCUMENT[start..start + length], example());
    assert_eq!(written, computed, "docs/protocol.md should say:\n{computed}");
    assert!(DOCUMENT.contains(SECRET));
}
