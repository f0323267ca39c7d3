//! A history of operations, and whether it is linearizable: key by key, since keys do not know of each other. The search
//! is the library's; here stands what a key is, and how a fault is shown.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};
use todc_utils::{Action, History, Specification, WGLChecker};

/// What a client wanted of a key. Each value is written by one operation only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Get,
    Put(u64),
    /// Writes if the key has this value; `None`: if there is no such key.
    Cas(Option<u64>, u64),
    Delete,
}

impl Wish {
    /// The value that is to be written.
    pub(crate) const fn value(self) -> Option<u64> {
        match self {
            Self::Put(value) | Self::Cas(_, value) => Some(value),
            Self::Get | Self::Delete => None,
        }
    }
}

/// What it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Read(Option<u64>),
    Written {
        created: bool,
    },
    Deleted {
        existed: bool,
    },
    /// A compare-and-set whose comparison did not hold.
    Conflict,
    /// It has not been done, and will not be.
    NotDone,
    /// Nobody knows, or nobody has said.
    Unknown,
}

/// One operation. `invoked` and `returned` are places in the one order of all beginnings and ends.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) client: usize,
    /// The node that was asked last.
    pub(crate) node: usize,
    pub(crate) key: u32,
    pub(crate) wish: Wish,
    pub(crate) answer: Answer,
    /// Of the entry that was read or written.
    pub(crate) revision: Option<u64>,
    pub(crate) invoked: u64,
    pub(crate) returned: u64,
    /// Since the start of the run.
    pub(crate) at: Duration,
}

/// A key by itself.
struct Register;

impl Specification for Register {
    type State = Option<u64>;
    type Operation = (Wish, Answer);

    fn init() -> Option<u64> {
        None
    }

    fn apply((wish, answer): &Self::Operation, state: &Option<u64>) -> (bool, Option<u64>) {
        let (holds, after) = match *wish {
            Wish::Get => (true, *state),
            Wish::Put(value) => (true, Some(value)),
            Wish::Cas(expected, value) => (*state == expected, if *state == expected { Some(value) } else { *state }),
            Wish::Delete => (true, None),
        };
        let fits = match *answer {
            Answer::Read(seen) => seen == *state,
            Answer::Written { created } => holds && created == state.is_none(),
            Answer::Deleted { existed } => existed == state.is_some(),
            Answer::Conflict => !holds,
            Answer::NotDone => false,
            Answer::Unknown => true,
        };
        (fits, after)
    }
}

/// What came of a check.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) keys: usize,
    pub(crate) checked: usize,
    pub(crate) unknown: usize,
    pub(crate) took: Duration,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, checked, unknown, took } = self;
        write!(
            f,
            "{checked} on {keys} keys are linearizable, {unknown} of them with unknown outcome; checked in {took:.1?}"
        )
    }
}

/// Checks every key.
///
/// # Errors
/// The smallest history of a key that is not linearizable, a line for each operation.
pub(crate) fn check(records: &[Record]) -> Result<Verdict, String> {
    let start = Instant::now();
    let mut keys: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
    for record in records.iter().filter(|record| says_something(record)) {
        keys.entry(record.key).or_default().push(record.clone());
    }
    let wrong = keys.values().filter(|records| !is_linearizable(records)).map(|records| shrunk(records));
    if let Some(smallest) = wrong.min_by_key(Vec::len) {
        return Err(shown(&smallest));
    }
    let all = || keys.values().flatten();
    let unknown = all().filter(|record| record.answer == Answer::Unknown).count();
    Ok(Verdict { keys: keys.len(), checked: all().count(), unknown, took: start.elapsed() })
}

/// What was not done, and a read without an answer, tell nothing.
fn says_something(record: &Record) -> bool {
    match record.answer {
        Answer::NotDone => false,
        Answer::Unknown => record.wish != Wish::Get,
        _ => true,
    }
}

fn is_linearizable(records: &[Record]) -> bool {
    let mut actions = Vec::new();
    for (number, record) in records.iter().enumerate() {
        let operation = (record.wish, record.answer);
        // What nobody knows may happen at any time after its beginning: last of all is the same as never.
        let end = if record.answer == Answer::Unknown { u64::MAX } else { record.returned };
        actions.push((record.invoked, (number, Action::Call(operation))));
        actions.push((end, (number, Action::Response(operation))));
    }
    actions.sort_by_key(|(place, _)| *place);
    actions.is_empty() || {
        let actions = actions.into_iter().map(|(_, action)| action).collect();
        WGLChecker::<Register>::is_linearizable(History::from_actions(actions))
    }
}

