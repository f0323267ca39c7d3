//! `longshore app`: archives.

use super::{Remote, items};
use crate::args::Globals;
use crate::args::app::{App, AppName, Deploy, Pack};
use crate::client::{Call, Client, file, path};
use crate::error::Failed;
use crate::output::{self, Format, Progress, Table, cell, size};
use anyhow::Context as _;
use hyper::Method;
use longshore_archive::{Limits, PackOptions, PackReport, UNFINISHED};
use longshore_wire::Digest;
use longshore_wire::app::Manifest;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufWriter, Seek as _, Write as _};
use std::path::Path;

pub(super) async fn app(globals: &Globals, args: App) -> anyhow::Result<()> {
    let remote = || Remote::new(globals);
    match args {
        App::Pack(args) => pack(args).await,
        App::Inspect { file } => inspect(&file, globals.format()),
        App::Deploy(args) => {
            let remote = remote()?;
            let deployed = deploy(&remote.client, &args).await?;
            remote.print(&deployed, |deployed| {
                let text = |name: &str| output::plain(&cell(&deployed[name]));
                output::line(&format!("{} version {} ({})", text("app"), text("version"), text("sha256")))
            })
        }
        App::List => list(&remote()?).await,
        App::Show(AppName { app }) => show(&remote()?, &app).await,
        App::Remove(AppName { app }) => {
            let remote = remote()?;
            let removed = remote.client.json(Call::new(Method::DELETE, path("/v1/apps/{}", &[&app]))).await?;
            remote.print(&removed, |_| {
                output::say(&format!("app {} is removed", output::plain(&app)));
                Ok(())
            })
        }
    }
}

/// Packs into a file beside the wanted one and renames: a failed pack leaves no half archive.
async fn pack(args: Pack) -> anyhow::Result<()> {
    let packing = tokio::task::spawn_blocking(move || {
        let folder = args.file.as_deref().map(Path::new).and_then(Path::parent).unwrap_or_else(|| Path::new(""));
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder }.to_owned();
        let beside = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&folder);
        let mut beside = beside.with_context(|| format!("cannot write to {}", folder.display()))?;
        let report = pack_into(&args.dir, args.name, beside.as_file_mut())?;
        let own = format!("{}.tar", report.manifest.name);
        let name = args.file.unwrap_or_else(|| own.clone());
        let (into, from) = (folder.canonicalize()?, args.dir.canonicalize()?);
        if into.starts_with(&from) && (into != from || Path::new(&name).file_name() != Some(own.as_ref())) {
            let why = "lies in the folder that is packed, and would be part of the next archive; choose another place";
            return Err(Failed::usage(format!("{name} {why}")).into());
        }
        // An archive holds no secret: readable as any new file is.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        beside.as_file().set_permissions(mode)?;
        beside.persist(&name).with_context(|| format!("cannot write {name}"))?;
        Ok::<_, anyhow::Error>((name, report))
    });
    let (name, report) = packing.await??;
    let (app, files) = (&report.manifest.name, report.manifest.files.len());
    output::line(&format!("{name}: {app}, {files} files, {}, sha256 {}", size(report.size), report.digest))
}

fn pack_into(dir: &Path, name: Option<String>, out: &mut File) -> anyhow::Result<PackReport> {
    let mut out = BufWriter::new(out);
    let report = longshore_archive::pack(dir, &PackOptions { name }, &mut out)?;
    out.flush().context("cannot write the archive")?;
    Ok(report)
}

fn inspect(path: &Path, format: Format) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let found = longshore_archive::inspect(std::io::BufReader::new(file), &Limits::default())
        .with_context(|| format!("{} is refused", path.display()))?;
    match format {
        Format::Json => output::json(&json!({"sha256": found.digest, "size": found.size, "manifest": found.manifest})),
        _ => print_manifest(&found.manifest, found.digest, found.size),
    }
}

