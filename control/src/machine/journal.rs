//! What has happened to the membership, in the order of the log.
//!
//! Each entry's events come from comparing the state before it with the state after it, and are numbered by the entry's
//! index and their place in it: every control node that applies the same log has the same journal, from wherever its own
//! begins. The journal is short and lives in memory: a reader that has fallen behind its beginning is told so ([`Gap`]).
//! It never waits for a reader.

use super::snapshots::Meta;
use crate::log::Position;
use longshore_state::{Change, Roster, Standing, State};
use longshore_wire::NodeId;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Events that are kept: a ring that moves ten thousand workers makes twenty thousand at once. Some 10 MB when it is full.
const KEPT: usize = 65_536;

/// A place in the sequence of events: behind all events up to this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor {
    /// Index of the log entry.
    pub(crate) index: u64,
    /// Place of the event among those of the entry, from 1.
    pub(crate) position: u32,
}

/// Part of a control node in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// It votes.
    Voter,
    /// It only listens.
    Learner,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its number.
    pub(crate) at: Cursor,
    /// What has happened.
    pub(crate) what: What,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// Something has become of a node.
    Node(Change),
    /// A control node has another part in the group; `None` = it does not belong to it.
    Part { node: NodeId, standing: Option<Standing>, before: Option<Part>, now: Option<Part> },
    /// Another node leads: this is its first entry.
    Leader { leader: NodeId, standing: Option<Standing>, term: u64, before: Option<NodeId> },
}

/// The membership at one moment. A clone is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    /// The last entry applied.
    pub(crate) applied: Option<Position>,
    /// The nodes.
    pub(crate) roster: Roster,
    /// Who belongs to the group.
    pub(crate) parts: Arc<BTreeMap<NodeId, Part>>,
    parts_at: Option<Position>,
}

/// Why the events behind a cursor cannot be told one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gap {
    /// They were told, and are forgotten.
    Forgotten,
    /// This node took over a whole state, or has started since, and never saw them.
    NeverSeen,
    /// This node has not come so far.
    Ahead,
}

/// Readers' handle of the journal. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    kept: Arc<Mutex<Kept>>,
    news: Arc<watch::Sender<u64>>,
    /// How often a worker has got another owner since this node's start, as its events tell.
    moves: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Kept {
    events: VecDeque<Arc<Event>>,
    /// Everything behind this place is in `events`.
    from: Cursor,
    /// Why what was before it is not.
    gap: Gap,
    picture: Picture,
}

impl Event {
    /// A worker that had an owner has another one.
    fn is_move(&self) -> bool {
        matches!(&self.what, What::Node(Change::Owner { now, before: Some((before, _)) })
            if now.owner.is_some_and(|(owner, _)| owner != *before))
    }
}

impl Picture {
    pub(super) fn of(state: &State, meta: &Meta) -> Self {
        let members = &meta.members;
        let part = |node: &NodeId| {
            if members.voters.iter().any(|voters| voters.contains(node)) { Part::Voter } else { Part::Learner }
        };
        let parts = members.nodes.iter().map(|node| (*node, part(node))).collect();
        Self { applied: meta.applied, roster: state.roster(), parts: Arc::new(parts), parts_at: meta.members_at }
    }

    /// The picture one entry later. Cheap: nearly every entry leaves all of it as it was.
    pub(super) fn next(&self, state: &State, meta: &Meta) -> Self {
        if self.parts_at != meta.members_at {
            return Self::of(state, meta);
        }
        Self { applied: meta.applied, roster: state.roster(), ..self.clone() }
    }

