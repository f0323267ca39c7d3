//! A narrow line: a control node and a worker, each in a network namespace, with a shaped pair of interfaces between them.
//! The control node is also reached from here, unshaped. Takes everything away again when dropped.
//!
//! ```text
//! here 10.214.0.1 ── 10.214.0.2 control 10.214.0.5 ══ 100 Mbit/s each way ══ 10.214.0.6 worker
//! ```

use anyhow::Context as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

/// The control node, from here.
pub(super) const CONTROL: Ipv4Addr = Ipv4Addr::new(10, 214, 0, 2);
/// The control node, from the worker.
pub(super) const CONTROL_AT_LINE: Ipv4Addr = Ipv4Addr::new(10, 214, 0, 5);
const WORKER: Ipv4Addr = Ipv4Addr::new(10, 214, 0, 6);
/// Bytes that may pass at once.
const BURST: &str = "32kbit";

/// The two namespaces.
pub(super) struct Line {
    /// Of the control node.
    pub(super) control: String,
    /// Of the worker.
    pub(super) worker: String,
}

impl Line {
    /// Why there can be no line here, if so.
    pub(super) fn obstacle() -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("network namespaces need root".to_owned());
        }
        let missing = ["ip", "tc"].into_iter().find(|program| !runs(&[program, "-V"]));
        missing.map(|program| format!("`{program}` is missing (Debian: iproute2)"))
    }

    /// Sets everything up; `queue` is how long a packet may wait before it is dropped, `congestion` the sender's control.
    pub(super) fn new(queue: &str, congestion: &str) -> anyhow::Result<Self> {
        let name = format!("lsb{}", std::process::id());
        let line = Self { control: format!("{name}c"), worker: format!("{name}w") };
        let (near, far, left, right) = (format!("{name}0"), format!("{name}1"), format!("{name}2"), format!("{name}3"));
        let (control, worker) = (line.control.as_str(), line.worker.as_str());
        run(&["ip", "netns", "add", control])?;
        run(&["ip", "netns", "add", worker])?;
        run(&["ip", "link", "add", &near, "type", "veth", "peer", "name", &far, "netns", control])?;
        run(&["ip", "-n", control, "link", "add", &left, "type", "veth", "peer", "name", &right, "netns", worker])?;
        run(&["ip", "addr", "add", "10.214.0.1/30", "dev", &near])?;
        run(&["ip", "link", "set", &near, "up"])?;
        for (netns, device, address) in
            [(control, &far, CONTROL), (control, &left, CONTROL_AT_LINE), (worker, &right, WORKER)]
        {
            run(&["ip", "-n", netns, "addr", "add", &format!("{address}/30"), "dev", device])?;
            run(&["ip", "-n", netns, "link", "set", device, "up"])?;
            run(&["ip", "-n", netns, "link", "set", "lo", "up"])?;
        }
        for (netns, device, address) in [(control, &left, CONTROL_AT_LINE), (worker, &right, WORKER)] {
            let shape = ["root", "tbf", "rate", "100mbit", "burst", BURST, "latency", queue];
            run(&[&["tc", "-n", netns, "qdisc", "add", "dev", device], &shape[..]].concat())?;
            // By the route: a namespace's own setting may only name those that anybody may use.
            let route = ["replace", "10.214.0.4/30", "dev", device, "src", &address.to_string(), "congctl", congestion];
            run(&[&["ip", "-n", netns, "route"], &route[..]].concat())?;
        }
        Ok(line)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // The interfaces go with the namespaces.
        runs(&["ip", "netns", "del", &self.control]);
        runs(&["ip", "netns", "del", &self.worker]);
    }
}

/// An address at the control node.
pub(super) fn at(ip: Ipv4Addr, port: u16) -> SocketAddr {
    (ip, port).into()
}

fn command(words: &[&str]) -> Option<Command> {
    let (program, arguments) = words.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    Some(command)
}

fn runs(words: &[&str]) -> bool {
    command(words)
        .is_some_and(|mut command| command.stderr(Stdio::null()).status().is_ok_and(|status| status.success()))
}

fn run(words: &[&str]) -> anyhow::Result<()> {
    let shown = words.join(" ");
    let output = command(words).context("no command")?.output().with_context(|| format!("cannot run `{shown}`"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    anyhow::ensure!(output.status.success(), "`{shown}` failed: {said}");
    Ok(())
}
