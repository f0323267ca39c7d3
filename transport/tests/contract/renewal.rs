//! Certificates replaced under a running node: what stands is not touched, what is new sees the new one, and a broken file
//! changes nothing.

use crate::harness::{accept, endpoint, listen_with, soon};
use crate::trust::{Ca, with_ca, with_pin};
use longshore_transport::{ClientTls, DialError, DialOptions, Link, Listener, When, dial};
use longshore_wire::Transport;
use std::path::Path;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Dials the listener with these roots or pins.
async fn meet(listener: &Listener, client: &ClientTls) -> Result<(Link, Link), DialError> {
    let target = endpoint(Transport::Tls, listener.local_addr());
    let options = DialOptions::new(client.clone());
    soon(async {
        let (dialled, accepted) =
            tokio::join!(dial(&target, &options), async { listener.accept().await.unwrap().upgrade().await });
        // A dialler that refuses a certificate makes the acceptor's upgrade fail as well.
        dialled.map(|link| (link, accepted.unwrap()))
    })
    .await
}

async fn talks(pair: &mut (Link, Link)) {
    pair.1.io.write_all(b"x").await.unwrap();
    pair.1.io.flush().await.unwrap();
    let mut heard = [0];
    soon(pair.0.io.read_exact(&mut heard)).await.unwrap();
}

/// Puts the files of `from` in the place of those of `to`, as a renewal does.
fn replace(to: &Ca, from: &Ca, names: &[&str]) {
    for name in names {
        let beside = to.file("new");
        std::fs::copy(from.file(name), &beside).unwrap();
        std::fs::rename(beside, to.file(name)).unwrap();
    }
}

#[tokio::test]
async fn a_listener_shows_the_new_certificate_and_keeps_its_connections() {
    let (ca, renewed) = (Ca::new(), Ca::new());
    let (old, new) = (with_pin(&ca.file("cert.pem")), with_pin(&renewed.file("cert.pem")));
    let server = ca.server();
    let listener = listen_with(Transport::Tls, server.clone()).await;
    let mut standing = meet(&listener, &old).await.unwrap();
    assert!(!server.reload(When::Changed).unwrap(), "nothing has changed");

    // The certificate alone does not go with the key.
    replace(&ca, &renewed, &["cert.pem"]);
    let error = server.reload(When::Changed).unwrap_err().to_string();
    assert!(error.contains("cert.pem"), "{error}");
    assert!(!server.reload(When::Changed).unwrap(), "one change is complained of once");
    assert!(server.reload(When::Now).is_err(), "unless asked");
    meet(&listener, &with_ca(&ca.file("ca.pem"))).await.unwrap();

    replace(&ca, &renewed, &["key.pem"]);
    assert!(server.reload(When::Changed).unwrap());
    meet(&listener, &new).await.unwrap();
    let refused = meet(&listener, &with_ca(&ca.file("ca.pem"))).await;
    assert!(matches!(refused, Err(DialError::Tls { .. })), "the old one is shown no more: {refused:?}");
    talks(&mut standing).await;
}

#[tokio::test]
async fn a_dialler_takes_new_roots_and_pins_and_keeps_its_connections() {
    let (ca, renewed) = (Ca::new(), Ca::new());
    for (client, name) in [(with_ca(&ca.file("ca.pem")), "ca.pem"), (with_pin(&ca.file("cert.pem")), "cert.pem")] {
        let before = listen_with(Transport::Tls, ca.server()).await;
        let after = listen_with(Transport::Tls, renewed.server()).await;
        let kept = std::fs::read(ca.file(name)).unwrap();
        let mut standing = meet(&before, &client).await.unwrap();
        assert!(meet(&after, &client).await.is_err());

        std::fs::write(ca.file(name), "no certificate").unwrap();
        let error = client.reload(When::Changed).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        meet(&before, &client).await.unwrap();

        replace(&ca, &renewed, &[name]);
        assert!(client.reload(When::Changed).unwrap());
        meet(&after, &client).await.unwrap();
        assert!(meet(&before, &client).await.is_err(), "a session of before does not get past the new {name}");
        talks(&mut standing).await;
        std::fs::write(ca.file(name), kept).unwrap();
    }
}

#[tokio::test]
async fn an_own_certificate_can_be_replaced_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["localhost".to_owned()];
    let server = longshore_transport::ServerTls::self_signed(&names, Some(dir.path())).unwrap();
    let renewed = Ca::new();
    let put = |from: &str, to: &str| std::fs::copy(renewed.file(from), Path::new(dir.path()).join(to)).unwrap();
    put("cert.pem", "tls.crt");
    put("key.pem", "tls.key");
    assert!(server.reload(When::Changed).unwrap());
    let listener = listen_with(Transport::Tls, server).await;
    let target = endpoint(Transport::Tls, listener.local_addr());
    let options = DialOptions::new(with_pin(&renewed.file("cert.pem")));
    let (dialled, _accepted) = soon(async { tokio::join!(dial(&target, &options), accept(&listener)) }).await;
    dialled.unwrap();
}
