//! The command line as scripts rely on it: exit codes, data on standard output, a graceful end.

use crate::process::{Cli, stderr};
use crate::single::Single;
use std::io::Write as _;
use std::process::{Command, Stdio};

fn code(cli: &Cli, arguments: &[&str]) -> i32 {
    let output = cli.run(arguments);
    output.status.code().unwrap_or_else(|| panic!("{arguments:?} was killed: {}", stderr(&output)))
}

#[test]
fn exit_codes_and_raw_values() {
    let mut single = Single::start();
    let cli = single.cli();
    assert_eq!(code(&cli, &["kv", "get", "absent"]), 3);
    assert_eq!(code(&cli, &["kv", "put", "key", "-value"]), 0);
    assert_eq!(cli.text(&["kv", "get", "key"]), "-value");
    let revision = cli.json(&["kv", "get", "key"])["revision"].as_u64().expect("a revision").to_string();
    assert_eq!(code(&cli, &["kv", "cas", "key", "second", "--revision", &revision]), 0);
    assert_eq!(code(&cli, &["kv", "cas", "key", "third", "--revision", &revision]), 4);
    assert_eq!(code(&cli, &["kv", "cas", "key", "third", "--revision", "0"]), 4);
    assert_eq!(code(&cli, &["kv", "cas", "a b/ü?&", "odd", "--revision", "0"]), 0);
    assert_eq!(cli.text(&["kv", "get", "a b/ü?&", "--local"]), "odd");
    assert_eq!(cli.json(&["kv", "list", "a b"])["entries"][0]["key"], "a b/ü?&");
    assert_eq!(code(&cli, &["kv", "delete", "key"]), 0);
    assert_eq!(code(&cli, &["node", "list", "--where", ";;"]), 2);
    assert_eq!(code(&cli, &["node", "show", "nobody"]), 3);
    assert_eq!(code(&cli, &["flow", "start", "nothing"]), 3);
    assert_eq!(code(&cli, &["request", "control-1", "echo", "not json"]), 2);
    assert_eq!(code(&cli, &["-o", "yaml", "node", "list"]), 2);
    assert_eq!(code(&Cli::new("http://127.0.0.1:9"), &["node", "list"]), 6);

    let status = single.control.terminate();
    assert!(status.success(), "SIGTERM is a graceful end: {status}\n{}", single.control.log());
}

#[test]
fn values_come_from_standard_input_and_readers_may_leave() {
    let single = Single::start();
    let api = format!("http://{}:8138", single.subnet.host(1));
    let command = |arguments: &[&str]| {
        let mut command = Command::new(crate::process::BINARY);
        command.args(arguments).env("LONGSHORE_API", &api).stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    };
    let mut put = command(&["kv", "put", "binary", "-"]).spawn().unwrap();
    put.stdin.take().unwrap().write_all(&[0, 0xff, b'\n']).unwrap();
    assert!(put.wait().unwrap().success());
    assert_eq!(single.cli().run(&["kv", "get", "binary"]).stdout, [0, 0xff, b'\n']);
    assert_eq!(single.cli().json(&["kv", "get", "binary"])["encoding"], "base64");

    let mut list = command(&["kv", "list"]).stderr(Stdio::piped()).spawn().unwrap();
    drop(list.stdout.take());
    let output = list.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
}
