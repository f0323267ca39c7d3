//! What the command prints: data on standard output, talk on standard error.
//!
//! The only place that writes to either. A reader that has gone away (`longshore node list | head -1`) ends the command in
//! silence.

mod progress;
mod table;

pub(crate) use progress::{Progress, size};
pub(crate) use table::{Table, cell};

use crate::error::Failed;
use serde::Serialize;
use std::io::{self, ErrorKind, Write as _};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For people with room.
    Wide,
    /// For programs.
    Json,
}

/// Prints bytes as they are.
pub(crate) fn raw(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    check(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// Prints a line.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    raw(format!("{text}\n").as_bytes())
}

/// Prints JSON over several lines.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Tells the operator something that is no data. A closed standard error is no reason to fail.
pub(crate) fn say(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// A text of somebody else's, safe for a terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn check(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failed::with_code(0).into()),
        Err(error) => Err(anyhow::Error::from(error).context("cannot write to standard output")),
        Ok(()) => Ok(()),
    }
}
