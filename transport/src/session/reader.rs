//! The way in: cuts the link's bytes into frames and hands each to whom it belongs.
//!
//! It never waits for a consumer. It waits in one case only: when the peer provokes answers and does not read them.

use super::cell::{Cell, Verdict};
use super::core::{Core, Farewell};
use super::cork::Cork;
use super::framed::Framed;
use super::inbound::{Arrivals, Incoming};
use super::input::{Input, Payload, Portion, Violation};
use super::outbox::Cause;
use super::requests::{Request, Untaken};
use super::traffic;
use crate::Io;
use bytes::Bytes;
use longshore_wire::frame::{Goodbye, Header, Kind, RequestHead};
use longshore_wire::{Code, Failure, decode, encode};
use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::ReadHalf;
use tokio::time::Instant;

/// Frames whose consequences gather before they are written: the first one's wait no longer for the last one's, while the
/// next process could be at work on it. Half of it costs more in system calls than it gains.
pub(super) const GATHER: usize = 32;

/// After so much bulk those who read it have their turn, also while more is at hand: they keep step, what they read is still
/// in the processor's cache, and their credit is on its way before the peer has used up what it has.
const TURN: usize = 256 * 1024;

/// The reader task: ends with the link.
pub(super) async fn run(core: Arc<Core>, mut io: ReadHalf<Box<dyn Io>>, arrivals: Arrivals) {
    let mut input = Input::default();
    let mut sorter = Sorter {
        core: Arc::clone(&core),
        arrivals,
        newest: 0,
        now: Instant::now(),
        clogged: false,
        bulk: 0,
        taken: traffic::Bytes::default(),
    };
    loop {
        let ended = match poll_fn(|cx| input.poll(Pin::new(&mut io), cx, |portion| sorter.work(portion))).await {
            Ok(0) => format!("{} closed the connection without a goodbye", core.label),
            // The same on TLS, where the end of the bytes alone proves nothing.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                format!("{} closed the connection without a goodbye", core.label)
            }
            Err(error) => format!("the connection to {} broke: {error}", core.label),
            Ok(_) => {
                if core.is_flooded() {
                    // Boxed: hardly ever needed, while every session has room for it.
                    Box::pin(core.unflooded()).await;
                }
                if sorter.bulk >= TURN {
                    sorter.bulk = 0;
                    tokio::task::yield_now().await;
                }
                continue;
            }
        };
        if !core.is_closing() {
            core.end(Failure::new(Code::Unavailable, ended), Farewell::Cut);
        }
        return;
    }
}

impl Core {
    fn is_flooded(&self) -> bool {
        let outbox = self.outbox();
        outbox.is_flooded() && !outbox.is_closed()
    }

    /// Waits while the peer provokes more than it reads.
    async fn unflooded(&self) {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            if !self.is_flooded() {
                return;
            }
            room.await;
        }
    }
}

/// Knows to whom a frame belongs.
struct Sorter {
    core: Arc<Core>,
    arrivals: Arrivals,
    /// The latest id that the peer has introduced.
    newest: u32,
    /// When the bytes at hand arrived.
    now: Instant,
    /// Whether too many replies waited when the frames at hand began to gather.
    clogged: bool,
    /// Bulk that has come since those who read it had a turn.
    bulk: usize,
    /// What has come and is not counted yet.
    taken: traffic::Bytes,
}

impl Sorter {
    /// Hands on all whole frames; what they cause is written when all are. After the end of the session bytes are dropped:
    /// the peer's goodbye to ours is the end of its stream.
    fn work(&mut self, portion: &mut Portion<'_>) {
        self.sort(portion);
        self.core.options.traffic.received(std::mem::take(&mut self.taken));
    }

    fn sort(&mut self, portion: &mut Portion<'_>) {
        self.now = self.core.clock.heard();
        let cork = Cork::hold(self.now);
        let mut gathered = 0;
        self.clogged = self.core.outbox().is_clogged();
        while !self.core.is_closing() {
            if gathered == GATHER {
                cork.iter().for_each(Cork::let_through);
                self.clogged = self.core.outbox().is_clogged();
                gathered = 0;
            }
            gathered += 1;
            match portion.next(|header, payload| self.take(header, payload)) {
                Ok(true) => {}
                Ok(false) => return,
                Err(what) => self.core.violated(&what),
            }
        }
        portion.clear();
    }

    fn take(&mut self, Header { kind, id, .. }: Header, payload: Payload<'_>) -> Result<(), Violation> {
        self.taken.count(kind, payload.len());
        match kind {
            Kind::Ping => self.core.send(Cause::Reflex, Kind::Pong, 0, payload.into_bytes()),
            Kind::Pong => self.core.pong(&payload, self.now),
            Kind::Request => return self.request(id, payload),
            Kind::Reply | Kind::ReplyError => return self.answer(kind, id, payload),
            Kind::Cancel => {
                self.known(id)?;
                self.core.served.cancel(id);
            }
            Kind::Notify => self.arrivals.notify(payload.into_bytes()),
            Kind::Open => return self.open(id, payload.into_bytes()),
            Kind::Data | Kind::Credit | Kind::Finish | Kind::Reset => return self.stream(kind, id, payload),
            Kind::Goodbye => {
                let goodbye: Goodbye = message(&payload)?;
                self.core.end_with(goodbye.into(), Farewell::Cut);
            }
        }
        Ok(())
    }

