//! The benchmarks do what they say, in small; what they measure is not looked at.

use crate::process::BINARY;
use serde_json::Value;
use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(BINARY)
        .args(["bench"])
        .args(arguments)
        .args(["--quick", "-o", "json"])
        .output()
        .expect("the built program starts")
}

fn cases(arguments: &[&str]) -> Vec<Value> {
    let output = bench(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

fn case<'a>(cases: &'a [Value], name: &str) -> &'a Value {
    let found = cases.iter().find(|case| case["case"].as_str().is_some_and(|case| case.contains(name)));
    found.unwrap_or_else(|| panic!("no case '{name}' in {cases:?}"))
}

#[test]
fn requests_stand_beside_a_relay_and_an_echo() {
    let cases = cases(&["rpc", "--transports", "tcp,wss", "--in-flight", "1,8"]);
    assert_eq!(cases.len(), 4);
    for case in &cases {
        assert!(
            case["ours"]["rate"].as_f64().unwrap() > 0.0 && case["ours"]["p99_us"].as_f64().unwrap() > 0.0,
            "{case}"
        );
        assert_eq!(
            (&case["floor"]["name"], &case["other_floors"][0]["name"]),
            (&"bare relay".into(), &"bare echo".into())
        );
        assert!(case["ratio"].as_f64().unwrap() > 0.0, "{case}");
    }
    let one = case(&cases, "rpc over tcp, 1 in flight");
    assert_eq!((&one["ratio_of"], &case(&cases, "8 in flight")["ratio_of"]), (&"p50_us".into(), &"rate".into()));
}

#[test]
fn workers_come_back_to_a_killed_control_node() {
    let cases = cases(&["workers", "--transport", "wss"]);
    let value = |name| case(&cases, name)["ours"]["rate"].as_f64().unwrap();
    assert_eq!((value("sessions lost"), value("whose pings were answered")), (0.0, 5.0));
    assert!(value("killed and started again: until all 5 are driven") > 0.0);
    assert!(case(&cases, "killed and started again")["floor"]["rate"].as_f64().is_some());
}

#[test]
fn a_push_stands_beside_a_copy_and_the_digests() {
    let cases = cases(&["push", "--transport", "tcp,wss"]);
    assert_eq!(cases.len(), 8);
    for case in &cases {
        assert!(case["ours"]["rate"].as_f64().unwrap() > 0.0 && case["ratio"].as_f64().unwrap() > 0.0, "{case}");
        let others = case["other_floors"].as_array().unwrap().iter().map(|floor| floor["name"].as_str().unwrap());
        assert_eq!(others.collect::<Vec<_>>(), ["BLAKE3 alone", "SHA-256 alone"], "{case}");
        assert_eq!(case["floor"]["name"], "bare copy", "{case}");
    }
}

#[test]
fn the_store_stands_beside_its_floors() {
    let cases = cases(&["kv", "--clients", "1,4"]);
    assert_eq!(cases.len(), 6);
    for case in &cases {
        assert!(case["ours"]["rate"].as_f64().unwrap() > 0.0 && case["ratio"].as_f64().unwrap() > 0.0, "{case}");
    }
    assert_eq!(case(&cases, "get local, 4 clients")["floor"]["name"], "livez");
}

#[test]
fn the_store_stands_beside_etcd() {
    if Command::new("etcd").arg("--version").output().is_err() {
        return println!("skipped: etcd is not installed");
    }
    let cases = cases(&["kv", "--clients", "3", "--peer", "etcd", "--operations", "get-local,put"]);
    let names: Vec<&str> = cases.iter().map(|case| case["case"].as_str().unwrap()).collect();
    assert_eq!(names, ["get local, 3 clients", "put, 3 clients"], "only those, in this order");
    for case in &cases {
        assert_eq!(case["floor"]["name"], "etcd", "{case}");
        assert!(case["floor"]["rate"].as_f64().unwrap() > 0.0 && case["ratio"].as_f64().unwrap() > 0.0, "{case}");
    }
}

#[test]
fn a_peer_that_is_missing_is_named() {
    let output = Command::new(BINARY)
        .args(["bench", "kv", "--quick", "--peer", "etcd"])
        .env("PATH", "/nonexistent")
        .output()
        .expect("the built program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("apt-get install etcd-server"), "{said}");
}
