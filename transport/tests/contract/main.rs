//! The contract of this crate: the same tests over every carrier, and what an attacker on the line can and cannot do.
#![allow(clippy::unwrap_used)]

/// Runs each test over every carrier.
macro_rules! on_every_carrier {
    ($($test:ident),+ $(,)?) => {
        on_every_carrier!(@ memory Memory, $($test)+);
        on_every_carrier!(@ tcp Tcp, $($test)+);
        on_every_carrier!(@ tls Tls, $($test)+);
        on_every_carrier!(@ ws Ws, $($test)+);
        on_every_carrier!(@ wss Wss, $($test)+);
        on_every_carrier!(@ quic Quic, $($test)+);
    };
    (@ $module:ident $carrier:ident, $($test:ident)+) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    crate::harness::soon(super::$test(longshore_transport::Carrier::$carrier)).await;
                }
            )+
        }
    };
}

mod attacks;
mod handshake;
mod harness;
mod lossy;
mod middle;
mod proxy;
mod quic;
mod race;
mod relay;
mod renewal;
mod resumption;
mod reverse;
mod session;
mod sockets;
mod stages;
mod stream;
mod tls12;
mod trust;
mod versions;
mod websocket;
