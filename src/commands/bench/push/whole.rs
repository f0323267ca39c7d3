//! A whole push: the archive's file on a control node → a worker's cache, digest checked and unpacked as it comes.
//!
//! Each push goes to a new worker, which lacks the archive. Its folder tells when the first bytes came, when all had come,
//! and when it was ready: a sync later.

use super::super::children::Children;
use crate::args::app::Deploy;
use crate::args::flow::Start;
use crate::commands::{app, flow};
use anyhow::Context as _;
use longshore_wire::Transport;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// The app.
const APP: &str = "bulk";
/// Room for what an archive holds besides the bulk: a whole archive may be no larger than 1 GiB.
const REST: u64 = 1 << 20;
/// Pause between two looks into the worker's folder.
const LOOK: Duration = Duration::from_millis(1);
/// Time for one push.
const PATIENCE: Duration = Duration::from_secs(300);

/// A cluster with an archive that every worker shall have.
pub(super) struct Whole {
    children: Children,
    transport: Transport,
    size: u64,
    workers: u32,
}

/// How long a push took, from its first bytes.
pub(super) struct Pushed {
    /// Until all bytes were in their files.
    pub(super) unpacked: Duration,
    /// Until the archive could be used.
    pub(super) ready: Duration,
}

impl Whole {
    pub(super) async fn start(transport: Transport, size: u64) -> anyhow::Result<Self> {
        let mut children = Children::new(None)?;
        children.control(&[transport])?;
        children.wait("/v1/nodes", |nodes| !nodes.is_empty()).await?;
        let size = size.saturating_sub(REST).max(REST);
        wish(&children, size).await?;
        Ok(Self { children, transport, size, workers: 0 })
    }

    /// Pushes to one more worker.
    pub(super) async fn push(&mut self) -> anyhow::Result<Pushed> {
        self.workers += 1;
        let name = format!("worker-{}", self.workers);
        self.children.worker_named(&name, None, self.transport)?;
        let cache = cache(&self.children, &name);
        let pushed = watch(&cache, self.size).await?;
        self.children.kill(&name).await?;
        // Gigabytes: they do not wait for the end of the benchmark.
        fs::remove_dir_all(self.children.folder().join(&name)).or_else(|_| open_up(&cache, &self.children, &name))?;
        Ok(pushed)
    }
}

/// Where a worker keeps its archives.
pub(super) fn cache(children: &Children, worker: &str) -> PathBuf {
    children.folder().join(worker).join("cache")
}

/// Deploys an app of so many bytes, and wishes it on all workers.
pub(super) async fn wish(children: &Children, size: u64) -> anyhow::Result<()> {
    let dir = children.folder().join("app");
    make(&dir, size)?;
    let client = children.api(0)?;
    app::deploy(&client, &Deploy { path: dir.clone(), name: None }).await.context("the app is not taken")?;
    fs::remove_dir_all(&dir)?;
    let (on, name) = ("all".to_owned(), Some("bulk".to_owned()));
    flow::start(&client, &Start { flow: APP.to_owned(), name, on, selector: None, args: Vec::new(), wait: false })
        .await?;
    Ok(())
}

fn make(dir: &Path, size: u64) -> anyhow::Result<()> {
    fs::create_dir(dir)?;
    fs::write(
        dir.join("app.toml"),
        format!("name = \"{APP}\"\nruntime = \"exec\"\n[flows.main]\nentry = [\"./rest.sh\"]\n"),
    )?;
    fs::write(dir.join("rest.sh"), "#!/bin/sh\nexec sleep 3600\n")?;
    fs::set_permissions(dir.join("rest.sh"), fs::Permissions::from_mode(0o755))?;
    let mut random = vec![0; 1 << 20];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let mut file = File::create(dir.join("bulk"))?;
    for _ in 0..size.div_ceil(random.len() as u64) {
        file.write_all(&random)?;
    }
    file.set_len(size)?;
    Ok(())
}

async fn watch(cache: &Path, size: u64) -> anyhow::Result<Pushed> {
    let begin = Instant::now();
    let (mut start, mut stored) = (None, None);
    loop {
        let now = Instant::now();
        match look(cache) {
            Seen::Nothing => (),
            Seen::Coming(bytes) => {
                start.get_or_insert(now);
                if bytes >= size {
                    stored.get_or_insert(now);
                }
            }
            Seen::Ready => {
                let start = start.context("the archive came between two looks; choose a larger --size")?;
                return Ok(Pushed { unpacked: stored.unwrap_or(now) - start, ready: now - start });
            }
        }
        anyhow::ensure!(begin.elapsed() < PATIENCE, "the archive was not pushed within {PATIENCE:?}");
        sleep(LOOK).await;
    }
}

/// What a worker's cache holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing.
    Nothing,
    /// So many bytes of an archive.
    Coming(u64),
    /// An archive.
    Ready,
}

/// Looks into a worker's cache.
pub(super) fn look(cache: &Path) -> Seen {
    let Ok(entries) = fs::read_dir(cache) else { return Seen::Nothing };
    let mut seen = Seen::Nothing;
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with('.') {
            return Seen::Ready;
        }
        if name.to_string_lossy().ends_with(".partial") {
            let files = fs::read_dir(entry.path()).into_iter().flatten().flatten();
            seen = Seen::Coming(files.map(|file| file.metadata().map_or(0, |meta| meta.len())).sum());
        }
    }
    seen
}

/// Removes a worker's folder, whose archives are read-only.
fn open_up(cache: &Path, children: &Children, worker: &str) -> std::io::Result<()> {
    for entry in fs::read_dir(cache)?.flatten() {
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o700))?;
    }
    fs::remove_dir_all(children.folder().join(worker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_tells_how_far_it_is() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(look(&dir.path().join("none")), Seen::Nothing);
        fs::create_dir(dir.path().join(".0123.partial")).unwrap();
        fs::write(dir.path().join(".0123.partial/bulk"), "half").unwrap();
        assert_eq!(look(dir.path()), Seen::Coming(4));
        fs::create_dir(dir.path().join("0123")).unwrap();
        assert_eq!(look(dir.path()), Seen::Ready);
    }
}