    /// The place behind everything that it shows.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor { index: self.applied.map_or(0, |applied| applied.index + 1), position: 0 }
    }

    /// What has happened from this picture to the next, which is one entry later.
    pub(super) fn until(&self, next: &Self, index: u64) -> Vec<Event> {
        let mut happened: Vec<What> = next.roster.changes_since(&self.roster).into_iter().map(What::Node).collect();
        happened.extend(self.parts_until(next));
        let leader = |picture: &Self| picture.applied.map(|applied| (applied.term, applied.leader));
        if let Some((term, leader)) = leader(next).filter(|now| leader(self) != Some(*now)) {
            let before = self.applied.map(|applied| applied.leader);
            happened.push(What::Leader { leader, standing: next.roster.standing(leader), term, before });
        }
        let numbered = (1..).zip(happened);
        numbered.map(|(position, what)| Event { at: Cursor { index, position }, what }).collect()
    }

    fn parts_until(&self, next: &Self) -> Vec<What> {
        if Arc::ptr_eq(&self.parts, &next.parts) {
            return Vec::new();
        }
        let mut nodes: Vec<NodeId> = self.parts.keys().chain(next.parts.keys()).copied().collect();
        nodes.sort_unstable();
        nodes.dedup();
        let changed = |node: NodeId| {
            let (before, now) = (self.parts.get(&node).copied(), next.parts.get(&node).copied());
            let standing = next.roster.standing(node);
            (before != now).then_some(What::Part { node, standing, before, now })
        };
        nodes.into_iter().filter_map(changed).collect()
    }
}

impl Journal {
    pub(super) fn new(picture: Picture) -> Self {
        let kept = Kept { events: VecDeque::new(), from: picture.cursor(), gap: Gap::NeverSeen, picture };
        let (news, _) = watch::channel(0);
        Self { kept: Arc::new(Mutex::new(kept)), news: Arc::new(news), moves: Arc::default() }
    }

    /// Adds what led to this picture.
    pub(super) fn add(&self, events: Vec<Event>, picture: Picture) {
        let news = !events.is_empty();
        let moved = events.iter().filter(|event| event.is_move()).count();
        self.moves.fetch_add(moved as u64, Ordering::Relaxed);
        let mut kept = self.kept();
        kept.events.extend(events.into_iter().map(Arc::new));
        while kept.events.len() > KEPT
            && let Some(oldest) = kept.events.pop_front()
        {
            (kept.from, kept.gap) = (oldest.at, Gap::Forgotten);
        }
        let former = std::mem::replace(&mut kept.picture, picture);
        drop(kept);
        drop(former);
        if news {
            self.news.send_modify(|number| *number += 1);
        }
    }

    /// Forgets everything: the picture did not come entry by entry.
    pub(super) fn begin_anew(&self, picture: Picture) {
        let mut kept = self.kept();
        *kept = Kept { events: VecDeque::new(), from: picture.cursor(), gap: Gap::NeverSeen, picture };
        drop(kept);
        self.news.send_modify(|number| *number += 1);
    }

    /// How often a worker has got another owner since this node's start.
    pub(crate) fn moves(&self) -> u64 {
        self.moves.load(Ordering::Relaxed)
    }

    /// The membership now.
    pub(crate) fn picture(&self) -> Picture {
        self.kept().picture.clone()
    }

    /// The events behind a place, at most `limit`; none when there are none yet.
    ///
    /// # Errors
    /// When some of them are not known.
    pub(crate) fn after(&self, cursor: Cursor, limit: usize) -> Result<Vec<Arc<Event>>, Gap> {
        let kept = self.kept();
        if cursor < kept.from {
            return Err(kept.gap);
        }
        if cursor > kept.picture.cursor() {
            return Err(Gap::Ahead);
        }
        let first = kept.events.partition_point(|event| event.at <= cursor);
        Ok(kept.events.range(first..).take(limit).cloned().collect())
    }

    /// Wakes when there is more.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.position)
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (index, position) = text.split_once('.')?;
            Some(Self { index: index.parse().ok()?, position: position.parse().ok()? })
        };
        read().ok_or_else(|| "an event's id is INDEX.POSITION, for example 1204.1".to_owned())
    }
}
