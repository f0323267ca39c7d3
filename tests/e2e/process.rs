//! A `longshore` process under test, and calls of its command line.

use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// The built program.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_longshore");
/// How long anything may take before a test fails. Generous: tests must not depend on speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until `probe` gives a value.
///
/// # Panics
/// When that takes longer than [`PATIENCE`]; the message holds the last complaint.
pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(why) if start.elapsed() > PATIENCE => panic!("waited {PATIENCE:?} for {what}: {why}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// A process that runs a configuration file.
pub(crate) struct Process {
    pub(crate) name: String,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    /// The network namespace that it runs in.
    namespace: Option<String>,
    /// Environment variables of its own.
    variables: Vec<(String, String)>,
}

impl Process {
    /// Prepares a process for `config`; its log goes beside the file.
    pub(crate) fn new(name: &str, config: PathBuf) -> Self {
        let log = config.with_extension("log");
        Self { name: name.to_owned(), config, log, child: None, namespace: None, variables: Vec::new() }
    }

    /// The same, in a network namespace.
    pub(crate) fn inside(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// The same, with an environment variable.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs another command of the program on its configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("-c").arg(&self.config).stdin(Stdio::null());
        self.environment(&mut command);
        command.output().expect("the built program runs")
    }

    /// Sets its variables, and takes away what would send it through a proxy of the machine that runs the tests.
    fn environment(&self, command: &mut Command) {
        for name in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }

    /// Starts it.
    pub(crate) fn start(&mut self, arguments: &[&str]) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = match &self.namespace {
            // It becomes the program, so the process id is the same.
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace, BINARY]);
                command
            }
            None => Command::new(BINARY),
        };
        self.environment(&mut command);
        let child = command
            .args(["run", "-c"])
            .arg(&self.config)
            .args(arguments)
            .env("LONGSHORE_LOG", "info")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("the built program starts");
        self.child = Some(child);
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Halts it with SIGSTOP, and waits until none of its threads runs any more.
    pub(crate) fn halt(&self) {
        self.signal(rustix::process::Signal::STOP);
        wait_for(&format!("{} to halt", self.name), || {
            let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).map_err(|error| error.to_string())?;
            for thread in threads.flatten() {
                let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
                // The state is the first field behind the name, which is in brackets.
                let halted = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'));
                halted.then_some(()).ok_or_else(|| stat.clone())?;
            }
            Ok(())
        });
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Cuts it with SIGKILL and waits for its end.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            child.wait().expect("a killed process ends");
        }
    }

    /// Asks it to end with SIGTERM, and waits.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.end()
    }

    /// Waits for it to end by itself.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("it runs");
        let status = wait_for(&format!("the end of {}", self.name), || {
            child.try_wait().unwrap().ok_or_else(|| "it still runs".to_owned())
        });
        self.child = None;
        status
    }

    /// What it has written so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for a line of its log that holds all of `parts`.
    pub(crate) fn wait_log(&self, parts: &[&str]) -> String {
        wait_for(&format!("a line of {} with {parts:?}", self.name), || {
            let log = self.log();
            let line = log.lines().find(|line| parts.iter().all(|part| line.contains(part)));
            line.map(str::to_owned).ok_or_else(|| format!("its log so far:\n{log}"))
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- last lines of {}:", self.name);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// The command line, pointed at one API.
#[derive(Clone)]
pub(crate) struct Cli {
    api: String,
}

impl Cli {
    /// Commands go to this API.
    pub(crate) fn new(api: &str) -> Self {
        Self { api: api.to_owned() }
    }

    /// Runs a command.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.spawn(arguments).wait_with_output().expect("its output can be read")
    }

    /// Starts a command; its output is piped.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        Command::new(BINARY)
            .args(arguments)
            .env("LONGSHORE_API", &self.api)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the built program starts")
    }

    /// Runs a command that must succeed, and gives what it prints.
    pub(crate) fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "longshore {arguments:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).expect("output is UTF-8")
    }

    /// Runs a command with `-o json`; an `Err` holds what it says on standard error.
    pub(crate) fn try_json(&self, arguments: &[&str]) -> Result<Value, String> {
        let output = self.run(&[arguments, &["-o", "json"]].concat());
        if !output.status.success() {
            return Err(stderr(&output));
        }
        serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("longshore {arguments:?} prints no JSON: {error}"))
    }

    /// Runs a command with `-o json` that must succeed.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        self.try_json(arguments).unwrap_or_else(|why| panic!("longshore {arguments:?}: {why}"))
    }
}

/// What a command wrote on standard error.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

/// The local TCP addresses on which process `pid` listens, out of /proc/net.
pub(crate) fn listening(pid: u32) -> Vec<String> {
    let inodes: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("the process lives")
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|target| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned))
        .collect();
    let mut found = Vec::new();
    const LISTEN: &str = "0A";
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(Path::new("/proc/net").join(table)).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields[3] == LISTEN && inodes.iter().any(|inode| inode == fields[9]) {
                found.push(format!("{table} {}", fields[1]));
            }
        }
    }
    found
}