/// The shortest beginning that is wrong already, and of that only what it is wrong by.
fn shrunk(records: &[Record]) -> Vec<Record> {
    let mut ends: Vec<u64> = records.iter().map(|record| record.returned).collect();
    ends.sort_unstable();
    let first = ends.partition_point(|end| is_linearizable(&until(records, *end)));
    let mut wrong = until(records, ends[first.min(ends.len() - 1)]);
    // Whatever changes nothing can be left out; leaving out a write would blame reads of it.
    for index in (0..wrong.len()).rev() {
        if matches!(wrong[index].answer, Answer::Read(_) | Answer::Conflict) {
            let mut rest = wrong.clone();
            rest.remove(index);
            if !is_linearizable(&rest) {
                wrong = rest;
            }
        }
    }
    wrong
}

/// The history as it was at a place: what had not ended then is unknown.
fn until(records: &[Record], place: u64) -> Vec<Record> {
    let begun = records.iter().filter(|record| record.invoked < place);
    let seen = begun.map(|record| match record.returned > place {
        true => Record { answer: Answer::Unknown, ..record.clone() },
        false => record.clone(),
    });
    seen.filter(says_something).collect()
}

fn shown(records: &[Record]) -> String {
    let mut records = records.to_vec();
    records.sort_by_key(|record| record.invoked);
    let key = records.first().map_or(0, |record| record.key);
    let mut text = format!("key {key} is not linearizable; {} operations show it:\n", records.len());
    for Record { client, node, wish, answer, revision, invoked, returned, at, .. } in records {
        writeln!(
            text,
            "{at:>12.3?} {invoked:>7}..{returned:<7} client {client} node {} {wish:?} -> {answer:?} revision {revision:?}",
            node + 1
        )
        .unwrap();
    }
    text
}

/// Operations of one key as (beginning, end, wish, answer).
fn made(operations: &[(u64, u64, Wish, Answer)]) -> Vec<Record> {
    let made = operations.iter().map(|(invoked, returned, wish, answer)| Record {
        client: 0,
        node: 0,
        key: 0,
        wish: *wish,
        answer: *answer,
        revision: None,
        invoked: *invoked,
        returned: *returned,
        at: Duration::ZERO,
    });
    made.collect()
}

#[test]
fn the_checker_knows_right_from_wrong() {
    use Answer::{Conflict, Deleted, NotDone, Read, Unknown, Written};
    use Wish::{Cas, Delete, Get, Put};
    let new = Written { created: true };
    let over = Written { created: false };
    for right in [
        &[(1, 2, Put(1), new), (3, 4, Get, Read(Some(1))), (5, 6, Delete, Deleted { existed: true })][..],
        &[(1, 4, Put(1), new), (2, 3, Get, Read(None)), (5, 6, Get, Read(Some(1)))],
        // Unknown: at any time later, or never.
        &[(1, 2, Put(1), Unknown), (3, 4, Get, Read(None)), (5, 6, Get, Read(Some(1)))],
        &[(1, 2, Put(1), Unknown), (3, 4, Get, Read(None)), (5, 6, Cas(None, 2), new)],
        &[(1, 2, Put(1), new), (3, 4, Cas(Some(1), 2), Unknown), (5, 6, Cas(Some(1), 3), Conflict)],
        &[(1, 2, Put(1), NotDone), (3, 4, Get, Read(None))],
    ] {
        assert!(check(&made(right)).is_ok(), "{right:?}");
    }
    for wrong in [
        // A stale read, a lost write, one that was done twice, a refusal without a reason.
        &[(1, 2, Put(1), new), (3, 4, Put(2), over), (5, 6, Get, Read(Some(1)))][..],
        &[(1, 2, Put(1), new), (3, 4, Get, Read(None))],
        &[(1, 2, Put(1), new), (3, 4, Put(2), over), (5, 6, Get, Read(Some(2))), (7, 8, Get, Read(Some(1)))],
        &[(1, 2, Put(1), new), (3, 4, Cas(Some(1), 2), Conflict)],
        &[(1, 2, Put(1), new), (3, 4, Cas(Some(1), 2), over), (5, 6, Cas(Some(1), 3), over)],
        &[(1, 2, Put(1), NotDone), (3, 4, Get, Read(Some(1)))],
        &[(1, 2, Put(1), Unknown), (3, 4, Get, Read(Some(1))), (5, 6, Get, Read(None))],
        &[(1, 2, Delete, Deleted { existed: true })],
    ] {
        assert!(check(&made(wrong)).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_fault_is_shown_small() {
    use Answer::{Read, Written};
    let mut long = vec![(1, 2, Wish::Put(1), Written { created: true })];
    long.extend((2..50).map(|number| (2 * number, 2 * number + 1, Wish::Get, Answer::Read(Some(1)))));
    long.push((200, 201, Wish::Get, Read(None)));
    long.push((202, 203, Wish::Get, Read(Some(1))));
    let told = check(&made(&long)).unwrap_err();
    assert!(told.starts_with("key 0 is not linearizable; 2 operations show it:"), "{told}");
}
