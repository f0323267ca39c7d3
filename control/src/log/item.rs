//! What frames hold: one item behind the other, each a kind (1 byte), a length (4 bytes, little endian) and a body.
//!
//! A position is its term (8 bytes), leader (16) and index (8), all little endian.

use super::{Ballot, Entry, Members, Payload, Position};
use bytes::Bytes;
use longshore_wire::NodeId;

const BLANK: u8 = 1;
const PROPOSALS: u8 = 2;
const MEMBERS: u8 = 3;
const VOTE: u8 = 4;
const TRUNCATE: u8 = 5;
const PURGE: u8 = 6;
const COMMITTED: u8 = 7;
const STANDING: u8 = 8;

/// What the log comes to, apart from its entries. The first item of each segment, so that older ones can be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Standing {
    pub(super) ballot: Option<Ballot>,
    pub(super) purged: Option<Position>,
    pub(super) committed: Option<Position>,
    /// The last entry, or `purged` when there is none.
    pub(super) last: Option<Position>,
}

/// One change of the log, as it is read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    Entry(Entry),
    Vote(Ballot),
    /// Removes the entries from this one on; the one before it is the last then.
    Truncate(u64, Option<Position>),
    Purge(Position),
    Committed(Position),
    Standing(Standing),
}

/// Why an item whose checksum is right cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// A newer release has written it.
    Newer(String),
    /// Nobody has written it.
    Damaged(String),
}

fn put(buffer: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    buffer.extend_from_slice(&[kind, 0, 0, 0, 0]);
    let start = buffer.len();
    body(buffer);
    let length = u32::try_from(buffer.len() - start).expect("an entry has far less than 4 GiB");
    buffer[start - 4..start].copy_from_slice(&length.to_le_bytes());
}

fn put_position(buffer: &mut Vec<u8>, position: &Position) {
    buffer.extend_from_slice(&position.term.to_le_bytes());
    buffer.extend_from_slice(&position.leader.as_u128().to_le_bytes());
    buffer.extend_from_slice(&position.index.to_le_bytes());
}

fn put_ballot(buffer: &mut Vec<u8>, ballot: &Ballot) {
    buffer.extend_from_slice(&ballot.term.to_le_bytes());
    buffer.extend_from_slice(&ballot.node.as_u128().to_le_bytes());
    buffer.push(u8::from(ballot.committed));
}

fn put_option<T>(buffer: &mut Vec<u8>, value: Option<&T>, put: fn(&mut Vec<u8>, &T)) {
    buffer.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(buffer, value);
    }
}

pub(super) fn put_entry(buffer: &mut Vec<u8>, entry: &Entry) {
    let kind = match &entry.payload {
        Payload::Blank => BLANK,
        Payload::Proposals(_) => PROPOSALS,
        Payload::Members(_) => MEMBERS,
    };
    put(buffer, kind, |buffer| {
        put_position(buffer, &entry.position);
        match &entry.payload {
            Payload::Blank => (),
            Payload::Proposals(bytes) => buffer.extend_from_slice(bytes),
            Payload::Members(members) => buffer.extend_from_slice(&longshore_wire::encode(members)),
        }
    });
}

pub(super) fn put_vote(buffer: &mut Vec<u8>, ballot: &Ballot) {
    put(buffer, VOTE, |buffer| put_ballot(buffer, ballot));
}

pub(super) fn put_truncate(buffer: &mut Vec<u8>, from: u64, before: Option<Position>) {
    put(buffer, TRUNCATE, |buffer| {
        buffer.extend_from_slice(&from.to_le_bytes());
        put_option(buffer, before.as_ref(), put_position);
    });
}

pub(super) fn put_purge(buffer: &mut Vec<u8>, upto: &Position) {
    put(buffer, PURGE, |buffer| put_position(buffer, upto));
}

pub(super) fn put_committed(buffer: &mut Vec<u8>, committed: &Position) {
    put(buffer, COMMITTED, |buffer| put_position(buffer, committed));
}

pub(super) fn put_standing(buffer: &mut Vec<u8>, standing: &Standing) {
    put(buffer, STANDING, |buffer| {
        put_option(buffer, standing.ballot.as_ref(), put_ballot);
        for position in [&standing.purged, &standing.committed, &standing.last] {
            put_option(buffer, position.as_ref(), put_position);
        }
    });
}

/// The items of a frame.
pub(super) fn items(body: &[u8]) -> impl Iterator<Item = Result<Item, Unread>> {
    let mut rest = Reader(body);
    std::iter::from_fn(move || {
        if rest.0.is_empty() {
            return None;
        }
        let item = rest.item();
        if item.is_none() {
            rest.0 = &[];
        }
        Some(item.unwrap_or_else(|| Err(Unread::Damaged("an item is cut short".to_owned()))))
    })
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn long(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn node(&mut self) -> Option<NodeId> {
        self.take().map(|bytes| NodeId::from_u128(u128::from_le_bytes(bytes)))
    }

    fn position(&mut self) -> Option<Position> {
        Some(Position { term: self.long()?, leader: self.node()?, index: self.long()? })
    }

    fn ballot(&mut self) -> Option<Ballot> {
        Some(Ballot { term: self.long()?, node: self.node()?, committed: self.take::<1>()? != [0] })
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.take::<1>()? {
            [0] => Some(None),
            _ => read(self).map(Some),
        }
    }

    fn standing(&mut self) -> Option<Standing> {
        Some(Standing {
            ballot: self.option(Self::ballot)?,
            purged: self.option(Self::position)?,
            committed: self.option(Self::position)?,
            last: self.option(Self::position)?,
        })
    }

    fn item(&mut self) -> Option<Result<Item, Unread>> {
        let [kind] = self.take()?;
        let length = u32::from_le_bytes(self.take()?) as usize;
        let (body, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let mut body = Reader(body);
        Some(Ok(match kind {
            BLANK | PROPOSALS | MEMBERS => match body.entry(kind)? {
                Ok(entry) => Item::Entry(entry),
                Err(why) => return Some(Err(Unread::Damaged(why))),
            },
            VOTE => Item::Vote(body.ballot()?),
            TRUNCATE => Item::Truncate(body.long()?, body.option(Self::position)?),
            PURGE => Item::Purge(body.position()?),
            COMMITTED => Item::Committed(body.position()?),
            STANDING => Item::Standing(body.standing()?),
            _ => return Some(Err(Unread::Newer(format!("it holds an item of kind {kind}, which this release lacks")))),
        }))
    }

    fn entry(&mut self, kind: u8) -> Option<Result<Entry, String>> {
        let position = self.position()?;
        let payload = match kind {
            BLANK => Payload::Blank,
            PROPOSALS => Payload::Proposals(Bytes::copy_from_slice(self.0)),
            _ => match longshore_wire::decode::<Members>(self.0) {
                Ok(members) => Payload::Members(members),
                Err(error) => return Some(Err(format!("the members in entry {}: {error}", position.index))),
            },
        };
        Some(Ok(Entry { position, payload }))
    }
}
