//! Reads the whole log at its start: every frame, in the order in which they were written.

use super::LogError;
use super::disk::Disk;
use super::frame::{self, Look};
use super::index::Index;
use super::item::{Item, Standing, Unread, items};
use super::places::Place;
use super::segment::{self, BEGIN, Segment};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What the folder holds.
pub(super) struct Loaded {
    pub(super) index: Index,
    /// Those that hold frames, and the one that is written.
    pub(super) segments: BTreeMap<u64, Arc<Segment>>,
    /// The segment that is written now, …
    pub(super) current: Arc<Segment>,
    /// … and where.
    pub(super) end: usize,
    /// Number of the next frame.
    pub(super) next: u64,
    /// The segment behind the current one, if it is prepared.
    pub(super) spare: Option<Arc<Segment>>,
}

/// A place where frames end.
struct End {
    segment: Arc<Segment>,
    at: usize,
    /// End of what a power cut has torn there.
    torn: Option<usize>,
}

/// Reads the folder. Cuts off a torn frame, and removes segments that are prepared in vain.
///
/// # Errors
/// What cannot be read, is damaged, or was written by a newer release.
pub(super) fn load(disk: &dyn Disk, folder: &Path) -> Result<Loaded, LogError> {
    let damaged = |why: String| LogError::Damaged { path: folder.to_owned(), what: "the Raft log".to_owned(), why };
    let numbers = segment::list(disk, folder)?;
    let Some(first) = numbers.first().copied() else { return Err(damaged("it has no segment".to_owned())) };
    let mut loader = Loader::default();
    let (mut used, mut empty) = (Vec::new(), Vec::new());
    let (mut last, mut torn) = (None, None::<End>);
    for (number, expected) in numbers.into_iter().zip(first..) {
        if number != expected {
            return Err(damaged(format!("segment {expected} is missing")));
        }
        let segment = Arc::new(segment::open(disk, folder, number)?);
        let bytes = segment.read()?;
        if let Some(torn) = torn.as_ref().filter(|_| bytes[BEGIN..].iter().any(|byte| *byte != 0)) {
            return Err(torn.segment.damaged(torn.at, "a frame is torn, but a later segment is in use"));
        }
        let before = loader.next;
        let end = loader.read(&segment, &bytes)?;
        match loader.next == before {
            true => empty.push(segment.clone()),
            false => {
                used.append(&mut empty);
                used.push(segment.clone());
                last = Some(End { segment: segment.clone(), at: end.at, torn: None });
            }
        }
        if end.torn.is_some() {
            torn = Some(end);
        }
    }
    if last.is_none() && first > 1 {
        return Err(damaged("its vote is in none of its segments; the oldest ones are missing".to_owned()));
    }
    loader.check_gone().map_err(damaged)?;
    if let Some(torn) = torn {
        cut(&torn)?;
    }
    loader.settle(&used)?;
    let End { segment: current, at: end, .. } = match last {
        Some(last) => last,
        None => End { segment: empty.remove(0), at: BEGIN, torn: None },
    };
    let mut empty = empty.into_iter().filter(|segment| segment.number > current.number);
    let spare = empty.next();
    for vain in empty.collect::<Vec<_>>().into_iter().rev() {
        disk.remove(&segment::name(vain.number)).map_err(|error| vain.io("removing", &error))?;
    }
    let segments = used.into_iter().chain([current.clone()]).map(|segment| (segment.number, segment)).collect();
    Ok(Loaded { index: loader.index, segments, current, end, next: loader.next.unwrap_or(1), spare })
}

/// Puts zeros where a torn frame stands: what is left of it must never look like something that was written later.
fn cut(torn: &End) -> Result<(), LogError> {
    let (segment, from) = (&torn.segment, torn.at);
    let to = torn.torn.unwrap_or(from);
    tracing::warn!(
        file = %segment.path.display(), from, to,
        "the end of the Raft log was torn, as by a power cut; it was never acknowledged, and is cut off"
    );
    let written = segment.file.write_at(from as u64, &vec![0; to - from]).and_then(|()| segment.file.sync());
    written.map_err(|error| segment.io("writing", &error))
}

