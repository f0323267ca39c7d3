//! FROZEN, never to be changed: the session of version 1: frames, requests, streams with credit, pings. A reader thread
//! answers pings and replies; the rest comes as events. What version 1 does not understand ends the session, and is kept.

use super::messages::{Failure, Goodbye, RequestHead, decode, encode};
use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

const PING: u8 = 1;
const PONG: u8 = 2;
const REQUEST: u8 = 3;
const REPLY: u8 = 4;
const REPLY_ERROR: u8 = 5;
const CANCEL: u8 = 6;
const NOTIFY: u8 = 7;
const OPEN: u8 = 8;
const DATA: u8 = 9;
const CREDIT: u8 = 10;
const FINISH: u8 = 11;
const RESET: u8 = 12;
const GOODBYE: u8 = 13;

const MAX_DATA: usize = 64 * 1024;
const INITIAL_CREDIT: u64 = 512 * 1024;
const PING_EVERY: Duration = Duration::from_secs(5);
/// A line that says nothing for so long is lost. Twice what version 1 had: a loaded machine may be slow.
const LOST: Duration = Duration::from_secs(20);
/// Events that wait for whoever takes them; no test causes as many.
const EVENTS: usize = 4096;
/// Time for a reply.
const TIMEOUT: Duration = Duration::from_secs(30);

const fn limit(kind: u8) -> Option<usize> {
    match kind {
        PING | PONG => Some(8),
        CANCEL | FINISH => Some(0),
        CREDIT => Some(4),
        DATA => Some(MAX_DATA),
        RESET | GOODBYE => Some(4096),
        OPEN => Some(64 * 1024),
        REQUEST | REPLY | REPLY_ERROR | NOTIFY => Some(2 * 1024 * 1024),
        _ => None,
    }
}

/// What the other side has sent, but for pings and replies.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Request { id: u32, timeout_ms: u32, body: Vec<u8> },
    Cancel(u32),
    Notify(Vec<u8>),
    Open { id: u32, head: Vec<u8> },
    Data { id: u32, bytes: Vec<u8> },
    Finish(u32),
    Reset { id: u32, reason: Failure },
    Goodbye(Goodbye),
    Closed,
}

/// A session. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Session(Arc<Inner>);

/// What comes of a request.
type Reply = Result<Vec<u8>, Failure>;

struct Inner {
    out: Mutex<TcpStream>,
    next: AtomicU32,
    calls: Mutex<HashMap<u32, SyncSender<Reply>>>,
    credit: Mutex<HashMap<u32, u64>>,
    granted: Condvar,
    pings: AtomicU64,
    pongs: AtomicU64,
    closed: AtomicBool,
    strange: Mutex<Vec<String>>,
}

impl Session {
    /// Begins behind a handshake.
    pub(crate) fn start(stream: TcpStream, dialled: bool) -> (Self, Receiver<Event>) {
        stream.set_read_timeout(Some(LOST)).unwrap();
        let session = Self(Arc::new(Inner {
            out: Mutex::new(stream.try_clone().unwrap()),
            next: AtomicU32::new(if dialled { 1 } else { 2 }),
            calls: Mutex::default(),
            credit: Mutex::default(),
            granted: Condvar::new(),
            pings: AtomicU64::new(0),
            pongs: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            strange: Mutex::default(),
        }));
        let (events, arrivals) = sync_channel(EVENTS);
        let mut reader = Reader { session: session.clone(), stream, events, highest: 0, parity: u32::from(!dialled) };
        thread::spawn(move || reader.run());
        let pinging = session.clone();
        thread::spawn(move || {
            while pinging.frame(PING, 0, b"version1") {
                thread::sleep(PING_EVERY);
            }
        });
        (session, arrivals)
    }

    /// Pings that were answered, and own pings that were answered by the other side.
    pub(crate) fn pings(&self) -> (u64, u64) {
        (self.0.pings.load(SeqCst), self.0.pongs.load(SeqCst))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.closed.load(SeqCst)
    }

    /// What was not understood.
    pub(crate) fn strange(&self) -> Vec<String> {
        self.0.strange.lock().unwrap().clone()
    }

    /// Notes what version 1 does not understand.
    pub(crate) fn wonder(&self, what: String) {
        self.0.strange.lock().unwrap().push(what);
    }

    fn frame(&self, kind: u8, id: u32, payload: &[u8]) -> bool {
        assert!(limit(kind).is_some_and(|limit| payload.len() <= limit));
        let length = u32::try_from(payload.len()).unwrap();
        let frame = [&[kind][..], &id.to_be_bytes(), &length.to_be_bytes(), payload].concat();
        self.0.out.lock().unwrap().write_all(&frame).is_ok()
    }

    /// Asks, and waits for the reply. Not from the thread that takes the events, unless nothing waits there.
    pub(crate) fn request(&self, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let head = encode(&RequestHead { timeout_ms: u32::try_from(TIMEOUT.as_millis()).unwrap() });
        let length = u16::try_from(head.len()).unwrap().to_be_bytes();
        let (reply, replied) = sync_channel(1);
        let id = self.0.next.fetch_add(2, SeqCst);
        self.0.calls.lock().unwrap().insert(id, reply);
        let lost = || Failure { outcome: super::messages::Outcome::Unknown, ..Failure::new("unavailable", "no reply") };
        if !self.frame(REQUEST, id, &[&length, head.as_slice(), body].concat()) || self.is_closed() {
            return Err(lost());
        }
        replied.recv_timeout(TIMEOUT).unwrap_or_else(|_| Err(lost()))
    }

