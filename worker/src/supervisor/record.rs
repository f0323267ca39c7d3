//! A task as it lies on the disk, so that a worker that was killed finds it again.
//!
//! Written before each step that must not be forgotten: before a process is made, and as soon as its pid is known.

use super::machine::{Machine, Now, Phase, Then};
use super::process::Process;
use crate::folder::{Paths, check_task_id, make_private, replace};
use longshore_wire::TaskId;
use longshore_wire::task::{TaskSpec, TaskState};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Version of the format.
const FORMAT: u32 = 1;
/// How long the output and the files of a forgotten task are kept: long enough to look into what happened, and to find
/// them again when the instance is started anew.
const KEEP_FORGOTTEN: Duration = Duration::from_secs(7 * 24 * 3600);
const NAME: &str = "task.json";

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    format: u32,
    spec: TaskSpec,
    step: Step,
    runs: u32,
    exit_code: Option<i32>,
    since_ms: u64,
    message: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Waiting,
    Starting,
    Running { process: Process },
    Stopping { process: Process, then: Then },
    Ended { state: TaskState },
}

impl Record {
    /// What must be remembered of a task.
    pub(crate) fn of(machine: &Machine) -> Self {
        let step = match &machine.phase {
            Phase::Waiting { .. } => Step::Waiting,
            Phase::Starting => Step::Starting,
            Phase::Running { process, .. } => Step::Running { process: process.clone() },
            Phase::Stopping { process, .. } => Step::Stopping { process: process.clone(), then: machine.then.clone() },
            Phase::Ended(state) => Step::Ended { state: *state },
        };
        Self {
            format: FORMAT,
            spec: machine.spec.clone(),
            step,
            runs: machine.runs,
            exit_code: machine.exit_code,
            since_ms: machine.since_ms,
            message: machine.message.clone(),
        }
    }

    /// Writes it down; it lasts when this returns.
    pub(crate) fn write(&self, paths: &Paths) -> io::Result<()> {
        let folder = paths.task(&self.spec.task);
        make_private(&folder)?;
        replace(&folder.join(NAME), &serde_json::to_vec_pretty(self)?)
    }

    /// The task as it stands after the worker was away. `leaders` are the processes that look like tasks of this worker;
    /// the one of this task is taken out. `None` when the task was being removed and is gone.
    pub(crate) fn revive(self, leaders: &mut BTreeMap<String, Process>, now: Now) -> Option<Machine> {
        let mut machine = Machine::new(self.spec, now);
        machine.runs = self.runs;
        machine.exit_code = self.exit_code;
        machine.since_ms = self.since_ms;
        machine.message = self.message;
        let leader = leaders.remove(machine.spec.task.as_str());
        match self.step {
            Step::Waiting => {}
            Step::Ended { state } => machine.phase = Phase::Ended(state),
            Step::Starting => {
                if let Some(process) = leader {
                    machine.started(process, now);
                }
            }
            Step::Running { process } => {
                let alive = process.is_alive();
                machine.phase = Phase::Running { process, since: now.instant };
                if !alive {
                    machine.ended(None, now);
                }
            }
            // Half stopped with its former worker: it goes to its end, and then its policy decides.
            Step::Stopping { process, then } => {
                let alive = process.is_alive();
                machine.phase = Phase::Stopping { process, kill_at: Some(now.instant + super::machine::STOP_GRACE) };
                machine.then = then;
                if !alive && machine.ended(None, now).is_some() {
                    return None;
                }
            }
        }
        Some(machine)
    }

    /// The archive that it needs.
    pub(crate) const fn spec(&self) -> &TaskSpec {
        &self.spec
    }
}

/// All records. A damaged one is set aside and reported: one bad file must not keep the others from running.
pub(crate) fn read_all(paths: &Paths) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    for entry in fs::read_dir(paths.tasks())? {
        let path = entry?.path().join(NAME);
        match read(&path) {
            Ok(record) => records.push(record),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => {
                let aside = path.with_extension("damaged");
                let moved = fs::rename(&path, &aside);
                tracing::error!(path = %path.display(), %error, set_aside = moved.is_ok(), "a task's record is damaged");
            }
        }
    }
    Ok(records)
}

fn read(path: &Path) -> io::Result<Record> {
    let record: Record = serde_json::from_slice(&fs::read(path)?)?;
    let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let fits = record.format == FORMAT && folder == Some(record.spec.task.as_str()) && check_task_id(&record.spec.task);
    if fits { Ok(record) } else { Err(io::Error::other("the format or the task's name does not fit")) }
}

/// Removes a task's record. Its output and its own files stay for [`KEEP_FORGOTTEN`].
pub(crate) fn forget(paths: &Paths, task: &TaskId) -> io::Result<()> {
    match fs::remove_file(paths.task(task).join(NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sweep(paths),
    }
}

/// Removes what is left of tasks that were forgotten long ago. What cannot be removed stays and is told: it is no reason
/// to run nothing.
pub(crate) fn sweep(paths: &Paths) -> io::Result<()> {
    for entry in fs::read_dir(paths.tasks())? {
        let path = entry?.path();
        if let Err(error) = sweep_one(&path) {
            tracing::warn!(path = %path.display(), %error, "what a forgotten task has left cannot be removed");
        }
    }
    Ok(())
}

fn sweep_one(path: &Path) -> io::Result<()> {
    // The folder's time is that of the record's removal, or of a later rotation of the log.
    let age = SystemTime::now().duration_since(fs::symlink_metadata(path)?.modified()?).unwrap_or_default();
    // A task may have left folders read-only.
    if age > KEEP_FORGOTTEN && !path.join(NAME).exists() { longshore_archive::remove(path) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;
    use crate::supervisor::machine::STOP_GRACE;
    use crate::testing::spec;
    use longshore_wire::task::RestartPolicy;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    fn age(path: &Path) {
        let file = fs::File::open(path).unwrap();
        file.set_modified(SystemTime::now() - KEEP_FORGOTTEN - Duration::from_secs(60)).unwrap();
    }

    #[test]
    fn leftovers_go_and_a_stubborn_one_stops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Folder::open(dir.path()).unwrap().paths();
        let stray = paths.tasks().join("stray");
        fs::write(&stray, "no task's").unwrap();
        age(&stray);
        std::os::unix::fs::symlink("/nowhere", paths.tasks().join("dangling")).unwrap();
        let left = paths.tasks().join("old-1");
        fs::create_dir_all(left.join("data/sealed")).unwrap();
        fs::write(left.join("data/sealed/file"), "").unwrap();
        fs::set_permissions(left.join("data/sealed"), fs::Permissions::from_mode(0o555)).unwrap();
        age(&left);
        sweep(&paths).unwrap();
        assert!(!left.exists());
        assert!(read_all(&paths).unwrap().is_empty());
    }

    #[test]
    fn a_worker_killed_while_stopping_keeps_to_the_policy() {
        let now = Now { instant: Instant::now(), unix_ms: 1 };
        for (restart, expected) in
            [(RestartPolicy::Never, TaskState::Stopped), (RestartPolicy::OnFailure, TaskState::Pending)]
        {
            let mut machine = Machine::new(longshore_wire::task::TaskSpec { restart, ..spec("t-1", &["x"]) }, now);
            machine.tick(now);
            machine.started(Process::fake(7), now);
            machine.stop(Then::Rest, STOP_GRACE, now);
            let revived = Record::of(&machine).revive(&mut BTreeMap::new(), now).unwrap();
            assert_eq!(revived.status().state, expected);
        }
    }
}
