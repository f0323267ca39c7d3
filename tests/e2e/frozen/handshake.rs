//! FROZEN, never to be changed: the handshake of version 1: the dialler's side over every carrier, the acceptor's over
//! plain TCP.

use super::carrier::{Carrier, Line, connect};
use super::messages::{Challenge, FromAcceptor, FromDialler, Hello, Proof, decode, encode};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use serde_bytes::ByteBuf;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU32;
use std::time::Duration;

/// Largest handshake message.
const MAX_MESSAGE: usize = 4096;
/// Time for a handshake.
const DEADLINE: Duration = Duration::from_secs(5);
/// Rounds of the frozen control node's credential: the fewest that are allowed.
const ROUNDS: u32 = 4096;

/// Who proves itself, and with what.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(crate) node: String,
    pub(crate) role: &'static str,
    pub(crate) credential: &'static str,
    pub(crate) cluster: String,
    pub(crate) secret: String,
}

/// Proves itself to a control node; gives the connection, behind which the session begins.
pub(crate) fn dial(address: SocketAddr, who: &Who) -> Result<TcpStream, String> {
    dial_over(Carrier::Tcp, address, who)
}

/// As [`dial`], over this carrier.
pub(crate) fn dial_over(carrier: Carrier, address: SocketAddr, who: &Who) -> Result<TcpStream, String> {
    let Line { stream, exporter } = connect(carrier, address).map_err(|error| error.to_string())?;
    let mut stream = open(Ok(stream)).map_err(|error| error.to_string())?;
    let hello = encode(&FromDialler::Hello(Hello {
        versions: (1, 1),
        node: who.node.clone(),
        role: who.role.to_owned(),
        peer_role: "control".to_owned(),
        cluster: who.cluster.clone(),
        cluster_id: None,
        credential: who.credential.to_owned(),
        binding: if exporter.is_some() { "tls_exporter" } else { "none" }.to_owned(),
        nonce: nonce(),
        release: "0.1.0".to_owned(),
    }));
    write(&mut stream, &hello);
    let raw = read(&mut stream)?;
    let challenge = match decode(&raw)? {
        FromAcceptor::Challenge(challenge) => challenge,
        other => return Err(format!("no challenge but {other:?}")),
    };
    let same = (challenge.version, challenge.role.as_str(), challenge.cluster.as_str());
    assert_eq!(same, (1, "control", who.cluster.as_str()), "the newest version that both speak is 1");
    assert!(challenge.nonce.len() == 32 && (8..=64).contains(&challenge.salt.len()));
    let bound = exporter.map_or_else(Vec::new, Vec::from);
    let keys = Keys { bound, ..Keys::of(&who.secret, &challenge.salt, challenge.iterations) };
    write(&mut stream, &encode(&FromDialler::Proof(Proof { proof: keys.dialler(&hello, &raw) })));
    match decode(&read(&mut stream)?)? {
        FromAcceptor::Welcome(welcome) => {
            assert_eq!(welcome.proof, keys.acceptor(&hello, &raw), "the acceptor has proven nothing");
            stream.set_read_timeout(None).unwrap();
            Ok(stream)
        }
        other => Err(format!("no welcome but {other:?}")),
    }
}

/// Lets a peer with this secret prove itself; gives the connection, and who it said it was.
pub(crate) fn accept(stream: TcpStream, me: &Who) -> Result<(TcpStream, Hello), String> {
    let mut stream = open(Ok(stream)).map_err(|error| error.to_string())?;
    let said = read(&mut stream)?;
    let FromDialler::Hello(hello) = decode(&said)? else { return Err("no hello".to_owned()) };
    assert!(hello.versions.0 <= 1 && hello.versions.1 >= 1, "version 1 is not spoken any more: {:?}", hello.versions);
    assert_eq!((hello.peer_role.as_str(), &hello.cluster), ("control", &me.cluster));
    assert!(hello.nonce.len() == 32 && hello.binding == "none");
    let salt = nonce();
    let challenge = encode(&FromAcceptor::Challenge(Challenge {
        version: 1,
        node: me.node.clone(),
        role: me.role.to_owned(),
        cluster: me.cluster.clone(),
        cluster_id: None,
        nonce: nonce(),
        salt: salt.clone(),
        iterations: ROUNDS,
        release: "0.1.0".to_owned(),
    }));
    write(&mut stream, &challenge);
    let FromDialler::Proof(proof) = decode(&read(&mut stream)?)? else { return Err("no proof".to_owned()) };
    let keys = Keys::of(&me.secret, &salt, ROUNDS);
    if proof.proof != keys.dialler(&said, &challenge) {
        return Err("the dialler's proof is wrong".to_owned());
    }
    write(&mut stream, &encode(&FromAcceptor::Welcome(Proof { proof: keys.acceptor(&said, &challenge) })));
    stream.set_read_timeout(None).unwrap();
    Ok((stream, hello))
}

fn open(stream: io::Result<TcpStream>) -> io::Result<TcpStream> {
    let stream = stream?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

pub(crate) fn nonce() -> ByteBuf {
    let mut bytes = vec![0; 32];
    SystemRandom::new().fill(&mut bytes).unwrap();
    ByteBuf::from(bytes)
}

fn write(stream: &mut TcpStream, body: &[u8]) {
    assert!(body.len() <= MAX_MESSAGE);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    // Who has closed has said why before: that is found by reading.
    let _ = stream.write_all(&[&length, body].concat());
}

fn read(stream: &mut TcpStream) -> Result<Vec<u8>, String> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).map_err(|error| error.to_string())?;
    let length = u32::from_be_bytes(length) as usize;
    assert!(length <= MAX_MESSAGE, "a handshake message of {length} bytes");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).map_err(|error| error.to_string())?;
    Ok(body)
}

/// What follows from a secret: SCRAM-SHA-256 over the transcript.
struct Keys {
    client: [u8; 32],
    server: [u8; 32],
    /// The exporter of TLS; nothing over plain TCP.
    bound: Vec<u8>,
}

impl Keys {
    fn of(secret: &str, salt: &[u8], rounds: u32) -> Self {
        let mut salted = [0; 32];
        let rounds = NonZeroU32::new(rounds).unwrap();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, secret.as_bytes(), &mut salted);
        Self { client: mac(&salted, b"Client Key"), server: mac(&salted, b"Server Key"), bound: Vec::new() }
    }

    fn dialler(&self, hello: &[u8], challenge: &[u8]) -> ByteBuf {
        let stored = digest::digest(&digest::SHA256, &self.client);
        let signature = mac(stored.as_ref(), &self.signed(b"dialler proves", hello, challenge));
        ByteBuf::from(self.client.iter().zip(signature).map(|(a, b)| a ^ b).collect::<Vec<u8>>())
    }

    fn acceptor(&self, hello: &[u8], challenge: &[u8]) -> ByteBuf {
        ByteBuf::from(mac(&self.server, &self.signed(b"acceptor proves", hello, challenge)))
    }

    fn signed(&self, by: &[u8], hello: &[u8], challenge: &[u8]) -> Vec<u8> {
        let parts: [&[u8]; 5] = [b"longshore-v1", by, hello, challenge, &self.bound];
        let part = |part: &&[u8]| [&u32::try_from(part.len()).unwrap().to_be_bytes(), *part].concat();
        parts.iter().flat_map(part).collect()
    }
}

fn mac(key: &[u8], data: &[u8]) -> [u8; 32] {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().try_into().unwrap()
}
