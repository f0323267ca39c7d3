//! A runtime for each thread, a cluster of two, and a way to run a conversation that waits for nobody.

use longshore_transport::{Identity, Keyring, Link, Proven, Secret, make_verifier, memory_pair, prove, verify};
use longshore_wire::credential::{MIN_ITERATIONS, Verifier};
use longshore_wire::{NodeId, Role};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Runtime;

/// What both sides know.
pub(crate) struct Town {
    pub(crate) runtime: Runtime,
    pub(crate) control: Identity,
    pub(crate) worker: Identity,
    pub(crate) keyring: Keyring,
    pub(crate) verifier: Verifier,
}

thread_local! {
    static TOWN: Town = Town::build();
}

/// Runs `visit` with this thread's town.
pub(crate) fn with_town<T>(visit: impl FnOnce(&Town) -> T) -> T {
    TOWN.with(|town| {
        let _inside = town.runtime.enter();
        visit(town)
    })
}

impl Town {
    fn build() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let secret = Secret::from_bytes(b"a secret for the fuzzer only").expect("long enough");
        let verifier = make_verifier(&secret, "worker", Role::Worker, MIN_ITERATIONS);
        let identity = |number, role| Identity::new(NodeId::from_u128(number), role, "prod", "1.2.3");
        let town = Self {
            runtime,
            control: identity(1, Role::Control),
            worker: identity(2, Role::Worker),
            keyring: Keyring::new(secret, "worker".to_owned()),
            verifier,
        };
        // The keys are derived once, here, and no stranger's salt drives them out: later nothing waits for another thread.
        assert!(town.meets_honestly(), "the honest way works");
        town
    }

    /// Whether both nodes prove themselves when nobody is between them. It waits for the keys.
    fn meets_honestly(&self) -> bool {
        self.runtime.block_on(async {
            let (a, b) = memory_pair();
            let (dialled, accepted) = tokio::join!(self.dial(a), self.accept(b));
            dialled.is_ok() && accepted.is_ok()
        })
    }

    pub(crate) async fn dial(&self, link: Link) -> Result<Proven, longshore_transport::HandshakeError> {
        prove(link, &self.worker, &self.keyring, Role::Control).await
    }

    pub(crate) async fn accept(&self, link: Link) -> Result<Proven, longshore_transport::HandshakeError> {
        let find = |name: &str| (name == "worker").then(|| self.verifier.clone());
        verify(link, &self.control, &find).await
    }
}

/// A link from which exactly these bytes come.
pub(crate) fn fed(town: &Town, data: &[u8]) -> (Link, Link) {
    let (link, mut other) = memory_pair();
    town.runtime.block_on(async {
        let fits = &data[..data.len().min(60 * 1024)];
        other.io.write_all(fits).await.expect("the buffer holds it");
        other.io.shutdown().await.expect("memory can be shut down");
    });
    (link, other)
}

/// Polls until it is done, or until it waits: for a clock, or for bytes that never come.
pub(crate) fn drive<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..16 {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Some(value);
        }
    }
    None
}