    pub(crate) fn reply(&self, id: u32, reply: Result<Vec<u8>, Failure>) {
        match reply {
            Ok(body) => self.frame(REPLY, id, &body),
            Err(failure) => self.frame(REPLY_ERROR, id, &encode(&failure)),
        };
    }

    pub(crate) fn notify(&self, body: &[u8]) {
        self.frame(NOTIFY, 0, body);
    }

    /// Opens a stream.
    pub(crate) fn open(&self, head: &[u8]) -> u32 {
        let id = self.0.next.fetch_add(2, SeqCst);
        self.0.credit.lock().unwrap().insert(id, INITIAL_CREDIT);
        self.frame(OPEN, id, head);
        id
    }

    /// Sends all of it as credit comes, and finishes.
    pub(crate) fn send(&self, id: u32, bytes: &[u8]) {
        for piece in bytes.chunks(MAX_DATA) {
            let mut credit = self.0.credit.lock().unwrap();
            while credit.get(&id).is_none_or(|left| *left < piece.len() as u64) {
                let (again, late) = self.0.granted.wait_timeout(credit, TIMEOUT).unwrap();
                credit = again;
                assert!(!late.timed_out(), "no credit for stream {id}");
            }
            *credit.get_mut(&id).unwrap() -= piece.len() as u64;
            drop(credit);
            self.frame(DATA, id, piece);
        }
        self.frame(FINISH, id, &[]);
    }

    /// Lets the other side send so much more.
    pub(crate) fn grant(&self, id: u32, bytes: usize) {
        self.frame(CREDIT, id, &u32::try_from(bytes).unwrap().to_be_bytes());
    }

    pub(crate) fn reset(&self, id: u32, reason: &Failure) {
        self.frame(RESET, id, &encode(reason));
    }

    /// Says goodbye and closes.
    pub(crate) fn close(&self, goodbye: &Goodbye) {
        self.frame(GOODBYE, 0, &encode(goodbye));
        let _ = self.0.out.lock().unwrap().shutdown(Shutdown::Both);
    }
}

struct Reader {
    session: Session,
    stream: TcpStream,
    events: SyncSender<Event>,
    /// The highest id that the other side has given, of this half.
    highest: u32,
    parity: u32,
}

impl Reader {
    fn run(&mut self) {
        while let Some((kind, id, payload)) = self.next() {
            match self.take(kind, id, payload) {
                Ok(Some(event)) => {
                    let over = matches!(event, Event::Goodbye(_));
                    if self.events.send(event).is_err() || over {
                        break;
                    }
                }
                Ok(None) => {}
                Err(why) => {
                    self.session.wonder(format!("frame {kind} {id}: {why}"));
                    break;
                }
            }
        }
        let _ = self.stream.shutdown(Shutdown::Both);
        self.session.0.closed.store(true, SeqCst);
        self.session.0.calls.lock().unwrap().clear();
        let _ = self.events.send(Event::Closed);
    }

    fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let mut header = [0; 9];
        self.stream.read_exact(&mut header).ok()?;
        let [kind, i0, i1, i2, i3, l0, l1, l2, l3] = header;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if limit(kind).is_none_or(|limit| length > limit) {
            self.session.wonder(format!("a frame of kind {kind} with {length} bytes"));
            return None;
        }
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).ok()?;
        Some((kind, u32::from_be_bytes([i0, i1, i2, i3]), payload))
    }

    fn take(&mut self, kind: u8, id: u32, payload: Vec<u8>) -> Result<Option<Event>, String> {
        let inner = Arc::clone(&self.session.0);
        Ok(match kind {
            PING => {
                self.session.frame(PONG, 0, &payload);
                inner.pings.fetch_add(1, SeqCst);
                None
            }
            PONG if payload == b"version1" => {
                inner.pongs.fetch_add(1, SeqCst);
                None
            }
            PONG => return Err("a pong that answers no ping".to_owned()),
            REPLY | REPLY_ERROR => {
                let reply = if kind == REPLY { Ok(payload) } else { Err(decode(&payload)?) };
                if let Some(asker) = inner.calls.lock().unwrap().remove(&id) {
                    let _ = asker.send(reply);
                }
                None
            }
            REQUEST => {
                self.given(id)?;
                let (length, rest) = payload.split_first_chunk::<2>().ok_or("no head")?;
                let (head, body) = rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or("no whole head")?;
                let RequestHead { timeout_ms } = decode(head)?;
                Some(Event::Request { id, timeout_ms, body: body.to_vec() })
            }
            OPEN => {
                self.given(id)?;
                inner.credit.lock().unwrap().insert(id, INITIAL_CREDIT);
                Some(Event::Open { id, head: payload })
            }
            CREDIT => {
                let more = u32::from_be_bytes(payload.try_into().map_err(|_| "a short credit")?);
                let mut credit = inner.credit.lock().unwrap();
                *credit.entry(id).or_default() += u64::from(more);
                inner.granted.notify_all();
                None
            }
            CANCEL => Some(Event::Cancel(id)),
            NOTIFY => Some(Event::Notify(payload)),
            DATA => Some(Event::Data { id, bytes: payload }),
            FINISH => Some(Event::Finish(id)),
            RESET => Some(Event::Reset { id, reason: decode(&payload)? }),
            _ => Some(Event::Goodbye(decode(&payload)?)),
        })
    }

    /// New ids are of the other side's half, and rise.
    fn given(&mut self, id: u32) -> Result<(), String> {
        if id % 2 != self.parity || id <= self.highest {
            return Err(format!("an id that was not to be given, behind {}", self.highest));
        }
        self.highest = id;
        Ok(())
    }
}
