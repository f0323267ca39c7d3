//! A cluster that writes to no disk, for tests.

use super::http;
use super::{limit, seconds};
use crate::process::{BINARY, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Bytes that a process has sent to a disk.
fn written(pid: u32) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap().parse().unwrap()
}

#[test]
fn a20_three_control_nodes_in_memory_are_up_and_down_at_once() {
    let start = Instant::now();
    let mut child = Command::new(BINARY)
        .args(["dev", "--memory", "--control", "3", "--workers", "0", "--transport", "tcp"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = Arc::<Mutex<String>>::default();
    let here = Arc::clone(&said);
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        stderr.lines().map_while(Result::ok).for_each(|line| here.lock().unwrap().push_str(&format!("{line}\n")));
    });
    let api = wait_for("the cluster to be up", || {
        let said = said.lock().unwrap().clone();
        let api = said.lines().find_map(|line| line.trim().strip_prefix("export LONGSHORE_API=http://"));
        api.and_then(|api| api.parse().ok()).ok_or(said)
    });
    println!("up: {:.2} s", start.elapsed().as_secs_f64());
    let status = http::call(api, "GET", "/v1/cluster", b"").unwrap().good().unwrap();
    assert_eq!(status["members"].as_array().map(Vec::len), Some(3), "{status}");
    http::call(api, "PUT", "/v1/kv/key", b"value").unwrap().good().unwrap();
    assert_eq!(http::call(api, "GET", "/v1/kv/key", b"").unwrap().body, b"value");
    assert_eq!(written(child.id()), 0, "nothing goes to a disk");
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::TERM).unwrap();
    let status = wait_for("its end", || child.try_wait().unwrap().ok_or_else(String::new));
    println!("up and down: {:.2} s", start.elapsed().as_secs_f64());
    reader.join().unwrap();
    let said = said.lock().unwrap().clone();
    assert!(status.success(), "{said}");
    assert!(said.contains("in memory"), "{said}");
    assert!(start.elapsed() < limit(seconds(5)), "it took {:?}", start.elapsed());
}
