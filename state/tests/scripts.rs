//! Scripted cases: commands and what they must answer, as text in `scripts/*.txt`.
//!
//! A case is one or more lines of commands, a line `----`, what they print, and an empty line. After a wanted change,
//! `LONGSHORE_REWRITE=1 cargo test -p longshore-state --test scripts` writes the present answers into the files; the
//! difference is for review. `scripts/runner.rs` lists the commands.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "scripts/runner.rs"]
mod runner;

use std::fmt::Write as _;
use std::path::Path;

/// A script with its answers as they come out now.
fn replay(text: &str) -> String {
    let mut runner = runner::Runner::default();
    let mut out = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        match line {
            "----" => {
                lines.by_ref().find(|line| line.is_empty());
                let answers = runner.take_answers();
                write!(out, "----\n{answers}\n").unwrap();
            }
            line => {
                if !line.is_empty() && !line.starts_with('#') {
                    runner.run(line);
                }
                writeln!(out, "{line}").unwrap();
            }
        }
    }
    assert!(runner.take_answers().is_empty(), "the last commands have no ----");
    out.trim_end().to_owned() + "\n"
}

fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(name).with_extension("txt");
    let text = std::fs::read_to_string(&path).unwrap();
    let now = replay(&text);
    if std::env::var_os("LONGSHORE_REWRITE").is_some() {
        return std::fs::write(&path, now).unwrap();
    }
    for (number, (wanted, got)) in text.lines().zip(now.lines()).enumerate() {
        assert_eq!(got, wanted, "{name}.txt, line {}", number + 1);
    }
    assert_eq!(now.lines().count(), text.lines().count(), "{name}.txt has another length");
    assert_eq!(replay(&text), now, "the same commands must always answer the same");
}

#[test]
fn registry() {
    check("registry");
}

#[test]
fn credentials() {
    check("credentials");
}

#[test]
fn kv() {
    check("kv");
}

#[test]
fn txn() {
    check("txn");
}

#[test]
fn leases() {
    check("leases");
}

#[test]
fn apps() {
    check("apps");
}

#[test]
fn placement() {
    check("placement");
}
