//! Pairs of links, and a small cluster's identities and secrets.

use longshore_transport::{
    Admission, Carrier, ClientTls, ClientTlsOptions, DialOptions, HandshakeError, Identity, Keyring, Link,
    ListenOptions, Listener, Proven, Secret, ServerTls, dial, make_verifier, memory_pair, prove, verify,
};
use longshore_wire::credential::Verifier;
use longshore_wire::uri::DEFAULT_WS_PATH;
use longshore_wire::{Endpoint, NodeId, Role, Transport};
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

/// A test that hangs has failed.
pub(crate) async fn soon<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test ends in time")
}

pub(crate) fn client_tls() -> ClientTls {
    ClientTls::new(ClientTlsOptions::default()).unwrap()
}

pub(crate) fn server_tls() -> ServerTls {
    ServerTls::self_signed(&["localhost".to_owned()], None).unwrap()
}

pub(crate) fn endpoint(transport: Transport, address: SocketAddr) -> Endpoint {
    let (host, path) = ("localhost".to_owned(), DEFAULT_WS_PATH.to_owned());
    Endpoint { transport, address, host, path, tls_verify: None }
}

pub(crate) async fn listen_with(transport: Transport, tls: ServerTls) -> Listener {
    let bind = "127.0.0.1:0".parse().unwrap();
    let path = DEFAULT_WS_PATH.to_owned();
    Listener::bind(ListenOptions { transport, bind, path, tls: Some(tls), admission: Admission::default() })
        .await
        .unwrap()
}

pub(crate) async fn listen(transport: Transport) -> Listener {
    listen_with(transport, server_tls()).await
}

/// Accepts one connection and upgrades it.
pub(crate) async fn accept(listener: &Listener) -> Link {
    listener.accept().await.unwrap().upgrade().await.unwrap()
}

pub(crate) fn transport_of(carrier: Carrier) -> Option<Transport> {
    Transport::ALL.into_iter().find(|transport| Carrier::from(*transport) == carrier)
}

/// The dialler's and the acceptor's end of one link.
pub(crate) async fn pair(carrier: Carrier) -> (Link, Link) {
    let Some(transport) = transport_of(carrier) else { return memory_pair() };
    let listener = listen(transport).await;
    let endpoint = endpoint(transport, listener.local_addr());
    let options = DialOptions::new(client_tls());
    let (dialled, accepted) = tokio::join!(dial(&endpoint, &options), accept(&listener));
    (dialled.unwrap(), accepted)
}

/// The secrets of a cluster `prod`, and what its control nodes know of them.
pub(crate) struct Cluster {
    pub(crate) worker: Secret,
    pub(crate) control: Secret,
    pub(crate) verifiers: Vec<Verifier>,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let (worker, control) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        let verifiers = vec![
            make_verifier(&worker, "worker", Role::Worker, 4096),
            make_verifier(&control, "control", Role::Control, 4096),
        ];
        Self { worker, control, verifiers }
    }

    /// What a worker of this cluster dials with.
    pub(crate) fn dialler(&self) -> Dialler {
        Dialler {
            me: identity(2, Role::Worker),
            keyring: Keyring::new(self.worker.clone(), "worker".to_owned()),
            expect: Role::Control,
        }
    }

    /// A control node's side of the handshake.
    pub(crate) async fn accept(&self, link: Link) -> Result<Proven, HandshakeError> {
        self.accept_as(link, &identity(1, Role::Control)).await
    }

    pub(crate) async fn accept_as(&self, link: Link, me: &Identity) -> Result<Proven, HandshakeError> {
        let find = |name: &str| self.verifiers.iter().find(|verifier| verifier.credential == name).cloned();
        verify(link, me, &find).await
    }

    /// Both sides' results.
    pub(crate) async fn meet(&self, dialler: &Dialler, links: (Link, Link)) -> (Outcome, Outcome) {
        tokio::join!(dialler.prove(links.0), self.accept(links.1))
    }
}

pub(crate) type Outcome = Result<Proven, HandshakeError>;

pub(crate) struct Dialler {
    pub(crate) me: Identity,
    pub(crate) keyring: Keyring,
    pub(crate) expect: Role,
}

impl Dialler {
    pub(crate) async fn prove(&self, link: Link) -> Outcome {
        prove(link, &self.me, &self.keyring, self.expect).await
    }
}

pub(crate) fn identity(number: u128, role: Role) -> Identity {
    Identity::new(NodeId::from_u128(number), role, "prod", "1.2.3")
}
