//! Workers that reach their cluster only through a forward proxy: real ones, and one that alone knows a name.

use crate::boxes::{Middlebox, installed, knowing};
use crate::middlebox::{arrivals, control, doctor, worker, works};
use crate::process::wait_for;
use crate::single::Single;
use std::net::SocketAddr;
use std::path::Path;

const PASSWORD: &str = "s3cr%2Dt";
/// As the proxy knows it.
const PLAIN: &str = "s3cr-t";
const PORT: u16 = 3128;

fn at(single: &Single, host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(single.subnet.host(host), port)
}

/// All transports of the control node, as `cluster.discovery` takes them.
fn all(single: &Single) -> String {
    let ip = single.subnet.host(1);
    let uris = [("tcp", 8140), ("tls", 8139), ("ws", 8180), ("wss", 8143)];
    uris.map(|(transport, port)| format!("longshore://{ip}:{port};transport={transport}")).join("\", \"")
}

fn no_password_in(text: &str, place: &str) {
    assert!(!text.contains("s3cr"), "the password is in {place}: {text}");
}

/// `doctor` gets through to all four transports; a whole worker works, and nothing tells the password.
fn carries_everything(single: &Single, name: &str, url: &str) {
    let proxy = format!("[proxy]\nurl = \"{url}\"\n");
    let (let_in, text) = doctor(&worker(single, "examined", &all(single), &proxy));
    let reached = text.matches("\"lets_in\": true").count();
    assert!(let_in && reached == 4, "every transport: {text}");

    let uri = format!("longshore://{}:8143;transport=wss", single.subnet.host(1));
    let mut proxied = worker(single, name, &uri, &proxy);
    proxied.start(&[]);
    works(single, name);
    proxied.wait_log(&["attached to the owner"]);
    assert_eq!(arrivals(&proxied), 1);
    for (text, place) in [(proxied.log(), "its log"), (single.control.log(), "the control node's log")] {
        no_password_in(&text, place);
    }
    let shown = proxied.command(&["config", "show"]).stdout;
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.contains("REDACTED"), "{shown}");
    no_password_in(&shown, "config show");
}

/// `doctor` of a worker that dials WSS through `url`.
fn said(single: &Single, url: &str) -> String {
    let uri = format!("longshore://{}:8143;transport=wss", single.subnet.host(1));
    let (let_in, text) = doctor(&worker(single, "refused", &uri, &format!("[proxy]\nurl = \"{url}\"\n")));
    assert!(!let_in, "{text}");
    no_password_in(&text, "what doctor says");
    text
}

fn tinyproxy(single: &Single, more: &str) -> Option<Middlebox> {
    let program = installed("tinyproxy", "the test through an HTTP proxy")?;
    let door = at(single, 20, PORT);
    let config = format!(
        "Port {PORT}\nListen {}\nTimeout 600\nMaxClients 50\nLogLevel Warning\nBasicAuth me {PLAIN}\n{more}",
        door.ip()
    );
    let file = single.dir.path().join("tinyproxy.conf");
    std::fs::write(&file, config).unwrap();
    let log = single.dir.path().join("tinyproxy.log");
    Some(Middlebox::start(program, &["-d", "-c", file.to_str().unwrap()], log, &[door]))
}

