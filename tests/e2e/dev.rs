//! `longshore dev`: a whole cluster in one process.

use crate::process::BINARY;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn dev_runs_an_app_to_its_end() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/counter");
    let output = Command::new(BINARY)
        .args(["dev", "--once"])
        .arg(folder)
        .stdin(Stdio::null())
        .output()
        .expect("the built program starts");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "stdout:\n{stdout}\nstderr:\n{stderr}");
    for worker in ["worker-1", "worker-2"] {
        let done = stdout.lines().any(|line| line.contains(worker) && line.contains("done"));
        assert!(done, "the output of {worker} is shown under its name:\n{stdout}\n{stderr}");
    }
}
