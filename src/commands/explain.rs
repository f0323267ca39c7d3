//! How questions to DNS and their answers are shown: a line for each record, with what became of it.

use crate::output::{Format, Table};
use longshore_discovery::{Said, Step};
use serde_json::{Value, json};
use std::time::Duration;

/// The questions as a table.
pub(super) fn table(steps: &[Step], format: Format) -> Table {
    let mut table = Table::new(&["QUESTION", "ANSWER", "TTL", "WHAT FOLLOWS"], format == Format::Wide);
    for step in steps {
        let mut question = step.question.clone();
        let mut row = |answer: String, ttl: String, remark: String| {
            table.row(vec![std::mem::take(&mut question), answer, ttl, remark]);
        };
        for alias in &step.aliases {
            row(format!("stands for {alias}"), String::new(), String::new());
        }
        let ttl = step.ttl.map(seconds).unwrap_or_default();
        let note = step.note.unwrap_or_default();
        match &step.answer {
            Said::Nothing(why) => row(format!("none: {why}"), ttl, note.to_owned()),
            Said::Failed(why) => row("no answer".to_owned(), ttl, why.clone()),
            Said::Records(lines) => {
                // The rule stands once, where there is room for it.
                let free = lines.iter().position(|line| line.remark.is_empty());
                for (number, line) in lines.iter().enumerate() {
                    let remark = if free == Some(number) { note } else { &line.remark };
                    row(line.record.clone(), ttl.clone(), remark.to_owned());
                }
                if free.is_none() && !note.is_empty() {
                    row(String::new(), String::new(), note.to_owned());
                }
            }
        }
    }
    table
}

/// The questions as JSON.
pub(super) fn json(steps: &[Step]) -> Value {
    let step = |step: &Step| {
        let (answers, error) = match &step.answer {
            Said::Records(lines) => {
                let line = |line: &longshore_discovery::Line| json!({"record": line.record, "remark": line.remark, "skipped": line.skipped});
                (lines.iter().map(line).collect(), None)
            }
            Said::Nothing(why) => (Vec::new(), Some(json!({"answered": true, "reason": why}))),
            Said::Failed(why) => (Vec::new(), Some(json!({"answered": false, "reason": why}))),
        };
        json!({
            "question": step.question,
            "aliases": step.aliases,
            "records": answers,
            "nothing": error,
            "ttl_s": step.ttl.map(|ttl| ttl.as_secs()),
            "rule": step.note,
        })
    };
    steps.iter().map(step).collect()
}

/// A time to live.
pub(super) fn seconds(ttl: Duration) -> String {
    format!("{} s", ttl.as_secs())
}

/// A duration for people: 0.4 ms, 12 ms, 5.0 s.
pub(super) fn took(time: Duration) -> String {
    match time.as_secs_f64() {
        short if short < 0.01 => format!("{:.1} ms", short * 1e3),
        middle if middle < 1.0 => format!("{:.0} ms", middle * 1e3),
        long => format!("{long:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let shown = [400, 12_300, 250_000, 5_000_000].map(|micros| took(Duration::from_micros(micros)));
        assert_eq!(shown, ["0.4 ms", "12 ms", "250 ms", "5.0 s"]);
    }
}