    fn answer(&self, kind: Kind, id: u32, payload: Payload<'_>) -> Result<(), Violation> {
        let found = match kind {
            Kind::Reply => self.core.calls.answered(id, payload),
            _ => self.core.calls.failed(id, message(&payload)?),
        };
        // It may have been given up while its answer was under way.
        if found { Ok(()) } else { self.known(id) }
    }

    fn request(&mut self, id: u32, payload: Payload<'_>) -> Result<(), Violation> {
        self.introduce(id)?;
        let (head, body) = split_request(payload)?;
        let body = body.into_bytes();
        let deadline = self.now + Duration::from_millis(head.timeout_ms.into());
        if self.clogged {
            self.refuse(id, &Failure::new(Code::Busy, "too many replies wait to be sent; ask again later"));
            return Ok(());
        }
        let limit = self.core.options.max_requests;
        match self.arrivals.place(body.len()) {
            Err(why) => self.refuse(id, &why),
            Ok(place) => match self.core.served.insert(id, limit) {
                Ok(()) => place.put(Incoming::Request(Request::new(&self.core, id, body, deadline))),
                Err(Untaken::Reused) => return Err(format!("request id {id} is in use").into()),
                Err(Untaken::Full) => {
                    let message = format!("{limit} requests are in work; ask again later");
                    self.refuse(id, &Failure::new(Code::Busy, message));
                }
            },
        }
        Ok(())
    }

    fn refuse(&self, id: u32, why: &Failure) {
        self.core.send(Cause::Reflex, Kind::ReplyError, id, encode(why).into());
    }

    fn open(&mut self, id: u32, head: Bytes) -> Result<(), Violation> {
        if self.core.bundle.is_some() {
            return Err("a stream on the control lane".into());
        }
        self.introduce(id)?;
        let limit = self.core.options.max_streams;
        let why = match self.arrivals.place(head.len()) {
            Err(why) => why,
            Ok(place) => match self.core.streams.open(id, limit) {
                Some(cell) => {
                    place.put(Incoming::Open { head, stream: Framed::new(&self.core, cell).into() });
                    return Ok(());
                }
                None => Failure::new(Code::Busy, format!("{limit} streams are open; close some first")),
            },
        };
        self.core.send_reset(Cause::Reflex, id, &why);
        Ok(())
    }

    fn stream(&mut self, kind: Kind, id: u32, payload: Payload<'_>) -> Result<(), Violation> {
        if let Some(bundle) = &self.core.bundle {
            if kind != Kind::Reset {
                return Err("a stream on the control lane".into());
            }
            bundle.reset(id, message(&payload)?);
            return Ok(());
        }
        let Some(cell) = self.core.streams.get(id) else {
            // It may have ended here while the frame was under way.
            return self.known(id);
        };
        match kind {
            Kind::Data => match self.bulk(&cell, payload.into_bytes()) {
                Verdict::Ok => {}
                Verdict::Violation(what) => return Err(what.into()),
                Verdict::Unwanted => {
                    cell.close();
                    self.core.streams.remove(id);
                    let why = Failure::new(Code::Unavailable, "nobody reads this stream any longer");
                    self.core.send_reset(Cause::Reflex, id, &why);
                }
            },
            Kind::Credit => {
                let bytes = <[u8; 4]>::try_from(&payload[..]).map_err(|_| "credit without a number")?;
                cell.grant(u32::from_be_bytes(bytes))?;
            }
            Kind::Finish => {
                if cell.finish()? {
                    self.core.streams.remove(id);
                }
            }
            _ => {
                cell.reset(message(&payload)?);
                self.core.streams.remove(id);
            }
        }
        Ok(())
    }

    fn bulk(&mut self, cell: &Cell, bytes: Bytes) -> Verdict {
        self.bulk += bytes.len();
        cell.accept(bytes)
    }

    /// Whether `id` is of the peer's half.
    fn is_theirs(&self, id: u32) -> bool {
        id % 2 == u32::from(!self.core.dialled)
    }

    /// A new request or stream of the peer: its ids rise.
    fn introduce(&mut self, id: u32) -> Result<(), Violation> {
        if id == 0 || !self.is_theirs(id) {
            return Err(format!("id {id} is not the peer's to give").into());
        }
        if !is_newer(id, self.newest) {
            return Err(format!("id {id} is used again").into());
        }
        self.newest = id;
        Ok(())
    }

    /// Whatever a frame refers to must have existed.
    fn known(&self, id: u32) -> Result<(), Violation> {
        let known = match self.is_theirs(id) {
            true => id != 0 && !is_newer(id, self.newest),
            false => self.core.outbox().was_given(id),
        };
        if known { Ok(()) } else { Err(format!("nothing ever had the id {id}").into()) }
    }
}

/// Serial number arithmetic (RFC 1982): ids start anew after 2³¹ of them.
fn is_newer(id: u32, than: u32) -> bool {
    matches!(id.wrapping_sub(than), 1..=0x7fff_ffff)
}

fn message<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, Violation> {
    decode(payload).map_err(|error| error.to_string().into())
}

/// Parts a request's head from its body.
fn split_request(payload: Payload<'_>) -> Result<(RequestHead, Payload<'_>), Violation> {
    const SHORT: Violation = Cow::Borrowed("a request without head");
    let length = usize::from(u16::from_be_bytes(*payload.first_chunk().ok_or(SHORT)?));
    let head = payload.get(2..2 + length).ok_or(SHORT)?;
    let head = RequestHead::decode(head).map_err(|error| error.to_string())?;
    Ok((head, payload.after(2 + length)))
}
