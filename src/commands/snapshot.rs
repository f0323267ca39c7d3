//! `longshore snapshot`: the whole state as a file.

use super::Remote;
use crate::args::Globals;
use crate::args::snapshot::{Restore, Snapshot};
use crate::client::Call;
use crate::output::{self, Format, size};
use anyhow::Context as _;
use longshore_control::{Counts, Founded, Summary};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) async fn snapshot(globals: &Globals, args: Snapshot) -> anyhow::Result<()> {
    match args {
        Snapshot::Save { file } => save(&Remote::new(globals)?, &file).await,
        Snapshot::Verify { file } => {
            let summary = longshore_control::verify(&file)?;
            print(&summary, &file, globals.format(), "is whole")
        }
        Snapshot::Restore(args) => restore(&args, globals.format()).await,
    }
}

/// The file gets its name when all of it is there, synced and checked.
async fn save(remote: &Remote, file: &Path) -> anyhow::Result<()> {
    let unfinished = Unfinished::beside(file);
    let mut answer = remote.client.open(Call::get("/v1/snapshot")).await?;
    let writing = || format!("cannot write {}", unfinished.0.display());
    let opened = File::options().write(true).create(true).truncate(true).mode(0o600).open(&unfinished.0);
    let mut out = opened.with_context(writing)?;
    while let Some(piece) = tokio::time::timeout(remote.client.timeout(), answer.chunk())
        .await
        .context("the snapshot broke off: nothing came within --timeout")??
    {
        out.write_all(&piece).with_context(writing)?;
    }
    out.sync_all().with_context(writing)?;
    let summary = longshore_control::verify(&unfinished.0).context("what the API sent is no whole snapshot")?;
    fs::rename(&unfinished.0, file).with_context(|| format!("cannot rename it to {}", file.display()))?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(writing)?;
    print(&summary, file, remote.format, "is saved")
}

/// A file that is removed unless it was renamed.
struct Unfinished(PathBuf);

impl Unfinished {
    fn beside(file: &Path) -> Self {
        let mut name = file.file_name().map_or_else(OsString::new, OsString::from);
        name.push(".tmp");
        Self(file.with_file_name(name))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

async fn restore(args: &Restore, format: Format) -> anyhow::Result<()> {
    let (summary, founded) = longshore_control::restore(&args.file, &args.data).await?;
    if format == Format::Json {
        return output::json(&json!({"snapshot": describe(&summary), "node": founded.node, "data": args.data}));
    }
    print(&summary, &args.file, format, "is restored")?;
    next_steps(&founded, &args.data, &summary.cluster)?;
    archives(&summary.archives)
}

/// What the operator does after a group was founded anew.
pub(super) fn next_steps(founded: &Founded, data: &Path, cluster: &str) -> anyhow::Result<()> {
    let data = data.display();
    output::line("")?;
    output::line(&format!("{data} now holds control node {}, the only member of '{cluster}'.", founded.node))?;
    if let Some(kept) = &founded.kept {
        output::line(&format!("What was there is kept in {}; remove it when all is well.", kept.display()))?;
    }
    output::line(
        "Next: 1. No other control node of the former group may run, or ever start again with its old data folder.",
    )?;
    output::line("      2. Start this node: `longshore run -c FILE`, without --bootstrap.")?;
    output::line("      3. Empty the data folders of the other control nodes, then start them: they join anew.")?;
    output::line("      Workers come back by themselves, with the secrets that they have.")
}

fn archives(archives: &[(longshore_wire::Digest, u64)]) -> anyhow::Result<()> {
    if archives.is_empty() {
        return Ok(());
    }
    output::line("")?;
    output::line(
        "Archives of apps are not in a snapshot. Workers keep those that they have; for all else put the files",
    )?;
    output::line("back into the folder `blobs` of the data folder, or deploy the apps again:")?;
    archives.iter().try_for_each(|(digest, bytes)| output::line(&format!("  {digest}  {}", size(*bytes))))
}

fn print(summary: &Summary, file: &Path, format: Format, what: &str) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(&describe(summary));
    }
    output::line(&format!("{} {what}", file.display()))?;
    let age = summary.taken_ms.map_or_else(|| "unknown: it comes out of a data folder".to_owned(), age);
    let rows = [
        ("cluster", format!("{} ({})", summary.cluster, summary.cluster_id)),
        ("reaches", format!("log index {}, term {}, KV revision {}", summary.index, summary.term, summary.kv_revision)),
        ("taken", age),
        ("size", size(summary.size)),
        ("holds", counted(&summary.counts)),
    ];
    rows.iter().try_for_each(|(name, text)| output::line(&format!("{name:<8} {}", output::plain(text))))
}

pub(super) fn counted(counts: &Counts) -> String {
    let Counts { control_nodes, workers, credentials, apps, instances, tasks, keys } = counts;
    format!(
        "{control_nodes} control nodes, {workers} workers, {credentials} credentials, {apps} apps, {instances} flows, {tasks} tasks, {keys} keys"
    )
}

fn age(taken_ms: u64) -> String {
    let taken = UNIX_EPOCH + Duration::from_millis(taken_ms);
    let seconds = SystemTime::now().duration_since(taken).unwrap_or_default().as_secs();
    let age = humantime::format_duration(Duration::from_secs(seconds));
    format!("{}, {age} ago", humantime::format_rfc3339_seconds(taken))
}

fn describe(summary: &Summary) -> Value {
    let archives = summary.archives.iter().map(|(digest, size)| json!({"digest": digest, "size": size}));
    json!({
        "cluster": summary.cluster,
        "cluster_id": summary.cluster_id,
        "index": summary.index,
        "term": summary.term,
        "kv_revision": summary.kv_revision,
        "taken_ms": summary.taken_ms,
        "size": summary.size,
        "counts": counts(&summary.counts),
        "archives": archives.collect::<Vec<_>>(),
    })
}

pub(super) fn counts(counts: &Counts) -> Value {
    let Counts { control_nodes, workers, credentials, apps, instances, tasks, keys } = counts;
    json!({
        "control_nodes": control_nodes, "workers": workers, "credentials": credentials, "apps": apps,
        "instances": instances, "tasks": tasks, "keys": keys,
    })
}