#[test]
fn through_an_http_proxy() {
    let single = control();
    let Some(mut proxy) = tinyproxy(&single, "") else { return };
    let door = at(&single, 20, PORT);
    carries_everything(&single, "proxied", &format!("http://me:{PASSWORD}@{door}"));
    let text = said(&single, &format!("http://{door}"));
    assert!(text.contains("wants a user and a password (HTTP 407)"), "{text}");
    let text = said(&single, &format!("http://me:s3cr@{door}"));
    assert!(text.contains("refuses the user or the password"), "{text}");

    // The environment names the proxy as well; exceptions are dialled without it.
    let uri = format!("longshore://{}:8143;transport=wss", single.subnet.host(1));
    let named = format!("http://me:{PASSWORD}@{door}");
    let by_environment = |name: &str| worker(&single, name, &uri, "").with("HTTPS_PROXY", &named);
    let mut proxied = by_environment("by-environment");
    proxied.start(&[]);
    works(&single, "by-environment");
    let excepted = by_environment("excepted").with("NO_PROXY", "127.0.0.0/8");
    proxy.kill();
    let (let_in, text) = doctor(&by_environment("cut-off"));
    assert!(!let_in && text.contains(&door.to_string()) && text.contains("HTTPS_PROXY"), "{text}");
    no_password_in(&text, "what doctor says");
    let (let_in, text) = doctor(&excepted);
    assert!(let_in, "{text}");

    proxy.restart();
    wait_for("the worker to come back with the proxy", || {
        if arrivals(&proxied) > 1 { Ok(()) } else { Err(proxied.log()) }
    });
    works(&single, "by-environment");
}

#[test]
fn an_http_proxy_that_forbids_the_port_says_so() {
    let single = control();
    let Some(_proxy) = tinyproxy(&single, "ConnectPort 443\n") else { return };
    let text = said(&single, &format!("http://me:{PASSWORD}@{}", at(&single, 20, PORT)));
    assert!(text.contains("forbids connections to") && text.contains("443"), "{text}");
}

#[test]
fn through_a_socks_proxy() {
    let Some(program) = installed("microsocks", "the test through a SOCKS proxy") else { return };
    let single = control();
    let door = at(&single, 21, 1080);
    let ip = door.ip().to_string();
    let arguments = ["-i", &ip, "-p", "1080", "-u", "me", "-P", PLAIN];
    let _proxy = Middlebox::start(program, &arguments, single.dir.path().join("microsocks.log"), &[door]);
    for scheme in ["socks5", "socks5h"] {
        carries_everything(&single, scheme, &format!("{scheme}://me:{PASSWORD}@{door}"));
    }
    let text = said(&single, &format!("socks5://me:s3cr@{door}"));
    assert!(text.contains("refuses the user or the password"), "{text}");
    let text = said(&single, &format!("socks5://{door}"));
    assert!(text.contains("wants a user and a password"), "{text}");
}

#[test]
fn a_name_that_only_the_proxy_knows() {
    let single = control();
    let (proxy, node) = (at(&single, 22, PORT), at(&single, 1, 8143));
    knowing(proxy, "inside.example:443", node);
    // Nobody answers questions about names here.
    let dns = format!("[dns]\nnameservers = [\"{}\"]\ntimeout = \"500ms\"\n", at(&single, 53, 53));
    let extra = format!("{dns}[proxy]\nurl = \"http://{proxy}\"\n");
    let mut inside = worker(&single, "inside", "longshore://inside.example:443;transport=wss", &extra);
    inside.start(&[]);
    works(&single, "inside");
    let (let_in, text) = doctor(&worker(&single, "lost", "longshore://inside.example:443;transport=wss", &dns));
    assert!(!let_in && text.contains("inside.example"), "without the proxy there is no way: {text}");
    let (let_in, text) = doctor(&worker(&single, "wrong", "longshore://other.example:443;transport=wss", &extra));
    assert!(!let_in && text.contains("cannot reach other.example:443 itself (HTTP 502)"), "{text}");
}

#[test]
fn slips_are_found_before_the_start() {
    let single = Single::start();
    let check = |name: &str, extra: &str| {
        let output = worker(&single, name, "longshore://127.0.0.1", extra).command(&["config", "check"]);
        assert!(!output.status.success(), "{extra}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let text = check("scheme", "[proxy]\nurl = \"ftp://me:s3cr@x\"\n");
    assert!(text.contains("scheme.toml:") && text.contains("socks5h"), "{text}");
    no_password_in(&text, "config check");
    let missing = Path::new("/nowhere/ca.pem");
    let text = check("file", &format!("[tls]\nverify = \"ca\"\nca_file = \"{}\"\n", missing.display()));
    assert!(text.contains("/nowhere/ca.pem"), "{text}");
}
