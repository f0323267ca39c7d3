//! A node of a peer: a child process with a folder of its own, killed and started again as the benchmark wants.

use anyhow::Context as _;
use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::process::{Child, Command};

/// How one is started.
pub(super) struct Node {
    /// Found by the system's search path.
    pub(super) program: &'static str,
    pub(super) arguments: Vec<OsString>,
    /// What to do when there is no such program.
    pub(super) advice: &'static str,
    /// Where its output goes.
    pub(super) log: PathBuf,
    /// Where it serves clients.
    pub(super) address: SocketAddr,
    /// Killed when dropped.
    pub(super) child: Option<Child>,
}

impl Node {
    /// Starts it, or starts it again.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let child = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow::anyhow!("{} is not installed: {}", self.program, self.advice),
            _ => anyhow::Error::from(error).context(format!("{} cannot be started", self.program)),
        });
        self.child = Some(child?);
        Ok(())
    }

    /// Cuts it with SIGKILL, and waits for its end.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("this node does not run")?;
        Ok(child.kill().await?)
    }

    /// Its process id.
    pub(super) fn pid(&self) -> anyhow::Result<u32> {
        self.child.as_ref().and_then(Child::id).context("this node does not run")
    }

    /// Fails with its log when it has ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
        let Some(status) = ended else { return Ok(()) };
        let log = std::fs::read_to_string(&self.log)?;
        anyhow::bail!("{} ended ({status}):\n{log}", self.program)
    }
}
