//! A DNS server in a network namespace: this test program once more, since a thread cannot move there without unsafe code.

use crate::dns::Dns;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

/// Holds the address and the records for the copy that serves.
const TOLD: &str = "LONGSHORE_TEST_DNS";

/// The other process; ends with this value.
pub(crate) struct DnsProcess(Child);

impl DnsProcess {
    /// Starts to serve `records` (see [`Dns::serve`]) on port 5353 of `ip`.
    pub(crate) fn start(namespace: &str, ip: Ipv4Addr, records: &str) -> Self {
        let child = Command::new("ip")
            .args(["netns", "exec", namespace])
            .arg(std::env::current_exe().unwrap())
            .args(["netns_dns::the_copy_that_serves", "--exact"])
            .env(TOLD, format!("{ip} {records}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for DnsProcess {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn the_copy_that_serves() {
    let Ok(told) = std::env::var(TOLD) else { return };
    let (ip, records) = told.split_once(' ').unwrap();
    let _dns = Dns::serve(ip.parse().unwrap(), records);
    loop {
        std::thread::park();
    }
}