#[derive(Default)]
struct Loader {
    index: Index,
    /// Number of the next frame, once one has been read.
    next: Option<u64>,
    /// Entries up to this one stood in segments that are gone; they must turn out to be purged.
    gone: Option<u64>,
    /// The last frame.
    last: Option<Place>,
}

impl Loader {
    fn read(&mut self, segment: &Arc<Segment>, bytes: &[u8]) -> Result<End, LogError> {
        let mut at = BEGIN;
        let mut torn = None;
        while at < bytes.len() {
            match frame::look(bytes, at, segment.salt, self.next) {
                Look::Frame { number, body, end } => {
                    let place = Place { segment: segment.number, offset: at as u64, size: end - at };
                    self.frame(body, place).map_err(|unread| match unread {
                        Unread::Damaged(why) => segment.damaged(at, why),
                        Unread::Newer(why) => {
                            let what = format!("the Raft log at byte {at}");
                            LogError::Newer { path: segment.path.clone(), what, why }
                        }
                    })?;
                    (self.next, self.last, at) = (Some(number + 1), Some(place), end);
                }
                Look::Nothing => break,
                Look::Torn => {
                    torn = bytes.iter().rposition(|byte| *byte != 0).map(|last| last + 1);
                    break;
                }
                Look::Damaged(why) => return Err(segment.damaged(at, why)),
            }
        }
        Ok(End { segment: segment.clone(), at, torn })
    }

    fn frame(&mut self, body: &[u8], place: Place) -> Result<(), Unread> {
        let mut first = self.next.is_none();
        for item in items(body) {
            match item? {
                Item::Standing(standing) if first => self.begin(standing),
                _ if first => return Err(Unread::Damaged("the oldest segment does not begin as one".to_owned())),
                // Repeats what has been read.
                Item::Standing(_) => (),
                Item::Entry(entry) => {
                    let number = entry.position.index;
                    if let Some(expected) = self.index.next().filter(|expected| *expected != number) {
                        return Err(Unread::Damaged(format!(
                            "entry {number} stands where entry {expected} must stand"
                        )));
                    }
                    self.index.push(entry);
                    self.index.places.add(number, number, place);
                }
                Item::Vote(ballot) => self.index.ballot = Some(ballot),
                Item::Truncate(from, before) => {
                    self.index.truncate(from, before);
                    self.index.places.truncate(from);
                    self.gone = self.gone.and_then(|gone| from.checked_sub(1).map(|before| gone.min(before)));
                }
                Item::Purge(upto) => {
                    self.index.purge(upto);
                    self.index.places.purge(upto.index);
                }
                Item::Committed(position) => self.index.committed = Some(position),
            }
            first = false;
        }
        self.index.shrink(u64::MAX);
        Ok(())
    }

    /// Takes over what the segments before the oldest one came to.
    fn begin(&mut self, standing: Standing) {
        let Standing { ballot, purged, committed, last } = standing;
        (self.index.ballot, self.index.purged) = (ballot, purged);
        (self.index.committed, self.index.last) = (committed, last);
        self.gone = last.map(|last| last.index);
    }

    fn check_gone(&self) -> Result<(), String> {
        let purged = self.index.purged.map(|purged| purged.index);
        match self.gone.filter(|gone| purged.is_none_or(|purged| purged < *gone)) {
            None => Ok(()),
            Some(gone) => {
                Err(format!("entries up to {gone} are missing; segments in front of the oldest one are gone"))
            }
        }
    }

    /// Makes sure that what has been read is on the disk: a process that was killed before its sync, or whose sync failed,
    /// leaves a last frame that only the page cache may hold. Written once more, so that the kernel knows it as dirty.
    fn settle(&self, used: &[Arc<Segment>]) -> Result<(), LogError> {
        let Some(place) = self.last else { return Ok(()) };
        let Some(segment) = used.iter().find(|segment| segment.number == place.segment) else { return Ok(()) };
        let mut frame = vec![0; place.size];
        segment.file.read_at(place.offset, &mut frame).map_err(|error| segment.io("reading", &error))?;
        let written = segment.file.write_at(place.offset, &frame).and_then(|()| segment.file.sync());
        written.map_err(|error| segment.io("writing", &error))
    }
}
