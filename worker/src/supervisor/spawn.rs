//! From a specification to a running process: paths, environment, output, limits.
//!
//! The program gets nothing of the worker's own environment but where to find programs and how to write dates and text:
//! what the worker was started with (tokens, proxies with passwords) is not the task's to read.

use super::process::Process;
use crate::folder::{Paths, make_private};
use longshore_wire::task::TaskSpec;
use longshore_wire::{Digest, ShortId};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use tokio::process::{Child, Command};

/// What a task keeps of the worker's environment.
const INHERITED: [&str; 5] = ["PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ"];
/// Where programs are found when the worker itself has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// The runtime that runs an archive's own program.
const EXEC: &str = "exec";

/// Why there is no process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("this worker has no runtime '{0}'; it offers {1}")]
    Runtime(String, String),
    #[error("the flow's entry '{0}' is not a path inside the archive")]
    Entry(String),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("'{entry}' of archive {digest} cannot be run: {source}{why}")]
    Program { entry: String, digest: Digest, source: io::Error, why: &'static str },
    #[error("the memory limit cannot be set: {0}")]
    Limit(io::Error),
}

impl SpawnError {
    /// Whether another attempt would fail the same way: an archive never changes.
    pub(crate) fn is_lasting(&self) -> bool {
        match self {
            // A limit is refused when the worker itself has a lower one, and by then the program has begun.
            Self::Runtime(..) | Self::Entry(_) | Self::Limit(_) => true,
            Self::Program { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput
            ),
            Self::File { .. } => false,
        }
    }
}

/// Where a task runs, and as whom.
pub(crate) struct Surroundings<'a> {
    pub(crate) paths: &'a Paths,
    pub(crate) archive: &'a Path,
    pub(crate) log: &'a Path,
    pub(crate) socket: &'a Path,
    pub(crate) node: &'a str,
    pub(crate) short_id: Option<ShortId>,
    pub(crate) runtimes: &'a [String],
}

/// Makes a process, the leader of a new group, whose output goes straight to its file: it needs nothing of the worker to
/// go on.
pub(crate) fn spawn(spec: &TaskSpec, around: &Surroundings<'_>) -> Result<(Process, Child), SpawnError> {
    if spec.runtime != EXEC || !around.runtimes.iter().any(|runtime| runtime == EXEC) {
        return Err(SpawnError::Runtime(spec.runtime.clone(), around.runtimes.join(", ")));
    }
    let entry = spec.entry.first().map_or("", String::as_str);
    let program = inside(around.archive, entry).ok_or_else(|| SpawnError::Entry(entry.to_owned()))?;
    let data = around.paths.task_data(&spec.task);
    make_private(&data).map_err(|source| SpawnError::File { path: data.clone(), source })?;
    let mut command = Command::new(&program);
    command.args(spec.entry.iter().skip(1)).current_dir(around.archive).process_group(0).stdin(Stdio::null());
    let (out, err) = output(around.log).map_err(|source| SpawnError::File { path: around.log.to_owned(), source })?;
    command.stdout(out).stderr(err).env_clear().envs(environment(spec, around, &data));
    let child = command.spawn().map_err(|source| {
        // The system says the same of a program that is missing and of one that needs what is missing.
        let there = source.kind() == io::ErrorKind::NotFound && program.exists();
        let why = if there { "; its interpreter (the `#!` line) or loader is not on this machine" } else { "" };
        SpawnError::Program { entry: entry.to_owned(), digest: spec.digest, source, why }
    })?;
    finish(spec, child)
}

/// Sets the limits and names the process.
///
/// The limit is set from outside, right after the program has begun: it may have mapped more for an instant, and then
/// cannot map any further. The other way, a limit set between fork and exec, needs unsafe code.
fn finish(spec: &TaskSpec, child: Child) -> Result<(Process, Child), SpawnError> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).expect("a child that was not waited for has a pid");
    if let Some(bytes) = spec.limits.memory {
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        match prlimit(Pid::from_raw(pid), Resource::As, limit) {
            Ok(_) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => {
                let _ = rustix::process::kill_process_group(
                    Pid::from_raw(pid).expect("pids are positive"),
                    rustix::process::Signal::KILL,
                );
                return Err(SpawnError::Limit(error.into()));
            }
        }
    }
    // A program may end before it is looked at; its zombie still has a start time, but counts as ended.
    let process = Process::find(pid).unwrap_or_else(|_| Process::vanished(pid));
    Ok((process, child))
}

/// The path of a file of the archive; `None` when it would lie elsewhere.
fn inside(archive: &Path, entry: &str) -> Option<PathBuf> {
    let mut path = archive.to_owned();
    for part in Path::new(entry).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (path != archive).then_some(path)
}

/// Two handles that append: after a rotation has emptied the file they go on at its start.
fn output(path: &Path) -> io::Result<(Stdio, Stdio)> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    Ok((file.try_clone()?.into(), file.into()))
}

fn environment(spec: &TaskSpec, around: &Surroundings<'_>, data: &Path) -> Vec<(String, std::ffi::OsString)> {
    let mut variables = vec![("PATH".to_owned(), DEFAULT_PATH.into()), ("HOME".to_owned(), data.into())];
    variables
        .extend(INHERITED.into_iter().filter_map(|name| std::env::var_os(name).map(|value| (name.to_owned(), value))));
    let args = serde_json::to_string(&spec.args).expect("arguments came as JSON");
    let ours: [(&str, std::ffi::OsString); 11] = [
        ("SOCKET", around.socket.into()),
        ("ARGS", args.into()),
        ("APP", (&spec.app).into()),
        ("FLOW", (&spec.flow).into()),
        ("INSTANCE", (&spec.instance).into()),
        ("TASK", spec.task.as_str().into()),
        ("NODE", around.node.into()),
        ("SHORT_ID", around.short_id.map(|id| id.to_string()).unwrap_or_default().into()),
        ("PARTITIONS", "".into()),
        ("DATA", data.into()),
        ("VERSION", spec.version.to_string().into()),
    ];
    variables.extend(ours.into_iter().map(|(name, value)| (format!("LONGSHORE_{name}"), value)));
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stay_inside_the_archive() {
        let archive = Path::new("/cache/x");
        assert_eq!(inside(archive, "./bin/run"), Some(archive.join("bin/run")));
        for wrong in ["", ".", "/bin/sh", "../x", "a/../../b", ".."] {
            assert_eq!(inside(archive, wrong), None, "{wrong}");
        }
    }
}
