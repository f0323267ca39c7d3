//! Tokens of the API: what each scope may do, over HTTPS, from another user's seat.

use crate::cluster::{Cluster, Reach};
use crate::process::{BINARY, Cli, stderr, wait_for};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Somebody who knows the API's address and certificate, and has perhaps a token.
struct Caller<'a> {
    api: String,
    certificate: &'a Path,
    token: Option<PathBuf>,
}

impl Caller<'_> {
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(arguments).env("LONGSHORE_API", &self.api).env("SSL_CERT_FILE", self.certificate);
        if let Some(token) = &self.token {
            command.env("LONGSHORE_TOKEN_FILE", token);
        }
        command.output().unwrap()
    }

    /// Does what it is allowed to.
    fn may(&self, arguments: &[&str]) {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    }

    /// Is refused with exit code 7, and told why.
    fn may_not(&self, arguments: &[&str], why: &str) {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(7), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(why), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn a_token_may_do_what_its_scope_says_until_it_is_revoked() {
    let mut cluster = Cluster::prepare(0, Reach::All);
    let home = cluster.dir.path().join("control-1");
    let mut control =
        cluster.controls.remove(0).with("LONGSHORE_API_LOOPBACK", "token").with("LONGSHORE_API_TLS", "on");
    control.start(&["--bootstrap"]);
    let local = Cli::new(&format!("unix://{}", home.join("api.sock").display()));
    wait_for("the socket, which needs no token", || {
        let status = local.try_json(&["cluster", "status"])?;
        if status["leader"].is_string() { Ok(()) } else { Err(status.to_string()) }
    });

    let (api, certificate) = (format!("https://{}:8138", cluster.subnet.host(1)), home.join("tls.crt"));
    let mut secrets = Vec::new();
    let mut caller = |name: &str, more: &[&str]| {
        let secret = local.text(&[&["token", "create", name], more].concat()).trim().to_owned();
        assert!(secret.starts_with("lst_") && secret.len() == 48, "{secret}");
        let file = cluster.dir.path().join(name);
        std::fs::write(&file, format!("{secret}\n")).unwrap();
        secrets.push(secret);
        Caller { api: api.clone(), certificate: &certificate, token: Some(file) }
    };
    let reader = caller("reader", &["--scope", "read"]);
    let operator = caller("operator", &["--scope", "operate", "--expires", "1d"]);
    let admin = caller("admin", &["--scope", "admin"]);
    let late = caller("late", &["--scope", "admin", "--expires", "1ms"]);
    let nobody = Caller { api: api.clone(), certificate: &certificate, token: None };

    nobody.may_not(&["node", "list"], "asks for a token");
    late.may_not(&["node", "list"], "'late' has expired");
    reader.may(&["node", "list"]);
    reader.may_not(&["kv", "put", "a", "1"], "has the scope read; this needs operate");
    operator.may(&["kv", "put", "a", "1"]);
    operator.may_not(&["token", "list"], "has the scope operate; this needs admin");
    operator.may_not(&["node", "remove", "control-1"], "this needs admin");
    admin.may(&["token", "list"]);
    admin.may(&["token", "revoke", "operator"]);
    operator.may_not(&["kv", "put", "a", "2"], "is not known, or is revoked");

    // A token is never sent where others could read it, and plain HTTP gets nothing.
    let plain = Caller { api: api.replace("https", "http"), certificate: &certificate, token: None };
    assert!(!plain.run(&["node", "list"]).status.success());
    let listed = local.text(&["token", "list", "-o", "json"]);
    control.wait_log(&["audit: a change", "operator", "PUT", "/v1/kv/a", "200"]);
    control.wait_log(&["audit: refused", "reader", "403"]);
    for secret in &secrets {
        assert!(!control.log().contains(secret) && !listed.contains(secret), "a token is shown twice");
    }
}
