//! `longshore init`: configuration and secrets of a new cluster, ready to run on one machine.

use crate::args::local::Init;
use crate::error::{Exit, Failed};
use crate::output;
use anyhow::Context as _;
use longshore_transport::{Secret, make_verifier};
use longshore_wire::Role;
use longshore_wire::credential::Verifier;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// A file to be written.
struct NewFile {
    name: &'static str,
    mode: u32,
    content: String,
}

pub(super) fn init(args: &Init) -> anyhow::Result<()> {
    check_cluster(&args.cluster)?;
    write_all(args)?;
    output::line(&next_steps(&args.dir))
}

/// Writes all files, or none where one of them is there already.
pub(super) fn write_all(args: &Init) -> anyhow::Result<()> {
    let dir = &args.dir;
    let files = files(args)?;
    let present: Vec<&str> = files.iter().map(|file| file.name).filter(|name| dir.join(name).exists()).collect();
    if !present.is_empty() {
        let (dir, present) = (dir.display(), present.join(", "));
        let why = format!("{dir} holds {present} already; nothing was changed. Choose another folder");
        return Err(Failed::new(Exit::Conflict, why).into());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("cannot make the folder {}", dir.display()))?;
    files.iter().try_for_each(|file| write(dir, file))
}

/// The same rule as the configuration's, so that what is written here is also accepted there.
fn check_cluster(name: &str) -> anyhow::Result<()> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(fine) {
        return Ok(());
    }
    Err(Failed::usage(format!("--cluster '{name}': 1 to 64 of letters, digits, - _ .")).into())
}

fn files(args: &Init) -> anyhow::Result<Vec<NewFile>> {
    let mut verifiers: Vec<Verifier> = Vec::new();
    let mut files = Vec::new();
    for (role, name) in
        [(Role::Control, "control.secret"), (Role::Worker, "worker.secret"), (Role::Client, "client.secret")]
    {
        let secret = Secret::generate()?;
        verifiers.push(make_verifier(&secret, role.name(), role, args.iterations));
        files.push(NewFile { name, mode: 0o600, content: format!("{}\n", secret.text()) });
    }
    let verifiers = serde_json::to_string_pretty(&verifiers)? + "\n";
    files.push(NewFile { name: "verifiers.json", mode: 0o600, content: verifiers });
    files.push(NewFile { name: "control.toml", mode: 0o644, content: control_toml(&args.cluster) });
    files.push(NewFile { name: "worker.toml", mode: 0o644, content: worker_toml(&args.cluster) });
    Ok(files)
}

/// Never over a file that is there, even if it appeared a moment ago.
fn write(dir: &Path, file: &NewFile) -> anyhow::Result<()> {
    let path = dir.join(file.name);
    let written = OpenOptions::new().write(true).create_new(true).mode(file.mode).open(&path).and_then(|mut out| {
        out.write_all(file.content.as_bytes())?;
        out.sync_all()
    });
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn control_toml(cluster: &str) -> String {
    format!(
        r#"# A control node. Paths are relative to this file's folder.
[node]
name = "control-1"                  # another one on each machine
roles = ["control"]
data_dir = "data/control-1"

[cluster]
name = "{cluster}"
# Where control nodes find each other: DNS names (NAPTR, SRV, A, AAAA) or addresses.
discovery = ["longshore://127.0.0.1:8143;transport=wss"]

[auth]
secret_file = "control.secret"
verifiers_file = "verifiers.json"   # read once, by --bootstrap

# Where workers and other control nodes dial in. Several machines: bind to 0.0.0.0 and advertise what others can reach,
# for example advertise = "control-1.example.com:8143".
[[listen]]
uri = "longshore://127.0.0.1:8143;transport=wss"

[[listen]]
uri = "longshore://127.0.0.1:8139;transport=tls"

[api]
listen = "127.0.0.1:8138"           # other addresses ask for a token (longshore token create)
loopback = "open"                   # every user of this machine commands the cluster; "token" asks them too
"#
    )
}

fn worker_toml(cluster: &str) -> String {
    format!(
        r#"# A worker. It only dials out. Paths are relative to this file's folder.
[node]
name = "worker-1"                   # another one on each machine
roles = ["worker"]
data_dir = "data/worker-1"
labels = ""                         # for example "core;group=group1, dc;name=eu-1"

[cluster]
name = "{cluster}"
discovery = ["longshore://127.0.0.1:8143;transport=wss"]

[auth]
secret_file = "worker.secret"
"#
    )
}

fn next_steps(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "\
Written to {dir}: control.toml, worker.toml, control.secret, worker.secret, client.secret, verifiers.json

On this machine, each in its own terminal:
  longshore run -c {dir}/control.toml --bootstrap     # --bootstrap at the very first start only
  longshore run -c {dir}/worker.toml
  longshore node list

For several machines:
  - control nodes: copy control.toml and control.secret; on each set node.name, let listen.uri bind to 0.0.0.0,
    and set listen.advertise to an address that all others can reach. Only the first one needs verifiers.json
    and --bootstrap; the others join by themselves.
  - workers: copy worker.toml and worker.secret only; on each set node.name.
  - everywhere: set cluster.discovery to a DNS name of the control nodes (or list their addresses).
  - check with `longshore doctor -c FILE`."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_written_is_valid_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let args = Init { dir: dir.path().join("a/b"), cluster: "prod".to_owned(), iterations: 4096 };
        write_all(&args).unwrap();
        for name in ["control.toml", "worker.toml"] {
            let config = longshore_config::load(&args.dir.join(name), std::iter::empty()).unwrap();
            assert_eq!(config.cluster.name, "prod");
            Secret::from_file(&config.auth.secret_file).unwrap();
        }
        let mode = std::fs::metadata(args.dir.join("worker.secret")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let verifiers = std::fs::read(args.dir.join("verifiers.json")).unwrap();
        assert_eq!(serde_json::from_slice::<Vec<Verifier>>(&verifiers).unwrap().len(), 3);
        let before = std::fs::read(args.dir.join("worker.secret")).unwrap();
        std::fs::remove_file(args.dir.join("control.toml")).unwrap();
        assert!(write_all(&args).unwrap_err().to_string().contains("worker.secret"));
        assert_eq!(std::fs::read(args.dir.join("worker.secret")).unwrap(), before);
    }
}
