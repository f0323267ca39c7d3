//! Networks of their own for processes under test: one network namespace for each host, and a router between them that can
//! drop, delay and shape what passes. Must leave nothing behind, whatever fails.
//!
//! ```text
//! host 1  10.9.1.2 ─┐
//! host 2  10.9.2.2 ─┼─ router: 10.9.N.1, nftables, tbf
//! host 3  10.9.3.2 ─┘
//! ```

use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// What every name of a namespace begins with; then come the test process and a number.
const PREFIX: &str = "lsnet";

/// Some hosts and their router. The namespaces go with this value.
pub(crate) struct Net {
    name: String,
    hosts: u8,
}

impl Net {
    /// Hosts 1 to `hosts`; `None`, said loudly, when this machine lets the test have none.
    pub(crate) fn new(test: &str, hosts: u8) -> Option<Self> {
        let net = Self::try_new(hosts);
        if let Err(why) = &net {
            // Past the capture of a test's output: a skip must be seen.
            drop(writeln!(io::stderr(), "\n!!! SKIPPED: {test} did not run and shows nothing: {why}\n"));
        }
        net.ok()
    }

    fn try_new(hosts: u8) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        if !rustix::process::geteuid().is_root() {
            return Err("network namespaces need root".to_owned());
        }
        for (program, version) in [("ip", "-V"), ("nft", "-v"), ("tc", "-V")] {
            run(&[program, version])?;
        }
        sweep();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // From here on a failure takes everything away again.
        let net = Self { name: format!("{PREFIX}-{}-{number}", std::process::id()), hosts };
        let router = net.router();
        run(&["ip", "netns", "add", &router])?;
        run(&["ip", "netns", "exec", &router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
        for number in 1..=hosts {
            net.connect(number)?;
        }
        Ok(net)
    }

    fn connect(&self, number: u8) -> Result<(), String> {
        let (router, host, port) = (self.router(), self.host(number), format!("port{number}"));
        let (gateway, address) = (format!("10.9.{number}.1"), format!("10.9.{number}.2/24"));
        run(&["ip", "netns", "add", &host])?;
        // Else the first address of a network takes the others with it.
        let promote = "echo 1 > /proc/sys/net/ipv4/conf/all/promote_secondaries";
        run(&["ip", "netns", "exec", &host, "sh", "-c", promote])?;
        run(&["ip", "link", "add", "eth0", "netns", &host, "type", "veth", "peer", "name", &port, "netns", &router])?;
        run(&["ip", "-n", &router, "addr", "add", &format!("{gateway}/24"), "dev", &port])?;
        run(&["ip", "-n", &router, "link", "set", &port, "up"])?;
        run(&["ip", "-n", &host, "link", "set", "lo", "up"])?;
        run(&["ip", "-n", &host, "addr", "add", &address, "dev", "eth0"])?;
        run(&["ip", "-n", &host, "link", "set", "eth0", "up"])?;
        run(&["ip", "-n", &host, "route", "add", "default", "via", &gateway]).map(drop)
    }

    fn router(&self) -> String {
        format!("{}-r", self.name)
    }

    /// The namespace of a host.
    pub(crate) fn host(&self, number: u8) -> String {
        format!("{}-h{number}", self.name)
    }

    /// The first address of a host.
    pub(crate) fn address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 9, number, 2)
    }

    /// What the router does with packets from now on: nftables rules, one a line, in place of those before. It says
    /// nothing of what it drops.
    pub(crate) fn rules(&self, rules: &str) {
        let text = format!(
            "flush ruleset\ntable inet test {{\nchain forward {{\ntype filter hook forward priority 0;\n{rules}\n}}\n\
             chain output {{\ntype filter hook output priority 0;\nicmp type destination-unreachable drop\n}}\n}}\n"
        );
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.router(), "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "nft refuses {rules:?}");
    }

    /// Lets everything pass again.
    pub(crate) fn heal(&self) {
        self.rules("");
    }

    /// Limits what reaches a host, for example to `20mbit`.
    pub(crate) fn shape(&self, number: u8, rate: &str) {
        let (router, port) = (self.router(), format!("port{number}"));
        must(&[
            "tc", "-n", &router, "qdisc", "add", "dev", &port, "root", "tbf", "rate", rate, "burst", "32kb", "latency",
            "100ms",
        ]);
    }

    /// The way to a host takes no larger packets from now on, and the router tells nobody.
    pub(crate) fn narrow(&self, number: u8, mtu: u16) {
        self.rules("");
        must(&["ip", "-n", &self.router(), "link", "set", &format!("port{number}"), "mtu", &mtu.to_string()]);
    }

    /// Gives a host another address of its network, and takes the one it had.
    pub(crate) fn renumber(&self, number: u8, from: u8, to: u8) {
        let host = self.host(number);
        must(&["ip", "-n", &host, "addr", "add", &format!("10.9.{number}.{to}/24"), "dev", "eth0"]);
        must(&["ip", "-n", &host, "addr", "del", &format!("10.9.{number}.{from}/24"), "dev", "eth0"]);
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let hosts = (1..=self.hosts).map(|number| self.host(number));
        for namespace in hosts.chain([self.router()]) {
            // Tasks outlive their worker, but not their network.
            for process in run(&["ip", "netns", "pids", &namespace]).unwrap_or_default().split_whitespace() {
                drop(run(&["kill", "-KILL", process]));
            }
            // One that was never made is none to take away.
            drop(run(&["ip", "netns", "del", &namespace]));
        }
    }
}

/// Takes away what killed test processes left behind.
fn sweep() {
    let names = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        let mut parts = name.split('-');
        let ours = parts.next() == Some(PREFIX);
        let process = parts.next().and_then(|part| part.parse::<u32>().ok());
        if ours && process.is_some_and(|process| !std::path::Path::new(&format!("/proc/{process}")).exists()) {
            drop(run(&["ip", "netns", "del", &name]));
        }
    }
}

fn must(command: &[&str]) {
    run(command).unwrap_or_else(|why| panic!("{why}"));
}

fn run(command: &[&str]) -> Result<String, String> {
    let output = Command::new(command[0]).args(&command[1..]).output();
    let output = output.map_err(|error| format!("{}: {error}", command[0]))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{}: {}", command.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
    }
}
