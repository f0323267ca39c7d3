//! Processes by what names them beyond doubt: pid, start time and boot. It looks, waits and signals; it starts nothing.
//!
//! A pid alone may have been given to another program; together with the start time from `/proc/PID/stat` and the
//! kernel's boot id it names one process for ever. So a worker that was killed can tell its tasks from strangers.

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::io::{Interest, unix::AsyncFd};
use tokio::process::Child;

/// How often a process is looked at where the kernel has no pidfd (before Linux 5.3).
const POLL: Duration = Duration::from_millis(250);

/// One process, the leader of its own group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pid: i32,
    /// Clock ticks after the boot.
    start: u64,
    /// The kernel's id of that boot.
    boot: String,
}

impl Process {
    /// The process that has this pid now. Zombies count as ended.
    pub(crate) fn find(pid: i32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let start = running_since(&stat).ok_or(io::ErrorKind::NotFound)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        Ok(Self { pid, start, boot })
    }

    /// A process that ended before it could be looked at.
    pub(crate) const fn vanished(pid: i32) -> Self {
        Self { pid, start: 0, boot: String::new() }
    }

    #[cfg(test)]
    pub(crate) const fn fake(pid: i32) -> Self {
        Self::vanished(pid)
    }

    /// Whether it still runs. While this worker lacks what it takes to look, the process is taken to run: the other way a
    /// running task would be ended.
    pub(crate) fn is_alive(&self) -> bool {
        use rustix::io::Errno;
        match Self::find(self.pid) {
            Ok(found) => found == *self,
            Err(error) => Errno::from_io_error(&error)
                .is_some_and(|error| matches!(error, Errno::MFILE | Errno::NFILE | Errno::NOMEM)),
        }
    }

    /// Asks its group to end.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Forces its group to end.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if self.is_alive() {
            signal_group(self.pid, signal);
        }
    }

    /// Resolves when it has ended; tells how, if it was our child. What is left of its group is ended too: a task is its
    /// whole group, and a restarted one must not meet its former self.
    ///
    /// Our own child is still a zombie when its group is ended, so the pid cannot have been given away. A task of a former
    /// worker is reaped by init, and in the microseconds after that the number could name another group: the odds are
    /// those of a whole pid range used up in that time.
    pub(crate) async fn ended(self, child: Option<Child>) -> Option<i32> {
        self.gone().await;
        signal_group(self.pid, Signal::KILL);
        match child?.wait().await {
            Ok(status) => Some(exit_code(status)),
            Err(error) => {
                tracing::error!(pid = self.pid, %error, "the exit code of a task cannot be had");
                None
            }
        }
    }

    #[expect(
        deprecated,
        reason = "its replacement is unsafe; an owned descriptor that is handed over keeps the promise asked for"
    )]
    async fn gone(&self) {
        let pidfd = Pid::from_raw(self.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        // Looked at after the pidfd is open: what is alive then is what the pidfd stands for.
        if !self.is_alive() {
            return;
        }
        let Some(Ok(pidfd)) = pidfd.map(|pidfd| AsyncFd::with_interest(pidfd, Interest::READABLE)) else {
            while self.is_alive() {
                tokio::time::sleep(POLL).await;
            }
            return;
        };
        if let Err(error) = pidfd.readable().await.map(drop) {
            tracing::warn!(pid = self.pid, %error, "a pidfd cannot be waited on; the process is polled");
            while self.is_alive() {
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

fn signal_group(pid: i32, signal: Signal) {
    let Some(pid) = Pid::from_raw(pid) else { return };
    match kill_process_group(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => {
            tracing::warn!(%error, ?signal, group = pid.as_raw_nonzero(), "a task's group cannot be signalled")
        }
    }
}

/// 0 to 255, or 128 + the signal's number, as shells do.
fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Field 22 of `/proc/PID/stat` (proc_pid_stat(5)), unless the process is a zombie or dead. The name in field 2 may hold
/// anything, also `)`, so fields are counted from the last one.
fn running_since(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    match fields.next()? {
        "Z" | "X" | "x" => None,
        _ => fields.nth(18)?.parse().ok(),
    }
}

/// Group leaders of this user whose environment says that they are a task with its files below `tasks`, by task id.
///
/// Finds the process of a worker that was killed between making it and writing down its pid.
pub(crate) fn leaders_below(tasks: &Path) -> BTreeMap<String, Process> {
    let mut found: BTreeMap<String, Process> = BTreeMap::new();
    let Ok(entries) = fs::read_dir("/proc") else { return found };
    for pid in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { continue };
        let Some(task) = task_of(&environment, tasks) else { continue };
        if leads_its_group(pid)
            && let Ok(process) = Process::find(pid)
        {
            // A task may have made further groups; its own is the oldest.
            let oldest = found.entry(task).or_insert_with(|| process.clone());
            if process.start < oldest.start {
                *oldest = process;
            }
        }
    }
    found
}

fn task_of(environment: &[u8], tasks: &Path) -> Option<String> {
    let value = |name: &str| {
        let mut parts = environment.split(|byte| *byte == 0).filter_map(|part| std::str::from_utf8(part).ok());
        parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
    };
    let task = value("LONGSHORE_TASK")?;
    let data = tasks.join(task).join("data");
    (Path::new(value("LONGSHORE_DATA")?) == data).then(|| task.to_owned())
}

fn leads_its_group(pid: i32) -> bool {
    let pid = Pid::from_raw(pid);
    pid.is_some() && rustix::process::getpgid(pid).ok() == pid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines() {
        let line = "12 (a) Z) b) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 2 3";
        assert_eq!(running_since(line), Some(98765));
        assert_eq!(running_since(&line.replace(") S 1", ") Z 1")), None);
        assert_eq!(running_since("12"), None);
    }

    #[test]
    fn another_start_time_is_another_process() {
        let me = Process::find(std::process::id().try_into().unwrap()).unwrap();
        assert!(me.is_alive());
        assert!(!Process { start: me.start + 1, ..me.clone() }.is_alive());
        assert!(!Process { boot: "other".into(), ..me }.is_alive());
    }
}
