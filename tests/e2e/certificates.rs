//! Certificates: replaced under a running node, vouched for by the system's store, and old TLS turned away.

use crate::boxes::{Authority, Middlebox, installed};
use crate::middlebox::{arrivals, doctor, worker, works};
use crate::process::{Process, wait_for};
use crate::single::Single;
use rustix::process::Signal;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A control node with a certificate of a CA, for its address.
fn certified(authority: &Authority) -> Single {
    Single::start_with(|folder, ip| {
        authority.issue(&ip.to_string(), &folder.join("node"));
        authority.write(&folder.join("ca.pem"));
        let (cert, key) = (folder.join("node.pem"), folder.join("node.key"));
        format!("[tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n", cert.display(), key.display())
    })
}

fn uri(single: &Single, verify: &str) -> String {
    format!("longshore://{}:8143;transport=wss;tls_verify={verify}", single.subnet.host(1))
}

fn trusting(single: &Single, name: &str, authority: &Path) -> Process {
    worker(single, name, &uri(single, "ca"), &format!("[tls]\nca_file = \"{}\"\n", authority.display()))
}

#[test]
fn certificates_are_replaced_under_a_running_node() {
    let (first, second, third) = (Authority::new(), Authority::new(), Authority::new());
    let single = certified(&first);
    let (folder, ip) = (single.dir.path(), single.subnet.host(1).to_string());
    let file = |name: &str| folder.join(name);
    second.write(&file("second.pem"));
    third.write(&file("third.pem"));
    let mut standing = trusting(&single, "standing", &file("ca.pem"));
    standing.start(&[]);
    works(&single, "standing");

    // A broken file changes nothing but the log.
    std::fs::write(file("node.pem"), "no certificate\n").unwrap();
    single.control.signal(Signal::HUP);
    let line = single.control.wait_log(&["NOT replaced", "node.pem"]);
    assert!(line.contains("ERROR"), "{line}");
    let (let_in, text) = doctor(&trusting(&single, "meanwhile", &file("ca.pem")));
    assert!(let_in, "the former certificate is shown on: {text}");
    let ill = single.control.command(&["doctor", "-o", "json"]);
    let told = [ill.stdout, ill.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(told.contains("node.pem"), "doctor tells as well: {told}");

    second.issue(&ip, &file("node"));
    single.control.signal(Signal::HUP);
    let newcomer = trusting(&single, "newcomer", &file("second.pem"));
    wait_for("the new certificate", || {
        let (let_in, text) = doctor(&newcomer);
        if let_in { Ok(()) } else { Err(text) }
    });
    let (let_in, text) = doctor(&trusting(&single, "late", &file("ca.pem")));
    assert!(!let_in && text.contains("no CA in tls.ca_file"), "{text}");

    // Without a signal the change of the file is enough.
    third.issue(&ip, &file("node"));
    let newest = trusting(&single, "newest", &file("third.pem"));
    wait_for("the newest certificate", || {
        let (let_in, text) = doctor(&newest);
        if let_in { Ok(()) } else { Err(text) }
    });
    works(&single, "standing");
    assert_eq!(arrivals(&standing), 1, "the session has gone on through all that");

    // The worker takes the new CA just so, and comes back when its session is cut.
    std::fs::copy(file("third.pem"), file("ca.pem")).unwrap();
    standing.signal(Signal::HUP);
    standing.wait_log(&["vouches for dialled peers", "read again"]);
}

#[test]
fn the_systems_store_vouches() {
    let authority = Authority::new();
    let single = certified(&authority);
    let store = single.dir.path().join("ca.pem");
    let node = |name: &str| worker(&single, name, &uri(&single, "system"), "");
    let (let_in, text) = doctor(&node("known").with("SSL_CERT_FILE", store.to_str().unwrap()));
    assert!(let_in, "{text}");
    let other = single.dir.path().join("other.pem");
    Authority::new().write(&other);
    let (let_in, text) = doctor(&node("unknown").with("SSL_CERT_FILE", other.to_str().unwrap()));
    assert!(!let_in && text.contains("system's trust store") && text.contains("tls.ca_file"), "{text}");
}

/// A TLS server or client that speaks as it is told, by OpenSSL's own configuration.
fn openssl_conf(folder: &Path, settings: &str) -> PathBuf {
    let path = folder.join(format!("{:x}.cnf", settings.len()));
    let text = format!(
        "openssl_conf = start\n[start]\nssl_conf = ssl\n[ssl]\nsystem_default = how\n[how]\nCipherString = ALL:@SECLEVEL=0\n{settings}\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

const NO_EMS: &str = "MaxProtocol = TLSv1.2\nOptions = -ExtendedMasterSecret";

#[test]
fn old_tls_and_unbound_tls_are_turned_away_by_the_dialler() {
    let Some(openssl) = installed("openssl", "the test with old TLS") else { return };
    let authority = Authority::new();
    let single = certified(&authority);
    let folder = single.dir.path();
    let cases = [
        ("old", 30, "MinProtocol = TLSv1\nMaxProtocol = TLSv1.1", "TLS 1.1 or older"),
        ("unbound", 31, NO_EMS, "extended master secret"),
    ];
    for (name, host, settings, part) in cases {
        let door = SocketAddr::new(single.subnet.host(host), 8139);
        let conf = openssl_conf(folder, settings);
        let (pem, key) = (folder.join("node.pem"), folder.join("node.key"));
        let accept = door.to_string();
        let environment = format!("OPENSSL_CONF={}", conf.display());
        let server = [
            &environment,
            openssl.to_str().unwrap(),
            "s_server",
            "-quiet",
            "-accept",
            &accept,
            "-cert",
            pem.to_str().unwrap(),
            "-key",
            key.to_str().unwrap(),
        ];
        let _server = Middlebox::start("/usr/bin/env".into(), &server, folder.join("openssl.log"), &[door]);
        let (let_in, text) = doctor(&worker(&single, name, &format!("longshore://{door};transport=tls"), ""));
        assert!(!let_in && text.contains(part), "{text}");
    }
}

#[test]
fn old_tls_and_unbound_tls_are_turned_away_by_the_listener() {
    let Some(openssl) = installed("openssl", "the test with old TLS") else { return };
    let single = certified(&Authority::new());
    let door = SocketAddr::new(single.subnet.host(1), 8143);
    let shakes_hands = |settings: &str| {
        let mut client = Command::new(&openssl)
            .args(["s_client", "-connect", &door.to_string()])
            .env("OPENSSL_CONF", openssl_conf(single.dir.path(), settings))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(client.stdin.take().unwrap().write_all(b"Q\n"));
        let output = client.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // `New, (NONE)` is what it prints after a handshake that failed.
        let done = text.lines().any(|line| line.starts_with("New, TLSv1"));
        (done, text)
    };
    for settings in ["MaxProtocol = TLSv1.2", "MinProtocol = TLSv1.3"] {
        let (done, text) = shakes_hands(settings);
        assert!(done, "{settings}: {text}");
    }
    for settings in ["MinProtocol = TLSv1\nMaxProtocol = TLSv1.1", NO_EMS] {
        let (done, text) = shakes_hands(settings);
        assert!(!done, "{settings}: {text}");
    }
}
