//! What observers were told, beside what clients were told, beside what the keys hold in the end.

use super::history::{Answer, Record, Wish};
use super::load::PREFIX;
use super::observers::{Listed, Seen, Told};
use std::collections::BTreeMap;
use std::fmt;

/// A change: key, and the value unless it was deleted.
type Changes = BTreeMap<u64, (String, Option<String>)>;

/// What came of it.
#[derive(Debug)]
pub(crate) struct Account {
    /// Changes that each observer was told one by one.
    pub(crate) changes: Vec<usize>,
    pub(crate) gaps: Vec<usize>,
    pub(crate) resumed: Vec<usize>,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { changes, gaps, resumed } = self;
        write!(f, "observers were told {changes:?} changes, {gaps:?} gaps, and went on elsewhere {resumed:?} times")
    }
}

/// Compares everything with everything; the keys begin as none.
///
/// # Panics
/// When anything does not fit.
pub(crate) fn audit(records: &[Record], observers: &[Seen], last: &Listed) -> Account {
    let told: Vec<(Changes, Vec<(u64, u64)>)> = observers.iter().map(in_order).collect();
    for seen in observers {
        assert!(seen.faults.is_empty(), "{:#?}", seen.faults);
    }
    for (seen, (changes, gaps)) in observers.iter().zip(&told) {
        assert_eq!(replayed(seen, last.revision), last.keys, "what an observer was told is not what the keys hold");
        assert_values_are_written_once(changes);
        for record in records {
            assert_told(record, changes, gaps);
        }
    }
    for (mine, my_gaps) in &told {
        for (theirs, their_gaps) in &told {
            let missed = mine.iter().find(|(revision, change)| {
                !within(my_gaps, **revision) && !within(their_gaps, **revision) && theirs.get(revision) != Some(change)
            });
            assert_eq!(missed, None, "an observer was told otherwise than another one");
        }
    }
    Account {
        changes: told.iter().map(|(changes, _)| changes.len()).collect(),
        gaps: told.iter().map(|(_, gaps)| gaps.len()).collect(),
        resumed: observers.iter().map(|seen| seen.resumed).collect(),
    }
}

/// The changes, each once and each behind the one before; and where some may be missing.
fn in_order(seen: &Seen) -> (Changes, Vec<(u64, u64)>) {
    let (mut changes, mut gaps, mut position) = (Changes::new(), Vec::new(), 0);
    for told in &seen.told {
        let (revision, change) = match told {
            Told::Put { revision, key, value } => (*revision, Some((key.clone(), Some(value.clone())))),
            Told::Delete { revision, key } => (*revision, Some((key.clone(), None))),
            Told::Gap { from, to, .. } => {
                gaps.push((*from, *to));
                (*to, None)
            }
        };
        assert!(revision > position || change.is_none(), "revision {revision} was told behind {position}");
        position = revision;
        if let Some(change) = change {
            changes.insert(revision, change);
        }
    }
    (changes, gaps)
}

/// What the keys hold at a revision for somebody who has only read what was told.
fn replayed(seen: &Seen, end: u64) -> BTreeMap<String, (u64, String)> {
    let mut state = Listed::default();
    let until = |told: &&Told| match told {
        Told::Put { revision, .. } | Told::Delete { revision, .. } => *revision <= end,
        Told::Gap { .. } => true,
    };
    // What nobody waited for any more may still have been carried out behind the end.
    for told in seen.told.iter().filter(until) {
        match told {
            Told::Put { revision, key, value } if *revision > state.revision => {
                state.keys.insert(key.clone(), (*revision, value.clone()));
            }
            Told::Delete { revision, key } if *revision > state.revision => {
                let former = state.keys.remove(key);
                assert!(former.is_some(), "revision {revision} deletes {key}, which was not there");
            }
            Told::Put { .. } | Told::Delete { .. } => (),
            Told::Gap { listed, .. } => state = listed.clone(),
        }
    }
    state.keys
}

fn assert_values_are_written_once(changes: &Changes) {
    let mut written = BTreeMap::new();
    for (revision, (_, value)) in changes {
        if let Some(value) = value {
            let former = written.insert(value, revision);
            assert_eq!(former, None, "value {value} was written twice, the second time as {revision}");
        }
    }
}

/// What a client knows for certain must have been told, or never be told.
fn assert_told(record: &Record, changes: &Changes, gaps: &[(u64, u64)]) {
    let key = format!("{PREFIX}{}", record.key);
    let written = record.wish.value().map(|value| value.to_string());
    match (record.answer, record.revision) {
        (Answer::Written { .. } | Answer::Deleted { existed: true }, revision) => {
            let revision = revision.expect("an acknowledged change has a revision");
            let told = changes.get(&revision);
            let missing = told.is_none() && within(gaps, revision);
            assert!(missing || told == Some(&(key, written)), "{record:?} was told as {told:?}");
        }
        (Answer::Read(Some(value)), Some(revision)) => {
            let told = changes.get(&revision);
            let missing = told.is_none() && within(gaps, revision);
            assert!(missing || told == Some(&(key, Some(value.to_string()))), "{record:?} was told as {told:?}");
        }
        (Answer::NotDone | Answer::Conflict, _) if record.wish != Wish::Get && written.is_some() => {
            let told = changes.iter().find(|(_, (_, value))| *value == written);
            assert_eq!(told, None, "{record:?} was told nevertheless");
        }
        _ => (),
    }
}

fn within(gaps: &[(u64, u64)], revision: u64) -> bool {
    gaps.iter().any(|(from, to)| (*from + 1..=*to).contains(&revision))
}

#[test]
#[should_panic(expected = "was told as None")]
fn a_missing_change_is_seen() {
    let record = Record {
        client: 0,
        node: 0,
        key: 1,
        wish: Wish::Put(7),
        answer: Answer::Written { created: true },
        revision: Some(3),
        invoked: 0,
        returned: 1,
        at: std::time::Duration::ZERO,
    };
    audit(&[record], &[Seen::default()], &Listed::default());
}

#[test]
#[should_panic(expected = "was told otherwise")]
fn two_observers_that_differ_are_seen() {
    let put = |key: &str| Told::Put { revision: 1, key: format!("{PREFIX}{key}"), value: "1".to_owned() };
    let delete = |key: &str| Told::Delete { revision: 2, key: format!("{PREFIX}{key}") };
    let seen = |told: Vec<Told>| Seen { told, ..Seen::default() };
    let observers = [seen(vec![put("a"), delete("a")]), seen(vec![put("b"), delete("b")])];
    audit(&[], &observers, &Listed::default());
}

#[test]
#[should_panic(expected = "was told behind")]
fn a_change_that_is_told_twice_is_seen() {
    let put = Told::Put { revision: 1, key: format!("{PREFIX}a"), value: "1".to_owned() };
    audit(&[], &[Seen { told: vec![put.clone(), put], ..Seen::default() }], &Listed::default());
}
