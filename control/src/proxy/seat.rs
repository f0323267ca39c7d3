//! What the link to a worker, its proxy and the requests to it share: the present session and the last report.
//!
//! Locks are short. A session leaves the seat only by its own link, or because a newer one takes its place.

use super::clones::ENDS_AFTER;
use longshore_state::CloneAlarm;
use longshore_transport::Session;
use longshore_wire::edge::Report;
use longshore_wire::{Code, Digest, Failure, NodeId, RequestId};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;

/// A worker that has come.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// Number of its link, unique on this node.
    pub(crate) link: u64,
    /// Its process.
    pub(crate) boot: RequestId,
    /// Its session.
    pub(crate) session: Session,
    /// What runs there.
    pub(crate) report: Report,
}

/// The place of one worker.
#[derive(Debug)]
pub(crate) struct Seat {
    worker: NodeId,
    place: Mutex<Place>,
    wake: Notify,
}

#[derive(Debug)]
struct Place {
    attached: Option<Attached>,
    report: Option<Report>,
    /// Since when there has been no session.
    empty_since: Instant,
    /// Whether there ever was one.
    ever: bool,
    /// A clone that has come, and when it last did.
    clone: Option<(CloneAlarm, Instant)>,
}

#[derive(Debug)]
struct Attached {
    link: u64,
    boot: RequestId,
    session: Session,
}

/// What a proxy sees when it looks at its seat.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// The link of the session, if there is one.
    pub(crate) link: Option<u64>,
    /// The session, if there is one.
    pub(crate) session: Option<Session>,
    /// The last report, if there ever was one.
    pub(crate) report: Option<Report>,
    /// Since when there has been no session; meaningless while there is one.
    pub(crate) empty_since: Instant,
    /// Whether there ever was a session.
    pub(crate) ever: bool,
    /// A clone that comes again and again.
    pub(crate) clone: Option<CloneAlarm>,
}

impl Seat {
    pub(crate) fn new(worker: NodeId) -> Self {
        let place = Place { attached: None, report: None, empty_since: Instant::now(), ever: false, clone: None };
        Self { worker, place: Mutex::new(place), wake: Notify::new() }
    }

    pub(crate) fn worker(&self) -> NodeId {
        self.worker
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn session(&self) -> Option<Session> {
        self.seated().map(|(session, _)| session)
    }

    /// The live session, and the boot that attached over it.
    pub(crate) fn seated(&self) -> Option<(Session, RequestId)> {
        let place = self.place();
        let attached = place.attached.as_ref().filter(|attached| !attached.session.is_closed())?;
        Some((attached.session.clone(), attached.boot))
    }

    pub(crate) fn view(&self) -> View {
        let mut place = self.place();
        place.clone = place.clone.take().filter(|(_, last)| last.elapsed() < ENDS_AFTER);
        View {
            link: place.attached.as_ref().map(|attached| attached.link),
            session: place.attached.as_ref().map(|attached| attached.session.clone()),
            report: place.report.clone(),
            empty_since: place.empty_since,
            ever: place.ever,
            clone: place.clone.as_ref().map(|(alarm, _)| alarm.clone()),
        }
    }

    /// The session in use and its boot, when it is another process's than the one with this boot.
    pub(crate) fn rival(&self, boot: RequestId) -> Option<(RequestId, Session)> {
        let place = self.place();
        let attached = place.attached.as_ref().filter(|attached| attached.boot != boot)?;
        (!attached.session.is_closed()).then(|| (attached.boot, attached.session.clone()))
    }

    /// Notes that a clone has come; says whether that is news.
    pub(crate) fn raise_alarm(&self, alarm: CloneAlarm) -> bool {
        let former = self.place().clone.replace((alarm.clone(), Instant::now()));
        let is_new = former.is_none_or(|(former, _)| former.boot != alarm.boot);
        self.wake();
        is_new
    }

    /// Makes the proxy look again.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Seats a worker's new session and closes the former one.
    pub(crate) fn attach(&self, arrival: Arrival) {
        let Arrival { link, boot, session, report } = arrival;
        let former = {
            let mut place = self.place();
            place.report = Some(report);
            place.ever = true;
            place.attached.replace(Attached { link, boot, session })
        };
        if let Some(former) = former {
            self.close(&former, boot);
        }
        self.wake();
    }

    fn close(&self, former: &Attached, boot: RequestId) {
        if former.boot == boot {
            // The worker has renewed its session, and closes the former one when nothing is in flight there any more.
            return;
        }
        former.session.close(Failure::new(Code::Conflict, "a newer session of the same worker has taken over"));
    }

    /// Takes a report over a link; one over a former link is not news.
    pub(crate) fn report(&self, link: u64, report: Report) -> bool {
        {
            let mut place = self.place();
            if place.attached.as_ref().is_none_or(|attached| attached.link != link) {
                return false;
            }
            place.report = Some(report);
        }
        self.wake();
        true
    }

    /// The worker has just confirmed that it holds this archive; its report will say so too.
    pub(crate) fn note_archive(&self, digest: Digest) {
        let mut place = self.place();
        if let Some(report) = place.report.as_mut().filter(|report| !report.archives.contains(&digest)) {
            report.archives.push(digest);
        }
    }

    /// The session of a link has ended.
    pub(crate) fn detach(&self, link: u64) {
        {
            let mut place = self.place();
            if place.attached.as_ref().is_none_or(|attached| attached.link != link) {
                return;
            }
            place.attached = None;
            place.empty_since = Instant::now();
        }
        self.wake();
    }

    /// Whether this link is the one in use.
    pub(crate) fn is_seated(&self, link: u64) -> bool {
        self.place().attached.as_ref().is_some_and(|attached| attached.link == link)
    }

    /// Empties the seat for good, and returns the session that sat there.
    pub(crate) fn vacate(&self) -> Option<Session> {
        self.place().attached.take().map(|attached| attached.session)
    }
}