fn print_manifest(manifest: &Manifest, digest: Digest, bytes: u64) -> anyhow::Result<()> {
    output::line(&format!("app      {} (runtime {})", manifest.name, manifest.runtime))?;
    output::line(&format!("sha256   {digest}"))?;
    output::line(&format!("size     {}\n", size(bytes)))?;
    let mut flows = Table::new(&["FLOW", "ENTRY", "ARGUMENTS"], false);
    for (name, flow) in &manifest.flows {
        let args = flow.args.iter().map(|(name, default)| argument(name, default));
        flows.row(vec![name.clone(), flow.entry.join(" "), args.collect::<Vec<_>>().join(", ")]);
    }
    flows.print()?;
    output::line("")?;
    let mut files = Table::new(&["FILE", "SIZE", "SHA256"], false);
    for file in &manifest.files {
        let name = if file.executable { format!("{}*", file.path) } else { file.path.clone() };
        files.row(vec![name, size(file.size), file.sha256.to_string()]);
    }
    files.print()
}

/// Streams an archive, or a folder packed into one, to the cluster.
pub(super) async fn deploy(client: &Client, args: &Deploy) -> anyhow::Result<Value> {
    let shown = args.path.display();
    let is_folder = std::fs::metadata(&args.path).with_context(|| format!("cannot read {shown}"))?.is_dir();
    let archive = if is_folder {
        let (dir, name) = (args.path.clone(), args.name.clone());
        let packing = tokio::task::spawn_blocking(move || {
            let mut file = tempfile::tempfile().context("cannot make a temporary file")?;
            pack_into(&dir, name, &mut file)?;
            file.rewind()?;
            Ok::<_, anyhow::Error>(file)
        });
        packing.await??
    } else if args.name.is_some() {
        return Err(Failed::usage("--name is for a folder; an archive has its name").into());
    } else {
        File::open(&args.path).with_context(|| format!("cannot read {shown}"))?
    };
    let bytes = archive.metadata()?.len();
    let progress = Progress::new(format!("deploying {shown}"), bytes);
    let call = Call::new(Method::PUT, "/v1/apps")
        .header("content-type", "application/x-tar")
        .header("content-length", &bytes.to_string())
        .body(file(archive, bytes, progress));
    client.json(call).await
}

async fn list(remote: &Remote) -> anyhow::Result<()> {
    let apps = remote.client.json(Call::get("/v1/apps")).await?;
    remote.print(&apps, |apps| {
        let mut table = Table::new(&["APP", "VERSION", "FLOWS", "SIZE", "(SHA256)"], remote.wide());
        for app in items(apps) {
            let bytes = app["size"].as_u64().map_or_else(|| "-".to_owned(), size);
            table.row(vec![
                cell(&app["app"]),
                cell(&app["version"]),
                flows(&app["flows"]),
                bytes,
                cell(&app["sha256"]),
            ]);
        }
        table.print()
    })
}

/// Names of flows, whether they came as names or with all that belongs to them.
fn flows(value: &Value) -> String {
    match value {
        Value::Object(flows) => flows.keys().cloned().collect::<Vec<_>>().join(","),
        other => cell(other),
    }
}

async fn show(remote: &Remote, app: &str) -> anyhow::Result<()> {
    let app = remote.client.json(Call::get(path("/v1/apps/{}", &[app]))).await?;
    remote.print(&app, |app| {
        for name in ["app", "version", "runtime", "sha256"] {
            output::line(&format!("{name:<8} {}", output::plain(&cell(&app[name]))))?;
        }
        output::line("")?;
        let mut flows = Table::new(&["FLOW", "ENTRY", "ARGUMENTS", "RESTART"], remote.wide());
        for (name, flow) in app["flows"].as_object().into_iter().flatten() {
            let args = flow["args"].as_object().into_iter().flatten().map(|(name, default)| argument(name, default));
            let entry = items(&flow["entry"]).iter().map(cell).collect::<Vec<_>>().join(" ");
            flows.row(vec![name.clone(), entry, args.collect::<Vec<_>>().join(", "), cell(&flow["restart"])]);
        }
        flows.print()?;
        output::line("")?;
        let mut versions = Table::new(&["VERSION", "INSTALLED", "SIZE", "SHA256"], remote.wide());
        for version in items(&app["versions"]) {
            let installed = version["installed"].as_u64().map_or_else(|| "-".to_owned(), super::node::time);
            let bytes = version["size"].as_u64().map_or_else(|| "-".to_owned(), size);
            versions.row(vec![cell(&version["version"]), installed, bytes, cell(&version["sha256"])]);
        }
        versions.print()
    })
}

/// An argument of a flow with its default.
fn argument(name: &str, default: &Value) -> String {
    if default.is_null() { format!("{name} (required)") } else { format!("{name}={default}") }
}
