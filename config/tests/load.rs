//! Files and environment as an operator writes them.
#![allow(clippy::unwrap_used)]

use longshore_config::{Config, ConfigError, OnStop, Parting, ProxySource, load};
use longshore_wire::uri::TlsVerify;
use longshore_wire::{Role, Transport};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const WORKER: &str = r#"[node]
name = "edge-7"
roles = ["worker"]
labels = "core;group=group1;master, dc;name=eu-1"

[cluster]
name = "prod"
discovery = ["longshore://cluster.example.com", "longshore://10.0.0.1:8143;transport=wss"]

[auth]
secret_file = "worker.secret"
"#;

const CONTROL: &str = r#"
[node]
name = "control-1"
roles = ["control"]
data_dir = "/srv/longshore"
[cluster]
name = "prod"
[auth]
secret_file = "/etc/longshore/control.secret"
"#;

/// A folder with the file `node.toml`.
fn folder(text: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("node.toml"), text).unwrap();
    dir
}

fn load_in(dir: &Path, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables: Vec<_> = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    load(&dir.join("node.toml"), variables.into_iter())
}

fn loaded(text: &str) -> Result<Config, ConfigError> {
    load_in(folder(text).path(), &[])
}

/// What is said, without the folder's random name.
fn complaint(text: &str) -> String {
    let dir = folder(text);
    let error = load_in(dir.path(), &[]).unwrap_err().to_string();
    error.replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn defaults_and_values() {
    let dir = folder(WORKER);
    let config = load_in(dir.path(), &[("PATH", "/bin"), ("LONGSHORE_LOG", "debug"), ("LONGSHORE_API", "x")]).unwrap();
    assert_eq!(config.node.name, "edge-7");
    assert!(config.has_role(Role::Worker) && !config.has_role(Role::Control));
    assert_eq!(config.node.data_dir, PathBuf::from("/var/lib/longshore"));
    assert_eq!(config.node.labels.to_string(), "core;group=group1;master, dc;name=eu-1");
    assert_eq!(config.cluster.discovery[1].transport, Some(Transport::Wss));
    assert_eq!(config.auth.secret_file, dir.path().join("worker.secret"), "relative to the file");
    assert_eq!(config.auth.credential, "worker");
    assert_eq!(config.tls.verify, TlsVerify::Binding);
    assert_eq!(config.timers.ping_deadline, Duration::from_millis(3750));
    assert_eq!((config.worker.on_stop, config.control.on_stop), (OnStop::Keep, Parting::Stay));
    assert!(config.listen.is_empty() && config.proxy.is_none());
}

#[test]
fn listeners() {
    let config = loaded(&format!(
        "{CONTROL}{}",
        r#"
[[listen]]
uri = "longshore://0.0.0.0:443;transport=wss;path=/edge"
advertise = "control-1.example.com"
[[listen]]
uri = "longshore://10.0.0.5"
[[listen]]
uri = "longshore://[::]:8140;transport=tcp"
[[listen]]
uri = "longshore://127.0.0.1:8180;transport=ws"
advertise = "longshore://lb.example.com:443;transport=wss"
"#
    ))
    .unwrap();
    let shown: Vec<_> = config
        .listen
        .iter()
        .map(|one| format!("{} {} {}", one.transport, one.bind, one.advertise.as_ref().unwrap()))
        .collect();
    assert_eq!(
        shown,
        [
            "wss 0.0.0.0:443 longshore://control-1.example.com:443;transport=wss;path=/edge",
            "tls 10.0.0.5:8139 longshore://10.0.0.5:8139;transport=tls",
            "tcp [::]:8140 longshore://control-1:8140;transport=tcp",
            "ws 127.0.0.1:8180 longshore://lb.example.com:443;transport=wss",
        ]
    );
    let standard = loaded(CONTROL).unwrap();
    assert_eq!(standard.listen[0].bind.to_string(), "0.0.0.0:8139");
    assert_eq!(standard.api.listen[0].to_string(), "127.0.0.1:8138");
    assert_eq!(standard.api.socket, PathBuf::from("/srv/longshore/api.sock"));
}

#[test]
fn unknown_keys_have_a_place_and_a_hint() {
    for (text, expected) in [
        ("[node]\nnmae = \"a\"\n", "node.toml:2: unknown key 'node.nmae'; did you mean 'name'?"),
        ("\n[clutser]\nname = \"a\"\n", "node.toml:2: unknown key 'clutser'; did you mean 'cluster'?"),
        ("data_dir = \"x\"\n", "node.toml:1: unknown key 'data_dir'; did you mean 'data_dir' in section [node]?"),
        (
            "[node]\n[[listen]]\nuri = \"longshore://127.0.0.1\"\nadvertize = \"x\"\n",
            "node.toml:4: unknown key 'listen.advertize'; did you mean 'advertise'?",
        ),
        (
            "node.colour = 1\n",
            "node.toml:1: unknown key 'node.colour'; keys of [node] are name, roles, data_dir, labels",
        ),
    ] {
        assert_eq!(complaint(text), expected);
    }
}

#[test]
fn wrong_values_have_a_place() {
    for (text, expected) in [
        ("[timers]\nping_every = 5\n", "node.toml:2: 5 has no unit; write \"5s\" or \"5ms\""),
        ("[timers]\nheartbeat = \"0s\"\n", "node.toml:2: '0s': a duration here is more than 0 and at most 1h"),
        ("[timers]\n\nheartbeat = \"soon\"\n", "node.toml:3: 'soon' is not a duration"),
        (
            "[cluster]\ndiscovery = [\n\"http://x\"]\n",
            "node.toml:2: 'http://x': a cluster URI starts with longshore://",
        ),
        ("[dns]\nnameservers = \"dns\"\n", "node.toml:2: 'dns' is not a DNS server"),
        ("[node]\nlabels = \"a,,b\"\n", "node.toml:2: labels '': a name or value is empty"),
        (
            "[[listen]]\nuri = \"longshore://example.com\"\n",
            "node.toml:1: listen.uri: 'example.com' is not an IP address",
        ),
        (
            "[[listen]]\nuri = \"longshore://0.0.0.0\"\nadvertise = \"0.0.0.0\"\n",
            "node.toml:1: listen.advertise: nobody can dial",
        ),
        ("[node]\nroles = [\"wroker\"]\n", "node.toml:2: unknown variant"),
        ("[node\n", "node.toml:1: "),
    ] {
        let found = complaint(text);
        assert!(found.starts_with(expected), "{found}");
    }
}

#[test]
fn missing_keys_come_with_an_example() {
    for (text, key) in [
        ("", "node.roles"),
        ("[node]\nroles = [\"worker\"]\nname = \"a\"\n", "cluster.name"),
        ("[node]\nroles = \"worker\"\nname = \"a\"\n[cluster]\nname = \"c\"\n", "cluster.discovery"),
        (&WORKER.replace("secret_file = \"worker.secret\"", ""), "auth.secret_file"),
        (&WORKER.replace("[\"worker\"]", "[\"worker\", \"control\"]"), "auth.worker_secret_file"),
        (&format!("{WORKER}[tls]\ncert_file = \"a\"\n"), "tls.key_file"),
        (&format!("{WORKER}[tls]\nverify = \"ca\"\n"), "tls.ca_file"),
        (&format!("{WORKER}[tls]\nverify = \"pin\"\n"), "tls.pin_file"),
        (&format!("listen = []\n{CONTROL}"), "listen.uri"),
    ] {
        let name = key.rsplit('.').next().unwrap();
        match loaded(text).unwrap_err() {
            ConfigError::Missing { key: found, example, .. } => {
                assert!(found == key && example.contains(name), "{found}")
            }
            other => panic!("{key}: {other}"),
        }
    }
}

#[test]
fn what_does_not_fit_together() {
    for (more, expected) in [
        ("[control]\nvoters = 4\n", "control.voters"),
        ("[timers]\nheartbeat = \"1s\"\n", "timers.heartbeat"),
        ("[timers]\nping_deadline = \"10s\"\n", "timers.ping_deadline"),
        (
            "[[listen]]\nuri = \"longshore://127.0.0.1:1\"\n[[listen]]\nuri = \"longshore://127.0.0.1:1;transport=tcp\"\n",
            "listen.uri",
        ),
    ] {
        match loaded(&format!("{CONTROL}{more}")).unwrap_err() {
            ConfigError::Conflict { key, .. } => assert_eq!(key, expected),
            other => panic!("{other}"),
        }
    }
    assert!(complaint(&WORKER.replace("edge-7", "edge 7")).contains("node.name: 'edge 7'"));
    assert!(complaint(&WORKER.replace("[\"worker\"]", "[\"client\"]")).contains("node.roles"));
}

#[test]
fn later_sources_replace_single_keys() {
    let dir = folder(&format!("{WORKER}[timers]\nping_every = \"1s\"\nvoter_grace = \"3s\"\n"));
    let drop_ins = dir.path().join("conf.d");
    fs::create_dir(&drop_ins).unwrap();
    fs::write(drop_ins.join("20-b.toml"), "[timers]\nping_every = \"3s\"\n[cluster]\ndiscovery = \"longshore://b\"\n")
        .unwrap();
    fs::write(drop_ins.join("10-a.toml"), "[timers]\nping_every = \"2s\"\nping_deadline = \"2s\"\n").unwrap();
    fs::write(drop_ins.join("notes.txt"), "not read").unwrap();
    fs::write(drop_ins.join(".10-a.toml.swp"), "not read").unwrap();
    let config = load_in(dir.path(), &[]).unwrap();
    let secs = Duration::from_secs;
    assert_eq!(config.timers.ping_every, secs(3), "files in the order of their names");
    assert_eq!((config.timers.ping_deadline, config.timers.voter_grace), (secs(2), secs(3)), "other keys stay");
    assert_eq!(config.cluster.discovery.len(), 1, "lists are replaced whole");
    assert_eq!(config.cluster.name, "prod");

    let config = load_in(dir.path(), &[("LONGSHORE_TIMERS_PING_EVERY", "4s")]).unwrap();
    assert_eq!(config.timers.ping_every, secs(4), "the environment comes last");

    fs::write(drop_ins.join("30-c.toml"), "\n[node]\nnaem = \"x\"\n").unwrap();
    let error = load_in(dir.path(), &[]).unwrap_err().to_string();
    assert!(error.contains("conf.d/30-c.toml:3: unknown key 'node.naem'"), "{error}");
}

#[test]
fn environment() {
    let dir = folder("");
    let config = load_in(
        dir.path(),
        &[
            ("LONGSHORE_NODE_NAME", "n1"),
            ("LONGSHORE_NODE_ROLES", "control, worker"),
            ("LONGSHORE_NODE_LABELS", "a;b=1, c"),
            ("LONGSHORE_CLUSTER_NAME", "c"),
            ("LONGSHORE_AUTH_SECRET_FILE", "/s"),
            ("LONGSHORE_AUTH_WORKER_SECRET_FILE", "/w"),
            ("LONGSHORE_API_LISTEN", "127.0.0.1:1,127.0.0.1:2"),
            ("LONGSHORE_CONTROL_VOTERS", "5"),
            ("LONGSHORE_LISTEN_ADVERTISE", "example.com:99"),
            ("LONGSHORE_LISTEN_URI", "longshore://0.0.0.0:8139"),
            ("LONGSHORE_DNS_NAMESERVERS", "127.0.0.1:5353, ::1"),
        ],
    )
    .unwrap();
    assert_eq!(config.node.roles, [Role::Control, Role::Worker]);
    assert_eq!((config.node.labels.0.len(), config.api.listen.len(), config.control.voters), (2, 2, 5));
    assert_eq!(config.listen[0].advertise.as_ref().unwrap().port, Some(99));
    assert_eq!(config.dns.nameservers[1].to_string(), "[::1]:53");
    assert_eq!((config.auth.credential.as_str(), config.auth.worker_credential.as_str()), ("control", "worker"));

    let dir = folder(WORKER);
    for (name, value, expected) in [
        ("LONGSHORE_NODE_NAEM", "x", "stands for no key; did you mean LONGSHORE_NODE_NAME?"),
        ("LONGSHORE_CONTROL_VOTERS", "many", "LONGSHORE_CONTROL_VOTERS: 'many' is not a number"),
        ("LONGSHORE_TIMERS_HEARTBEAT", "5", "LONGSHORE_TIMERS_HEARTBEAT: '5' is not a duration"),
        ("LONGSHORE_LISTEN_ADVERTISE", "x", "LONGSHORE_LISTEN_URI: missing field `uri`"),
    ] {
        let error = load_in(dir.path(), &[(name, value)]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_proxy_password_is_never_shown() {
    let dir = folder(&format!("{WORKER}[proxy]\nurl = \"http://me:s3cr%3At@proxy:3128\"\n"));
    let config = load_in(dir.path(), &[]).unwrap();
    let url = &config.proxy.as_ref().unwrap().url;
    assert_eq!((url.password.as_deref(), url.user.as_deref(), url.port), (Some("s3cr:t"), Some("me"), 3128));
    let told = format!("{} {config:?}", config.show());
    assert!(told.contains("http://me:REDACTED@proxy:3128") && !told.contains("s3cr"), "{told}");
    for wrong in ["http://me:s3cret@pro xy:1", "me:s3cret@proxy", "http://me:s3cret%zz@proxy"] {
        let error = complaint(&format!("{WORKER}[proxy]\nurl = \"{wrong}\"\n"));
        assert!(error.starts_with("node.toml:13: ") && !error.contains("s3cret"), "{error}");
        let dir = folder(WORKER);
        let error = load_in(dir.path(), &[("LONGSHORE_PROXY_URL", wrong)]).unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn the_environments_proxy_is_for_workers_without_one() {
    let dir = folder(WORKER);
    let proxy = |dir: &TempDir, variables: &[(&str, &str)]| load_in(dir.path(), variables).unwrap().proxy;
    let found =
        proxy(&dir, &[("HTTPS_PROXY", "http://upper:1"), ("https_proxy", "lower:2"), ("NO_PROXY", "a,  b.c:80")]);
    let found = found.unwrap();
    assert_eq!((found.url.to_string().as_str(), found.source), ("http://lower:2", ProxySource::Environment));
    assert!(found.no_proxy.covers("x.a", None, 1) && found.no_proxy.covers("b.c", None, 80));
    assert!(proxy(&dir, &[("HTTPS_PROXY", " ")]).is_none(), "empty is unset");
    assert!(proxy(&folder(CONTROL), &[("HTTPS_PROXY", "http://upper:1")]).is_none(), "control nodes do not follow it");
    let error = load_in(dir.path(), &[("HTTPS_PROXY", "ftp://me:s3cret@x")]).unwrap_err().to_string();
    assert!(error.contains("HTTPS_PROXY") && !error.contains("s3cret"), "{error}");

    let named = format!("{WORKER}[proxy]\nurl = \"socks5h://own\"\nno_proxy = [\"10.0.0.0/8\"]\n");
    let found = proxy(&folder(&named), &[("HTTPS_PROXY", "http://upper:1"), ("NO_PROXY", "*")]).unwrap();
    assert_eq!((found.url.to_string().as_str(), found.source), ("socks5h://own:1080", ProxySource::Configuration));
    assert!(!found.no_proxy.covers("a", None, 1), "the file goes before the environment");
    let off = format!("{WORKER}[proxy]\nno_proxy = \"*\"\n");
    let found = proxy(&folder(&off), &[("HTTPS_PROXY", "http://upper:1")]).unwrap();
    assert!(found.no_proxy.covers("anything", None, 1), "a file can switch the environment's proxy off");
}

#[test]
fn slips_in_the_proxy_are_found_with_their_line() {
    for (line, part) in [
        ("url = \"ftp://proxy:1\"", "other schemes are https, socks5 and socks5h"),
        ("url = \"http://proxy:0\"", "a proxy is written"),
        ("url = \"http://a%3Ab:c@proxy\"", "a colon"),
        ("url = \"http://:c@proxy\"", "user is empty"),
        ("url = \"http://a%0Ab:c@proxy\"", "control character"),
        ("url = \"socks5://a@proxy\"", "1 to 255 bytes"),
        ("no_proxy = [\"10.0.0.0/33\"]", "'10.0.0.0/33': an exception is"),
        ("no_proxi = []", "did you mean 'no_proxy'?"),
    ] {
        let error = complaint(&format!("{WORKER}[proxy]\n{line}\n"));
        assert!(error.starts_with("node.toml:13: ") && error.contains(part), "{error}");
    }
}

#[test]
fn what_is_shown_can_be_loaded() {
    let more = "[[listen]]\nuri = \"longshore://0.0.0.0:443;transport=wss;path=/x\"\n[timers]\nheartbeat = \"90ms\"\n";
    let proxy = "[proxy]\nurl = \"https://proxy\"\nno_proxy = [\"a\", \"[::1]:5\"]\n";
    for text in [WORKER.to_owned(), format!("{CONTROL}{more}"), format!("{WORKER}{proxy}")] {
        let config = loaded(&text).unwrap();
        let again = loaded(&config.show()).unwrap_or_else(|error| panic!("{error}\n{}", config.show()));
        assert_eq!(again, config);
    }
}

#[test]
fn unreadable_file() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(load_in(dir.path(), &[]), Err(ConfigError::Read { .. })));
}
